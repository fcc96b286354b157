"""The indexes as tools of the Model Context Protocol, for agents: over stdio, or streamable HTTP behind the guard."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from semsearch import __version__
from semsearch.errors import IndexNotFoundError, InvalidInputError, SemsearchError
from semsearch.server import limits
from semsearch.server.guard import LOOPBACK, Guard, Refused, refuse
from semsearch.server.schemas import DocumentAnswer, Mode, SearchAnswer, ServedIndex, ServedIndexes, SimilarAnswer
from semsearch.server.searching import BusyError
from semsearch.server.service import Service

PATH = "/mcp"
_logger = logging.getLogger(__name__)
_INSTRUCTIONS = (
    "Semantic search over documents that were indexed on this machine. Use `search` to find passages by what they "
    "mean, `show` to read on around one, `similar` for more like one. Cite a hit as path:line_start-line_end, or by "
    "its place (page, slide, sheet) where it has one, and quote its text, which is exact."
)
_READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_SURROGATES = re.compile("[\ud800-\udfff]")

_Index = Annotated[
    str | None,
    Field(None, max_length=255, description="Name of the index, as list_indexes has it; needed if there are several."),
]
_K = Annotated[int, Field(10, ge=1, le=limits.K, description="How many hits at most.")]
_Filter = Annotated[
    str | None,
    Field(
        None,
        max_length=limits.FILTER_CHARACTERS,
        description=(
            "Look only at documents for which this holds, such as `path:docs/ and type:md`, `path:*.py`, "
            '`modified>=2026-01-01`, `author:"Jane Doe" or not tags:draft`. Fields are path (a glob; a folder ends in '
            "/), type (the file's suffix), modified, and the documents' own metadata; operators : = != < <= > >=, and "
            "`and`, `or`, `not`, ( )."
        ),
    ),
]
_Target = Annotated[
    str,
    # A hit's id is a number, and may be given as one.
    StringConstraints(max_length=limits.TARGET_CHARACTERS),
    Field(description="A hit's id, or PATH or PATH:LINE with a hit's path, such as `notes/tap.md:12`."),
]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


class _SearchArguments(_Arguments):
    query: str = Field(
        max_length=limits.QUERY_CHARACTERS,
        description=(
            "What to look for: a question or a statement in plain words works best. Words in double quotes must stand "
            "in a passage just so."
        ),
    )
    k: _K
    mode: Mode = Field(
        "hybrid",
        description="hybrid, nearly always best: by meaning and words; dense: by meaning alone; lexical: by words.",
    )
    filter: _Filter
    per_document: int = Field(1, ge=1, le=limits.K, description="How many passages of one document at most.")
    index: _Index


class _ShowArguments(_Arguments):
    target: _Target
    context: int = Field(3, ge=0, le=limits.CONTEXT, description="How many passages before and after it.")
    index: _Index


class _SimilarArguments(_Arguments):
    target: _Target
    k: _K
    filter: _Filter
    index: _Index


class _NoArguments(_Arguments):
    pass


def _search(service: Service, asked: Any) -> dict[str, Any]:
    searcher = service.searcher(asked.index)
    started = time.monotonic()
    hits = searcher.search(asked.query, asked.k, mode=asked.mode, filter=asked.filter, per_document=asked.per_document)
    took_ms = round((time.monotonic() - started) * 1000)
    about = {"query": asked.query, "index": searcher.name, "model": searcher.model, "took_ms": took_ms}
    return {**about, "hits": [dataclasses.asdict(hit) for hit in hits]}


def _show(service: Service, asked: Any) -> dict[str, Any]:
    searcher = service.searcher(asked.index)
    return {"index": searcher.name, "document": dataclasses.asdict(searcher.excerpt(asked.target, asked.context))}


def _similar(service: Service, asked: Any) -> dict[str, Any]:
    searcher = service.searcher(asked.index)
    hits = searcher.similar(asked.target, asked.k, filter=asked.filter, from_here=False)
    return {"similar_to": asked.target, "index": searcher.name, "hits": [dataclasses.asdict(hit) for hit in hits]}


def _list_indexes(service: Service, _: Any) -> dict[str, Any]:
    return {"indexes": [ServedIndex.of(one) for one in service.describe()], "can_rerank": service.can_rerank}


@dataclass(frozen=True, slots=True)
class _Tool:
    title: str
    description: str
    arguments: type[_Arguments]
    answer: type[BaseModel]
    work: Callable[[Service, Any], dict[str, Any]]


_TOOLS = {
    "search": _Tool(
        "Search the documents",
        "Find the passages of the indexed documents that answer a query, by meaning as well as by words; the best come "
        "first. Use it before you answer from memory, and instead of grep when you do not know the exact words. A hit "
        "has the path, lines (or page or other place), heading, score and exact text of its passage, `stale` if the "
        "file has changed since, and an id for `show` and `similar`.",
        _SearchArguments,
        SearchAnswer,
        _search,
    ),
    "show": _Tool(
        "Read a passage in its surroundings",
        "Read what stands around a hit, or at a path and line of an indexed document, when its passage alone does not "
        "say enough. `previous` and `next` of the answer are ids to read on from.",
        _ShowArguments,
        DocumentAnswer,
        _show,
    ),
    "similar": _Tool(
        "Find more like this",
        "Find documents near to one that is indexed, or near to one of its passages: related notes, duplicates, other "
        "places that treat the same.",
        _SimilarArguments,
        SimilarAnswer,
        _similar,
    ),
    "list_indexes": _Tool(
        "List the indexes",
        "List the indexes that can be searched, with how many documents each has and when it was last changed. Use it "
        "when `search` says that there are several, or to see whether an index is up to date.",
        _NoArguments,
        ServedIndexes,
        _list_indexes,
    ),
}


def create_server(service: Service) -> Server[Any]:
    """The server that offers the tools, over whatever transport; it closes the service when it ends."""

    @asynccontextmanager
    async def lifespan(_: Server[Any]) -> AsyncIterator[None]:
        yield
        service.close()

    async def list_tools(_: Any, __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(
            tools=[
                Tool(
                    name=name,
                    title=tool.title,
                    description=tool.description,
                    input_schema=tool.arguments.model_json_schema(),
                    output_schema=tool.answer.model_json_schema(mode="serialization"),
                    annotations=_READ_ONLY,
                )
                for name, tool in _TOOLS.items()
            ]
        )

    async def call_tool(_: Any, asked: CallToolRequestParams) -> CallToolResult:
        try:
            return _result(await _answer(service, asked))
        except SemsearchError as error:
            told = _told(error)
        except Exception:
            _logger.exception("the tool %r failed", asked.name)
            told = "a failure of the server itself; what it says on stderr has more"
        return CallToolResult(content=[TextContent(text=_legible(told))], is_error=True)

    return Server(
        "semsearch",
        version=__version__,
        title="semsearch",
        instructions=_INSTRUCTIONS,
        lifespan=lifespan,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _answer(service: Service, asked: CallToolRequestParams) -> dict[str, Any]:
    tool = _TOOLS.get(asked.name)
    if not tool:
        raise InvalidInputError(f"there is no tool {asked.name!r}; there are: {', '.join(_TOOLS)}")
    try:
        arguments = tool.arguments.model_validate(asked.arguments or {})
    except ValidationError as error:
        told = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r:.80}" for one in error.errors())
        raise InvalidInputError("; ".join(told)) from None
    return await service.run(lambda: tool.work(service, arguments))


def _result(answer: dict[str, Any]) -> CallToolResult:
    text = _legible(json.dumps(answer, ensure_ascii=False))
    # As text, too, for clients that know no structured results.
    return CallToolResult(content=[TextContent(text=text)], structured_content=json.loads(text))


def _legible(text: str) -> str:
    """The text without what is no character, which a file's name may have and the protocol cannot carry."""
    return _SURROGATES.sub("\ufffd", text)


def _told(error: SemsearchError) -> str:
    if isinstance(error, InvalidInputError | IndexNotFoundError | BusyError):
        return str(error)
    # It may name folders of this machine.
    _logger.error("%s", error)
    return (
        "the index or its model cannot be used; `semsearch verify NAME`, or what the server says on stderr, tells why"
    )


def serve_stdio(service: Service) -> None:
    """Serve one client by stdin and stdout until stdin ends; SIGTERM and SIGINT end the process at once, with 0."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # A thread waits for stdin, which nothing can wake; and nothing that is under way changes anything.
        signal.signal(number, lambda *_: os._exit(0))
    try:
        asyncio.run(_run_stdio(create_server(service)))
    except* BrokenPipeError:  # the client has gone, and does not wait for its answer
        pass


async def _run_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def create_app(
    service: Service,
    *,
    hosts: Collection[str] = LOOPBACK,
    origins: Collection[str] = (),
    api_key: str | None = None,
) -> ASGIApp:
    """The application that serves the tools at `/mcp`, as JSON answers without sessions.

    Args:
        service: The indexes.
        hosts: As of `Guard`.
        origins: As of `Guard`.
        api_key: As of `Guard`.
    """
    app = create_server(service).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=limits.BODY,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the guard does it
    )

    async def post_alone(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] != "POST":
            # Without sessions there is nothing that a stream of its own could bring, or that could be deleted.
            await refuse(send, Refused(405, "this server takes POST alone", {"allow": "POST"}))
            return
        await app(scope, receive, send)

    return Guard(post_alone, hosts=hosts, origins=origins, api_key=api_key)
