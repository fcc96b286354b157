"""The HTTP API against `Searcher` itself, and against clients of others."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import CORPUS, Run
from serving import Server, as_json, assert_same, dicts, query, serving

from semsearch import Document, Encoder, Indexer, Searcher


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory, sample_index: Path) -> Path:
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(sample_index, folder / "sample")
    return folder


@pytest.fixture(scope="module")
def server(indexes: Path) -> Iterator[Server]:
    with serving(indexes) as running:
        yield running


@pytest.fixture(scope="module")
def searcher(indexes: Path) -> Iterator[Searcher]:
    with Searcher(indexes / "sample") as opened:
        yield opened


QUERIES = [
    "how to repair a leaky faucet",
    "Tap",
    "remedies for allergies",
    '"older tap"',
    "a\u0301 \U0001f30a <b>&amp;",
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"k": 3, "mode": "dense"},
    {"mode": "lexical", "k": 1},
    {"filter": "path:home/ or type:txt", "per_document": 3},
    {"passages": True, "k": 20, "min_score": 0.2},
    {"effort": 2.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_answers_are_those_of_a_searcher(server: Server, searcher: Searcher, options: dict[str, Any]) -> None:
    own = {**options, "per_document": None if options.get("passages") else options.get("per_document", 1)}
    own.pop("passages", None)
    for text in QUERIES:
        expected = dicts(searcher.search(text, **own))
        posted = server.post("/api/search", {"query": text, **options})
        got = server.get("/api/search", query=text, **options)
        assert posted.status_code == got.status_code == 200, posted.text
        assert posted.json().keys() == {"query", "index", "model", "took_ms", "hits"}
        assert_same(posted.json()["hits"], expected)
        assert_same(got.json()["hits"], expected)
    several = server.post("/api/search", {"queries": QUERIES, "index": "sample", **options}).json()
    assert [one["query"] for one in several["queries"]] == QUERIES
    for one, text in zip(several["queries"], QUERIES, strict=True):
        assert_same(one["hits"], dicts(searcher.search(text, **own)))


def test_what_many_ask_at_once_is_answered_to_each(server: Server, searcher: Searcher) -> None:
    queries = [f"{text} number {number}" for number in range(12) for text in QUERIES]
    answers: dict[str, Any] = {}

    def ask(some: list[str]) -> None:
        for number, text in enumerate(some):
            options = OPTIONS[number % 3]
            if number % 5 == 0:  # beside one that is refused
                assert server.get("/api/search", query=text, filter="path:", **options).status_code == 400
            answers[text] = server.get("/api/search", query=text, **options).json()["hits"], options

    threads = [threading.Thread(target=ask, args=(queries[number::20],)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.keys() == set(queries)
    for text, (hits, options) in answers.items():
        assert_same(hits, dicts(searcher.search(text, **options)))


def test_more_like_this_and_reading_on(server: Server, searcher: Searcher) -> None:
    hit = searcher.search("dripping tap", 1)[0]
    for target in (str(hit.id), hit.path, f"{hit.path}:{hit.line_start}"):
        answer = server.get("/api/similar", target=target, k=4).json()
        assert_same(answer["hits"], dicts(searcher.similar(target, 4)))
        assert answer["similar_to"] == target
    # A path as it opens from some folder is none of an index.
    assert server.get("/api/similar", target=str(CORPUS / hit.path)).status_code == 404
    found = server.get("/api/document", id=hit.id, context=1).json()["document"]
    assert found == as_json(dataclasses.asdict(searcher.excerpt(hit.id, 1)))
    assert found["text"] == hit.text
    # From the first passage on, piece by piece, it is the document.
    first = server.get("/api/similar", target=hit.path).json()
    assert first["hits"]
    at = server.get("/api/document", id=hit.id, context=50).json()["document"]
    whole = at["before"] + at["text"] + at["after"]
    number: int | None = hit.id
    while (before := server.get("/api/document", id=number, context=0).json()["document"]["previous"]) is not None:
        number = before
    pieces = []
    while number is not None:
        piece = server.get("/api/document", id=number, context=0).json()["document"]
        pieces.append(piece["text"])
        number = piece["next"]
    assert len(pieces) > 1
    assert "".join("".join(pieces).split()) == "".join(whole.split())


def test_what_is_wrong_is_said(server: Server) -> None:
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({}, 422, "give either `query` or `queries`"),
        ({"query": "a", "queries": ["b"]}, 422, "give either `query` or `queries`"),
        ({"query": " \n"}, 422, "query: String should match"),
        ({"query": "a", "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ({"query": "a", "k": 101}, 422, "less than or equal to 100"),
        ({"query": "a" * 4097}, 422, "at most 4096 characters"),
        ({"queries": ["a"] * 65}, 422, "at most 64 items"),
        ({"query": "a", "mode": "best"}, 422, "'hybrid', 'dense' or 'lexical'"),
        ({"query": "a", "model": "/tmp/model"}, 422, "Extra inputs are not permitted"),
        ({"query": "a", "filter": "year>="}, 400, "the filter 'year>=' ends where a value is expected"),
        ({"query": "a", "index": "../sample"}, 404, "no index '../sample' is served; there are: sample"),
        ({"query": "a", "rerank": True}, 409, "this server has no reranker; start it with --rerank MODEL"),
    ]
    for body, status, message in cases:
        answer = server.post("/api/search", body)
        assert (answer.status_code, message in answer.json()["error"]["message"]) == (status, True), answer.text
    assert server.get("/api/document", id=10**9).status_code == 404
    assert server.get("/nowhere").status_code == 404
    assert server.client.put("/api/search").headers["allow"] == "GET, POST"


def test_several_indexes_are_told_apart(indexes: Path, tmp_path: Path) -> None:
    both = tmp_path / "indexes"
    shutil.copytree(indexes / "sample", both / "one")
    with serving(both) as server:
        assert server.get("/api/search", query="tap").status_code == 200
        # What comes later is served, too.
        shutil.copytree(indexes / "sample", both / "two")
        answer = server.get("/api/search", query="tap")
        assert answer.status_code == 400
        assert "several indexes are served: one, two; name one" in answer.json()["error"]["message"]
        assert server.get("/api/search", query="tap", index="two").json()["index"] == "two"
        told = server.get("/api/indexes").json()["indexes"]
        assert [(one["name"], one["passages"]) for one in told] == [("one", 255), ("two", 255)]
        assert str(tmp_path) not in json.dumps(told)
        (both / "two" / "index.db").write_bytes(b"x" * 5000)
        told = server.get("/api/indexes").json()["indexes"]
        assert [bool(one["error"]) for one in told] == [False, True]
        assert server.get("/readyz").status_code == 503
    with serving(both) as server:  # the other is served nevertheless
        assert "warning: " in server.log
        assert server.get("/api/search", query="tap", index="one").status_code == 200
        assert server.get("/api/search", query="tap", index="two").status_code == 500
    with serving(both, "--index", "one") as server:
        assert server.get("/api/search", query="tap", index="two").status_code == 404
        assert server.get("/api/search", query="tap").json()["index"] == "one"


def test_a_commit_is_served_without_a_restart(tmp_path: Path) -> None:
    index = tmp_path / "notes"
    Indexer(index).update([Document("a", "the well is dry", "A")])
    with serving(tmp_path) as server:
        assert [hit["path"] for hit in server.get("/api/search", query="flood").json()["hits"]] == ["a"]
        Indexer(index).update([Document("b", "a flood came over the bridge", "B")])
        assert server.get("/api/search", query="flood").json()["hits"][0]["path"] == "b"
        assert server.get("/api/indexes").json()["indexes"][0]["documents"] == 2


def test_odd_names_and_texts_come_through(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    text = "</script><script>alert(1)</script> \u202e\u0007\x1b[31m & \" ' the plain end"
    (source / "<img src=x onerror=alert(1)>.txt").write_text(text)
    (source / "caf\udce9.txt").write_text("a name that is no UTF-8, of a plain text")
    Indexer(tmp_path / "indexes" / "odd").update(source)
    with serving(tmp_path / "indexes") as server, Searcher(tmp_path / "indexes" / "odd") as searcher:
        answer = server.get("/api/search", query="plain")
        assert answer.headers["content-type"] == "application/json"
        assert_same(answer.json()["hits"], dicts(searcher.search("plain")))
        assert {hit["path"] for hit in answer.json()["hits"]} == {
            "<img src=x onerror=alert(1)>.txt",
            "caf\udce9.txt",
        }


def test_openais_client_is_understood(server: Server) -> None:
    from openai import NotFoundError, OpenAI, UnprocessableEntityError

    texts = ["my tap drips", "frozen pipes", "a" * 5000]
    expected = Encoder().encode(texts)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        for model in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
            for form in ("float", "base64", None):
                more = {"encoding_format": form} if form else {}
                answer = client.embeddings.create(model=model, input=texts, **more)  # type: ignore[call-overload]
                assert [one.index for one in answer.data] == [0, 1, 2]
                vectors: list[Any] = [one.embedding for one in answer.data]
                if form == "base64":
                    vectors = [np.frombuffer(base64.b64decode(vector), "<f4") for vector in vectors]
                np.testing.assert_allclose(vectors, expected, atol=1e-5)
                assert answer.model == "sentence-transformers/all-MiniLM-L6-v2"
        one = client.embeddings.create(model="all-MiniLM-L6-v2", input="my tap drips")
        np.testing.assert_allclose(one.data[0].embedding, expected[0], atol=1e-5)
        assert one.usage.prompt_tokens == one.usage.total_tokens == 6
        assert [model.id for model in client.models.list()] == ["sentence-transformers/all-MiniLM-L6-v2"]
        with pytest.raises(NotFoundError, match="no index that is served has the model 'gpt'"):
            client.embeddings.create(model="gpt", input="x")
        with pytest.raises(UnprocessableEntityError, match="at least 1"):
            client.embeddings.create(model="all-MiniLM-L6-v2", input=[])


def test_operations(server: Server) -> None:
    assert server.get("/healthz").json() == {"status": "ok"}
    assert server.get("/readyz").json() == {"status": "ready"}

    def count(name: str) -> float:
        found = [line for line in server.get("/metrics").text.splitlines() if line.startswith(name + " ")]
        return float(found[0].split()[-1]) if found else 0

    asked = 'semsearch_queries_total{mode="dense"}'
    before = count(asked)
    server.post("/api/search", {"queries": ["a", "b", "c"], "mode": "dense"})
    assert count(asked) == before + 3
    assert count('semsearch_requests_total{method="GET",path="/healthz",status="200"}') >= 1
    server.get("/secret-of-somebody", query="a secret")
    deadline = time.monotonic() + 10
    logged: list[dict[str, Any]] = []
    while not logged and time.monotonic() < deadline:  # it is written when the answer has been sent
        logged = [one for one in server.requests() if one["path"] == "/secret-of-somebody"]
    assert logged[0].keys() == {"time", "client", "method", "path", "status", "bytes", "ms"}
    assert logged[0]["status"] == 404
    assert "a secret" not in server.log
    assert "secret-of-somebody" not in server.get("/metrics").text


def test_the_documentation_is_whole_without_the_internet(server: Server) -> None:
    page = server.get("/docs").text
    assert "://" not in page
    for asset in ("/static/swagger/swagger-ui.css", "/static/swagger/swagger-ui-bundle.js", "/static/docs.js"):
        assert asset in page
        assert server.get(asset).status_code == 200
    described = server.get("/openapi.json").json()
    for path in ("/api/search", "/api/similar", "/api/document", "/api/indexes", "/v1/embeddings", "/metrics"):
        assert path in described["paths"]
    assert described["components"]["schemas"]["SearchRequest"]["examples"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_finished(indexes: Path, number: int) -> None:
    with serving(indexes) as server:
        statuses: list[int] = []
        body = {"queries": [f"how to mend the tap number {n}" for n in range(64)]}
        server.post("/api/search", {"query": "warm"})

        def ask() -> None:
            statuses.append(httpx.post(f"{server.url}/api/search", json=body, timeout=60).status_code)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while "semsearch_in_flight 4.0" not in server.get("/metrics").text:
            assert time.monotonic() < deadline, "they are not under way together"
        for child in server.children():  # as a terminal and systemd do
            os.kill(child, number)
        assert server.stop(number) == 0
        for thread in threads:
            thread.join()
        assert statuses == [200] * 4, server.log
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port))


def test_processes_that_search_are_started_anew_when_they_end(indexes: Path, searcher: Searcher) -> None:
    with serving(indexes, "--processes", "3") as server:
        answers: list[httpx.Response] = []
        asked = {"queries": [f"how to mend the tap number {n}" for n in range(64)], "index": "sample"}

        def ask() -> None:
            answers.extend(httpx.post(f"{server.url}/api/search", json=asked, timeout=60) for _ in range(5))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        os.kill(_searching(server)[0], signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 15, server.log
        for answer in answers:
            assert_same(answer.json()["queries"][63]["hits"], dicts(searcher.search(asked["queries"][63])))
        ended = _searching(server)
        assert len(ended) == 3
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{one}").exists() for one in ended):
            assert time.monotonic() < deadline, "they outlive the server"
            time.sleep(0.05)


def test_it_searches_in_its_own_process_if_told_to(indexes: Path, searcher: Searcher) -> None:
    with serving(indexes, "--processes", "0") as server:
        found = server.get("/api/search", query="dripping tap", index="sample").json()["hits"]
        assert_same(found, dicts(searcher.search("dripping tap")))
        assert not server.children()


def _searching(server: Server) -> list[int]:
    return [one for one in server.children() if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def test_an_api_key_comes_first(indexes: Path) -> None:
    with serving(indexes, key="s3cret-\u00e9") as server:
        for path in ("/api/search?query=tap", "/metrics", "/api/indexes", "/nowhere", "/readyz", "/v1/models"):
            answer = server.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert server.get("/healthz").status_code == 200
        # Before its body is looked at.
        assert server.client.post("/api/search", content=b"{broken").status_code == 401
        for headers in ({"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}, {"Authorization": "Basic s3cret"}):
            assert server.client.get("/api/indexes", headers=headers).status_code == 401
        key = "s3cret-\u00e9".encode()
        for right in ({"Authorization": b"Bearer " + key}, {"X-API-Key": key}):
            assert server.client.get("/api/indexes", headers=right).status_code == 200
        assert "s3cret" not in server.log


def test_pages_of_an_origin_that_is_named_may_ask(indexes: Path) -> None:
    with serving(indexes, "--allow-origin", "https://example.org", "--allow-host", "search.test") as server:
        origin = {"Origin": "https://example.org"}
        answer = server.client.get("/healthz", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        asked = server.client.options("/api/search", headers={**origin, "Access-Control-Request-Method": "POST"})
        assert asked.status_code == 204
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert server.client.get("/healthz", headers={"Origin": "https://example.com"}).status_code == 403
        assert server.client.get("/healthz", headers={"Host": "search.test"}).status_code == 200
        own = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
        answer = server.client.get("/healthz", headers=own)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


def test_starting_it(run: Run, indexes: Path, tmp_path: Path) -> None:
    done = run("serve", "--host", "0.0.0.0", "--indexes", indexes)
    assert (done.returncode, "give a key that they must bring" in done.stderr) == (2, True), done.stderr
    done = run("serve", "--index", "none", "--indexes", indexes)
    assert (done.returncode, "no index 'none'" in done.stderr) == (3, True), done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", taken.getsockname()[1], "--indexes", indexes)
        assert (done.returncode, "choose another --port" in done.stderr) == (3, True), done.stderr
    with serving(tmp_path) as server:  # nothing yet
        assert server.get("/readyz").status_code == 503
        assert server.raw(query("/api/search", query="tap"))[0] == 404
