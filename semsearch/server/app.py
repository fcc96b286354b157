"""The application: the routes of the API and what surrounds them."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from semsearch import __version__
from semsearch.errors import (
    IndexNotFoundError,
    InvalidInputError,
    NoSuchPassageError,
    SemsearchError,
    ShardUnavailableError,
)
from semsearch.query.projection import Map
from semsearch.server.embeddings import embeddings, model_names
from semsearch.server.guard import LOOPBACK, Guard, error_body
from semsearch.server.limits import RETRY_SECONDS
from semsearch.server.metrics import Metrics, Observed
from semsearch.server.schemas import (
    DocumentAnswer,
    DocumentParameters,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    ErrorAnswer,
    FacetsAnswer,
    FacetsParameters,
    MakingAnswer,
    MapAnswer,
    MapParameters,
    PlacesAnswer,
    PlacesParameters,
    SearchAnswer,
    SearchAnswers,
    SearchParameters,
    SearchRequest,
    ServedIndex,
    ServedIndexes,
    SimilarAnswer,
    SimilarParameters,
)
from semsearch.server.searching import BusyError, as_dict, encoded
from semsearch.server.service import Service

_logger = logging.getLogger(__name__)
_STATIC = files("semsearch.server") / "static"
_ERRORS = {
    400: "The request cannot be understood.",
    401: "An API key is needed.",
    403: "A page of another site asks.",
    404: "There is no such thing.",
    405: "The path has other methods, which Allow names.",
    408: "The body did not come.",
    409: "The server is not set up for this.",
    413: "The body is too large.",
    414: "The address is too long.",
    421: "The server does not answer for this host.",
    422: "A value cannot be used.",
    431: "The headers are too large.",
    500: "The server's own failure.",
    503: "There is no room, or no machine has a part of the index; Retry-After says when to come again.",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text} for status, text in _ERRORS.items()
}


def create_app(
    service: Service,
    *,
    hosts: Collection[str] = LOOPBACK,
    origins: Collection[str] = (),
    api_key: str | None = None,
) -> ASGIApp:
    """The application that serves these indexes.

    Args:
        service: The indexes.
        hosts: As of `Guard`.
        origins: As of `Guard`.
        api_key: As of `Guard`.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    metrics = Metrics(service)
    app = FastAPI(
        title="semsearch",
        version=__version__,
        description="Semantic search over the indexes of this server.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=_RESPONSES,
    )
    _add_search(app, service, metrics)
    _add_reading(app, service)
    _add_overview(app, service)
    _add_embeddings(app, service, metrics)
    _add_operations(app, service, metrics)
    _add_pages(app)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(SemsearchError, _failed)
    app.add_exception_handler(Exception, _broken)
    paths = frozenset(path for path in app.openapi()["paths"])
    return Observed(Guard(app, hosts=hosts, origins=origins, api_key=api_key), metrics, paths)


def _add_search(app: FastAPI, service: Service, metrics: Metrics) -> None:
    async def search(asked: SearchRequest) -> Response:
        if asked.rerank and not service.can_rerank:
            told = "this server has no reranker; start it with --rerank MODEL, or ask without `rerank`"
            raise HTTPException(409, told)
        if "queries" in asked.model_fields_set:
            return _answer(await service.run(lambda: _several_found(service, metrics, asked)))
        alike = asked.model_copy(update={"query": ""}).model_dump_json()
        return _answer(
            await service.run_together(alike, asked.query, lambda some: _each_found(service, metrics, asked, some))
        )

    @app.get("/api/search", response_model=SearchAnswer, summary="Search by a query")
    async def get_search(asked: Annotated[SearchParameters, Query()]) -> Response:
        return await search(SearchRequest(**asked.model_dump()))

    @app.post("/api/search", response_model=SearchAnswer | SearchAnswers, summary="Search by a query, or several")
    async def post_search(asked: SearchRequest) -> Response:
        return await search(asked)

    @app.get("/api/similar", response_model=SimilarAnswer, summary="Find more like a document or passage")
    async def similar(asked: Annotated[SimilarParameters, Query()]) -> Response:
        def work() -> dict[str, Any]:
            searcher = service.searcher(asked.index)
            with _not_found():
                hits = searcher.similar(
                    asked.target, asked.k, filter=asked.filter, effort=asked.effort, from_here=False
                )
            about = {"similar_to": asked.target, "index": searcher.name, **_without(searcher.missing)}
            return {**about, "hits": [as_dict(hit) for hit in hits]}

        return _json(await service.run(work))


def _found(
    service: Service, metrics: Metrics, asked: SearchRequest, queries: Sequence[str]
) -> tuple[dict[str, Any], list[bytes]]:
    """What is known of a search, and the hits of each query, as JSON."""
    name = service.name_of(asked.index)
    started = time.monotonic()
    options = {
        "k": asked.k,
        "mode": asked.mode,
        "per_document": None if asked.passages else asked.per_document,
        "filter": asked.filter,
        "min_score": asked.min_score,
        "rerank": asked.rerank,
        "rerank_weight": asked.rerank_weight,
        "effort": asked.effort,
    }
    answers = service.search(name, queries, options)
    took_ms = round((time.monotonic() - started) * 1000)
    metrics.queries.labels(asked.mode).inc(len(queries))
    about = {"index": name, "model": answers.model, "took_ms": took_ms, **_without(answers.missing)}
    return about, answers.hits


def _without(missing: tuple[int, ...]) -> dict[str, Any]:
    """What an answer says of the shards that it had to do without."""
    return {"missing_shards": list(missing)} if missing else {}


def _each_found(service: Service, metrics: Metrics, asked: SearchRequest, queries: Sequence[str]) -> list[bytes]:
    """The answers to requests that differ in their query alone."""
    about, found = _found(service, metrics, asked, queries)
    return [_with({"query": query, **about}, "hits", hits) for query, hits in zip(queries, found, strict=True)]


def _several_found(service: Service, metrics: Metrics, asked: SearchRequest) -> bytes:
    """The answer to a request with several queries."""
    about, found = _found(service, metrics, asked, asked.queries)
    pairs = enumerate(zip(asked.queries, found, strict=True), 1)
    each = [_with({"id": str(number), "query": query}, "hits", hits) for number, (query, hits) in pairs]
    return _with(about, "queries", b"[%s]" % b",".join(each))


def _with(fields: dict[str, Any], name: str, value: bytes) -> bytes:
    """Fields as a JSON object, with one more behind them, which is JSON already."""
    return b'%s,"%s":%s}' % (encoded(fields)[:-1], name.encode(), value)


@contextmanager
def _not_found() -> Iterator[None]:
    try:
        yield
    except NoSuchPassageError as error:
        raise HTTPException(404, str(error)) from None


def _add_reading(app: FastAPI, service: Service) -> None:
    @app.get("/api/document", response_model=DocumentAnswer, summary="Read a hit in its surroundings")
    async def document(asked: Annotated[DocumentParameters, Query()]) -> Response:
        def work() -> dict[str, Any]:
            searcher = service.searcher(asked.index)
            with _not_found():
                found = searcher.excerpt(asked.id, asked.context)
            return {"index": searcher.name, "document": dataclasses.asdict(found)}

        return _json(await service.run(work))

    @app.get("/api/indexes", response_model=ServedIndexes, summary="What is served")
    async def indexes() -> Response:
        def work() -> dict[str, Any]:
            return {"indexes": [ServedIndex.of(one) for one in service.describe()], "can_rerank": service.can_rerank}

        return _json(await service.run(work))


def _add_overview(app: FastAPI, service: Service) -> None:
    """What the page shows beside hits."""

    @app.get("/api/facets", response_model=FacetsAnswer, summary="Count documents by folder, type and date")
    async def facets(asked: Annotated[FacetsParameters, Query()]) -> Response:
        def work() -> dict[str, Any]:
            searcher = service.searcher(asked.index)
            found = searcher.facets(asked.filter, folder=asked.folder, type=asked.type, date=asked.date)
            return {"index": searcher.name, **_without(searcher.missing), "facets": dataclasses.asdict(found)}

        return _json(await service.run(work))

    making: dict[int | str, dict[str, Any]] = {202: {"model": MakingAnswer, "description": "It is being made."}}

    @app.get("/api/map", response_model=MapAnswer, responses=making, summary="See an index as a map")
    async def map(asked: Annotated[MapParameters, Query()]) -> Response:
        searcher = await service.run(lambda: service.searcher(asked.index))
        found = await service.map(searcher)
        return _making() if found is None else _json(await service.run(lambda: _as_lists(searcher.name, found)))

    @app.get("/api/map/places", response_model=PlacesAnswer, responses=making, summary="Find passages on the map")
    async def places(asked: Annotated[PlacesParameters, Query()]) -> Response:
        searcher = await service.run(lambda: service.searcher(asked.index))
        if await service.map(searcher) is None:
            return _making()
        found = await service.run(lambda: searcher.places(asked.id))
        rounded = {str(number): [round(x, 4), round(y, 4)] for number, (x, y) in found.items()}
        return _json({"index": searcher.name, "places": rounded})


def _making() -> Response:
    return _json({"status": "making"}, 202, {"retry-after": str(RETRY_SECONDS)})


def _as_lists(name: str, found: Map) -> dict[str, Any]:
    x, y = found.places.T.round(4).astype(float).round(4).tolist()
    return {
        "index": name,
        "generation": found.generation,
        "passages": found.passages,
        "folders": list(found.folders),
        "ids": found.ids.tolist(),
        "x": x,
        "y": y,
        "folder": found.folder_of.tolist(),
    }


def _add_embeddings(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.post("/v1/embeddings", response_model=EmbeddingsAnswer, summary="Embed texts, as OpenAI's API does")
    async def embed(asked: EmbeddingsRequest) -> Response:
        answer = await service.run(lambda: embeddings(service, asked))
        metrics.embedded.inc(len(answer["data"]))
        return _json(answer)

    @app.get("/v1/models", summary="The models of the indexes, as OpenAI's API lists them")
    async def models() -> Response:
        names = await service.run(lambda: model_names(service))
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "semsearch"} for name in names]
        return _json({"object": "list", "data": listed})


def _add_operations(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Whether the server is alive")
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz", summary="Whether every index can be searched")
    async def readyz() -> Response:
        def work() -> None:
            for name in service.names():
                service.search(name, ["ready"], {"k": 1})  # which follows what was committed

        if not service.names():
            raise BusyError("no index is served yet")
        try:
            await service.run(work)
        except SemsearchError as error:
            _logger.warning("not ready: %s", error)
            raise BusyError("an index cannot be searched; the server's log says why") from None
        return _json({"status": "ready"})

    @app.get("/metrics", summary="Measurements for Prometheus", response_class=Response)
    async def measured() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(app: FastAPI) -> None:
    # Of fastapi-offline only what Swagger UI consists of, so that the page is whole without the internet.
    swagger = str(files("fastapi_offline") / "static")
    app.mount("/static/swagger", StaticFiles(directory=swagger), "swagger")
    app.mount("/static", StaticFiles(directory=str(_STATIC)), "static")

    for path, name in (("/", "index.html"), ("/docs", "docs.html")):
        _add_page(app, path, (_STATIC / name).read_text(encoding="utf-8"))


def _add_page(app: FastAPI, path: str, content: str) -> None:
    @app.get(path, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(content)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return _answer(encoded(value), status, headers)


def _answer(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return _json(error_body("the body is no JSON", "invalid_request_error"), 400)
    told = "; ".join(f"{'.'.join(map(str, one['loc'][1:])) or 'the body'}: {one['msg']}" for one in error.errors()[:5])
    return _json(error_body(told, "invalid_request_error"), 422)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        # Of several routes of one path Starlette names the first one's methods alone.
        routes = [route for route in request.app.routes if getattr(route, "path", "") == request.url.path]
        headers["allow"] = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    return _json(error_body(str(error.detail), "invalid_request_error"), error.status_code, headers)


async def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, BusyError | ShardUnavailableError):
        return _json(error_body(str(error), "overloaded_error"), 503, {"retry-after": str(RETRY_SECONDS)})
    if isinstance(error, IndexNotFoundError):
        return _json(error_body(str(error), "not_found_error"), 404)
    if isinstance(error, InvalidInputError):
        return _json(error_body(str(error), "invalid_request_error"), 400)
    # It may name folders of this machine.
    _logger.error("%s", error)
    return _json(error_body("the index or its model cannot be used; the server's log says why", "server_error"), 500)


async def _broken(_: Request, error: Exception) -> Response:
    return _json(error_body("a failure of the server itself; its log has more", "server_error"), 500)
