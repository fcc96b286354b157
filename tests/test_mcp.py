"""The tools of the Model Context Protocol, by the protocol's own client, against `Searcher` itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import CORPUS, Run
from jsonschema import Draft202012Validator
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult
from serving import Server, as_json, assert_same, dicts, serving

from semsearch import Document, Indexer, Searcher

HTTP = ("mcp", "--http")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory, sample_index: Path) -> Path:
    folder = tmp_path_factory.mktemp("offered")
    shutil.copytree(sample_index, folder / "sample")
    return folder


@pytest.fixture(scope="module")
def searcher(indexes: Path) -> Iterator[Searcher]:
    with Searcher(indexes / "sample") as opened:
        yield opened


def command(indexes: Path, *options: str) -> list[str]:
    return ["-m", "semsearch", "mcp", "--indexes", str(indexes), *options]


@asynccontextmanager
async def over_stdio(indexes: Path, *options: str, mode: str = "auto") -> AsyncIterator[Client]:
    started = StdioServerParameters(command=sys.executable, args=command(indexes, *options), env=dict(os.environ))
    async with asyncio.timeout(60), Client(stdio_client(started), mode=mode) as client:
        yield client


@asynccontextmanager
async def over_http(server: Server, key: str | None = None, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        asyncio.timeout(60),
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def said(result: CallToolResult) -> str:
    (content,) = result.content
    return content.text  # type: ignore[union-attr]


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured result, which is the text, too, and what the tool's output schema says."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, said(result)
    assert json.loads(said(result)) == result.structured_content
    (schema,) = (one.output_schema for one in (await client.list_tools()).tools if one.name == tool)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(result.structured_content)
    return result.structured_content


async def check_answers(client: Client, searcher: Searcher) -> None:
    for arguments in (
        {"query": "how to repair a leaky faucet"},
        {"query": "Tap", "k": 3, "mode": "lexical"},
        {"query": "water", "mode": "dense", "filter": "path:home/ and type:md", "per_document": 2},
    ):
        found = await answer(client, "search", **arguments)
        assert_same(found["hits"], dicts(searcher.search(**arguments)))
        assert found["hits"]
        assert (found["query"], found["index"]) == (arguments["query"], "sample")
        cited = [hit for hit in found["hits"] if hit["path"].endswith(".md")]
        assert cited
        for hit in cited:  # what is cited is what stands there
            text = (CORPUS / hit["path"]).read_text(encoding="utf-8")
            assert text[hit["char_start"] : hit["char_end"]] == hit["text"]
    hit = searcher.search("dripping tap", 1)[0]
    for target in (hit.id, str(hit.id), hit.path, f"{hit.path}:{hit.line_start}"):
        assert_same(
            (await answer(client, "similar", target=target, k=4))["hits"], dicts(searcher.similar(str(target), 4))
        )
        shown = (await answer(client, "show", target=target, context=2, index="sample"))["document"]
        assert shown == as_json(dataclasses.asdict(searcher.excerpt(target, 2)))
        assert shown["text"] == hit.text
    (told,) = (await answer(client, "list_indexes"))["indexes"]
    assert (told["name"], told["passages"], told["error"]) == ("sample", 255, None)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_answers_over_stdio_are_those_of_a_searcher(indexes: Path, searcher: Searcher, mode: str) -> None:
    async def talk() -> None:
        async with over_stdio(indexes, mode=mode) as client:
            await check_answers(client, searcher)

    asyncio.run(talk())


def test_answers_over_http_are_those_of_a_searcher(indexes: Path, searcher: Searcher) -> None:
    async def talk(server: Server) -> None:
        for mode in ("auto", "legacy"):
            async with over_http(server, mode=mode) as client:
                await check_answers(client, searcher)

    with serving(indexes, command=HTTP) as server:
        asyncio.run(talk(server))
        assert server.stop() == 0


def test_tools_say_what_they_are_for(indexes: Path) -> None:
    async def talk() -> None:
        async with over_stdio(indexes) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert list(tools) == ["search", "show", "similar", "list_indexes"]
            for tool in tools.values():
                assert tool.annotations
                assert tool.annotations.read_only_hint
                assert tool.annotations.destructive_hint is False
                assert tool.annotations.open_world_hint is False
                assert len(tool.description or "") > 80
                for argument in tool.input_schema["properties"].values():
                    assert argument["description"]
            properties = tools["search"].input_schema["properties"]
            assert tools["search"].input_schema["required"] == ["query"]
            assert set(properties) == {"query", "k", "mode", "filter", "per_document", "index"}
            assert (properties["k"]["minimum"], properties["k"]["maximum"]) == (1, 100)
            assert "path:docs/ and type:md" in properties["filter"]["description"]

    asyncio.run(talk())


def test_what_is_wrong_is_said(indexes: Path, searcher: Searcher) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("search", {"query": " "}, "the query is empty: ' '; say what to look for"),
        ("search", {}, "query: Field required"),
        ("search", {"query": "a", "index": "none"}, "no index 'none' is served; there are: sample"),
        ("search", {"query": "a", "index": "../sample"}, "no index '../sample' is served"),
        ("search", {"query": "a", "filter": "year>="}, "the filter 'year>=' ends where a value is expected"),
        ("search", {"query": "a", "k": 101}, "k: Input should be less than or equal to 100, got 101"),
        ("search", {"query": "a", "k": 0}, "k: Input should be greater than or equal to 1, got 0"),
        ("search", {"query": "a" * 4097}, "at most 4096 characters"),
        ("search", {"query": "a", "mode": "best"}, "'hybrid', 'dense' or 'lexical', got 'best'"),
        ("search", {"query": "a", "model": "/tmp/model"}, "model: Extra inputs are not permitted"),
        ("show", {"target": 10**9}, "the index 'sample' has nothing at '1000000000'; give a hit's id"),
        ("show", {"target": "nowhere.md:3"}, "has nothing at 'nowhere.md:3'"),
        # A path as it opens from some folder is none of an index.
        ("show", {"target": str(CORPUS / "home" / "dripping-tap.md")}, "has nothing at"),
        ("show", {"target": 1, "context": 51}, "context: Input should be less than or equal to 50"),
        ("similar", {"target": 10**9}, "has nothing at '1000000000'"),
        ("fetch", {}, "there is no tool 'fetch'; there are: search, show, similar, list_indexes"),
    ]

    async def talk() -> None:
        async with over_stdio(indexes) as client:
            for tool, arguments, message in cases:
                result = await client.call_tool(tool, arguments)
                assert (result.is_error, message in said(result)) == (True, True), (tool, arguments, result)
                assert "Traceback" not in said(result)
            # It goes on.
            assert_same((await answer(client, "search", query="tap"))["hits"], dicts(searcher.search("tap")))

    asyncio.run(talk())


def test_several_indexes_are_told_apart_and_a_commit_is_followed(indexes: Path, tmp_path: Path) -> None:
    shutil.copytree(indexes / "sample", tmp_path / "sample")
    notes = tmp_path / "notes"
    Indexer(notes).update([Document("a", "the well is dry", "A")])

    async def talk() -> None:
        async with over_stdio(tmp_path) as client:
            result = await client.call_tool("search", {"query": "flood"})
            assert result.is_error
            assert "several indexes are served: notes, sample; name one as `index`" in said(result)
            assert [hit["path"] for hit in (await answer(client, "search", query="flood", index="notes"))["hits"]] == [
                "a"
            ]
            Indexer(notes).update([Document("b", "a flood came over the bridge", "B")])
            assert (await answer(client, "search", query="flood", index="notes"))["hits"][0]["path"] == "b"
            # What comes later is served, too, and one that is broken says so without naming folders.
            shutil.copytree(notes, tmp_path / "later")
            assert (await answer(client, "search", query="flood", index="later"))["hits"][0]["path"] == "b"
            shutil.copytree(notes, tmp_path / "broken")
            (tmp_path / "broken" / "index.db").write_bytes(b"x" * 5000)
            result = await client.call_tool("search", {"query": "flood", "index": "broken"})
            assert (result.is_error, "semsearch verify" in said(result)) == (True, True)
            told = await answer(client, "list_indexes")
            assert [bool(one["error"]) for one in told["indexes"]] == [True, False, False, False]
            assert str(tmp_path) not in said(result) + json.dumps(told)
        async with over_stdio(tmp_path, "--index", "notes") as client:
            assert (await answer(client, "search", query="flood"))["index"] == "notes"
            assert (await client.call_tool("search", {"query": "flood", "index": "sample"})).is_error

    asyncio.run(talk())


def test_names_that_are_no_text_come_through(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "caf\udce9.txt").write_text("a name that is no UTF-8, of a plain text")
    Indexer(tmp_path / "indexes" / "odd").update(source)

    async def talk() -> None:
        async with over_stdio(tmp_path / "indexes") as client:
            (hit,) = (await answer(client, "search", query="plain"))["hits"]
            assert hit["path"] == "caf\ufffd.txt"
            assert (await answer(client, "show", target=hit["id"]))["document"]["text"] == hit["text"]

    asyncio.run(talk())


def test_a_key_and_the_right_host_and_origin_come_first(indexes: Path) -> None:
    async def talk(server: Server) -> None:
        async with over_http(server, "s3cret") as client:
            assert (await answer(client, "search", query="tap"))["hits"]

    with serving(indexes, command=HTTP, key="s3cret") as server:
        asyncio.run(talk(server))
        key = {"Authorization": "Bearer s3cret"}
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({**key, "Host": "elsewhere.test"}, 421),
            ({**key, "Origin": "https://elsewhere.test"}, 403),
            ({**key, "Sec-Fetch-Site": "cross-site"}, 403),
            (key, 200),
        ):
            answered = server.post("/mcp", INITIALIZE, **ACCEPT, **headers)
            assert answered.status_code == status, (headers, answered.text)
        assert server.post("/mcp", {"pad": "x" * (4 << 20)}, **ACCEPT, **key).status_code == 413
        for method in ("GET", "DELETE"):  # there are no sessions
            answered = server.client.request(method, "/mcp", headers={**ACCEPT, **key})
            assert (answered.status_code, answered.headers["allow"]) == (405, "POST")
        assert "s3cret" not in server.log
    with serving(indexes, "--allow-origin", "https://example.org", command=HTTP) as server:
        assert server.post("/mcp", INITIALIZE, **ACCEPT, Origin="https://example.org").status_code == 200
        assert server.post("/mcp", INITIALIZE, **ACCEPT, Origin="https://example.com").status_code == 403


@contextmanager
def process(indexes: Path) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *command(indexes)], stdin=pipe, stdout=pipe, stderr=pipe) as started:
        # So that reading from it comes to an end whatever it does.
        late = threading.Timer(60, started.kill)
        late.start()
        try:
            yield started
        finally:
            late.cancel()
            started.kill()


def lines(*messages: object) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def search(number: int) -> dict[str, Any]:
    arguments = {"query": "tap", "k": 1}
    call = {"name": "search", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}


INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def test_nothing_but_the_protocol_is_on_stdout_and_the_end_of_stdin_ends_it(indexes: Path) -> None:
    with process(indexes) as started:
        assert started.stdin
        assert started.stdout
        started.stdin.write(b"no JSON\n\xff\n{}\n" + lines(INITIALIZE, INITIALIZED, *map(search, range(2, 8))))
        started.stdin.flush()
        answers = [json.loads(started.stdout.readline()) for _ in range(7)]
        rest, err = started.communicate(timeout=60)
    assert sorted(one["id"] for one in answers) == [1, 2, 3, 4, 5, 6, 7]
    assert all(one["jsonrpc"] == "2.0" and "result" in one for one in answers)
    assert (started.returncode, rest, err) == (0, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(indexes: Path, number: int) -> None:
    with process(indexes) as started:
        assert started.stdin
        assert started.stdout
        started.stdin.write(lines(INITIALIZE))
        started.stdin.flush()
        assert b"serverInfo" in started.stdout.readline()
        started.send_signal(number)
        assert started.wait(timeout=30) == 0
        assert started.stderr
        assert started.stderr.read() == b""


def test_a_client_that_has_gone_is_no_error(indexes: Path) -> None:
    with process(indexes) as started:
        assert started.stdin
        assert started.stdout
        started.stdin.write(lines(INITIALIZE, INITIALIZED))
        started.stdin.flush()
        started.stdout.readline()
        started.stdout.close()
        started.stdin.write(lines(search(2)))
        started.stdin.close()
        assert started.wait(timeout=30) == 0
        assert started.stderr
        assert started.stderr.read() == b""


def test_the_handshake_waits_for_no_model(indexes: Path, tmp_path: Path) -> None:
    async def talk() -> None:
        async with over_stdio(indexes, "--model", str(tmp_path / "gone")) as client:
            assert len((await client.list_tools()).tools) == 4
            result = await client.call_tool("search", {"query": "tap"})
            assert (result.is_error, "the index or its model cannot be used" in said(result)) == (True, True)

    asyncio.run(talk())


def test_starting_it(run: Run, indexes: Path) -> None:
    for options, code, message in (
        (["--http", "--host", "0.0.0.0"], 2, "give a key that they must bring"),
        (["--index", "none"], 3, "no index 'none'"),
        (["--port", "80"], 2, "--port is of the server that --http starts; give --http, too"),
    ):
        done = run("mcp", "--indexes", indexes, *options)
        assert (done.returncode, message in done.stderr, done.stdout) == (code, True, ""), done.stderr


def test_it_does_without_what_the_other_server_needs(tmp_path: Path) -> None:
    code = (
        "import sys, semsearch.cli\n"
        "sys.modules |= dict.fromkeys(['fastapi', 'fastapi_offline', 'prometheus_client'])\n"
        "sys.argv = ['semsearch', 'mcp', '--http', '--index', 'none']\n"
        "semsearch.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, "no index 'none'" in done.stderr) == (3, True), done.stderr


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys, semsearch.cli\nsys.modules['mcp'] = None\nsys.argv = ['semsearch', 'mcp']\nsemsearch.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert "install it: pip install 'semsearch[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr
