"""Requests that nobody should send: each is refused with the right status, none is executed, the server lives on."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from serving import Server, answer_of, serving

from semsearch import Document, Indexer

KEY = "a-key"
SECRET = "what no request may read"
MIB = 1 << 20
# A slow one is cut off by the server's own limits, of 10 seconds for headers and as much for a body.
SLOWEST = 30.0


def request(
    target: str | bytes = "/api/indexes", *headers: str | bytes, method: str = "GET", host: str | None = "localhost"
) -> bytes:
    """A request's head, with the right key unless a header says otherwise."""
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target.encode() if isinstance(target, str) else target)]
    if host is not None:
        lines.append(b"Host: " + host.encode())
    own = [header.encode() if isinstance(header, str) else header for header in headers]
    if not any(header.lower().startswith((b"authorization", b"x-api-key")) for header in own):
        own.append(b"Authorization: Bearer " + KEY.encode())
    return b"\r\n".join([*lines, *own]) + b"\r\n\r\n"


def body(content: bytes, *headers: str, target: str = "/api/search", kind: str = "application/json") -> bytes:
    """A POST."""
    length = f"Content-Length: {len(content)}"
    return request(target, f"Content-Type: {kind}", length, *headers, method="POST") + content


def posted(**asked: object) -> bytes:
    return body(json.dumps(asked).encode())


def parameters(path: str = "/api/search", **given: object) -> bytes:
    return request(f"{path}?{'&'.join(f'{name}={quote(str(value))}' for name, value in given.items())}")


def hosts() -> Iterator[bytes]:
    for name in (
        "evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "evil.test:80", "0.0.0.0", "127.0.0.2", "[::]",
        "localhost@evil.test", "localhost:80:80", "localhost/", "[::1", "10.0.0.1", "169.254.169.254", "localhost.",
        "2130706433", "0x7f000001", "127.1", "LOCALHOST.EVIL", "localhost evil.test", "*", "localhost:",
    ):  # fmt: skip
        yield request(host=name)


def hosts_that_are_none() -> Iterator[bytes]:
    yield request(host=None)
    yield request("/", "Host: evil.test")
    yield b"GET / HTTP/1.1\r\n\r\n"
    yield b"GET / HTTP/1.0\r\n\r\n"
    yield b"GET http://evil.test/ HTTP/1.1\r\n\r\n"


def origins() -> Iterator[bytes]:
    for origin in (
        "http://evil.test", "https://evil.test", "null", "http://localhost.evil.test", "file://", "http://localhost:1",
        "chrome-extension://abc", "http://127.0.0.1:9999", "HTTP://EVIL.TEST", "", "http://localhost@evil.test",
        "data:", "http://[::1]:1",
    ):  # fmt: skip
        yield request("/api/search?query=tap", f"Origin: {origin}")
    yield request("/api/search?query=tap", "Sec-Fetch-Site: cross-site")
    yield request("/api/search?query=tap", "Sec-Fetch-Site: same-site")
    yield request("/api/search?query=tap", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
    yield request("/api/search?query=tap", "Origin: http://localhost", "Origin: http://evil.test")
    yield body(b'{"query": "tap"}', "Origin: http://evil.test", kind="text/plain")
    yield request("/api/search", "Origin: http://evil.test", "Access-Control-Request-Method: POST", method="OPTIONS")


def keys() -> Iterator[bytes]:
    for header in (
        "Authorization: Bearer", "Authorization: Bearer ", "Authorization: Bearer a-ke", "Authorization: Bearer a-key2",
        "Authorization: Basic YS1rZXk=", "Authorization: a-key", "X-API-Key: ", "X-API-Key: A-KEY",
        f"X-API-Key: {'x' * 8000}",
    ):  # fmt: skip
        yield request("/api/search?query=tap", header)
    yield request("/api/search?query=tap", b"X-API-Key: \xff\xfe\x80")
    yield request("/metrics", "X-API-Key: no")
    yield request("/api/search?query=tap&api_key=a-key", "X-API-Key: no")


def oversize() -> Iterator[tuple[int, bytes]]:
    yield 413, request("/api/search", f"Content-Length: {16 * MIB + 1}", method="POST")
    yield 413, request("/api/search", f"Content-Length: {10**17}", method="POST")
    yield 413, body(b'{"query": "' + b"a" * 4 * MIB + b'"}')
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    yield 413, request("/api/search", "Transfer-Encoding: chunked", method="POST") + chunk * 70
    yield 414, request("/api/search?query=" + "a" * 140_000)
    yield 431, request("/api/indexes", *(f"X-{n}: {'a' * 1000}" for n in range(20)))
    yield 431, request("/api/indexes", "X-Long: " + "a" * 20_000)
    yield 400, request("/api/indexes", *(f"X-{n}: {'a' * 1000}" for n in range(400)))
    yield 422, parameters(query="a" * 4097)
    yield 422, parameters(query="tap", filter="a" * 2049)
    yield 422, parameters("/api/similar", target="a" * 4097)
    yield 422, posted(query="a" * 100_000)
    yield 422, posted(queries=["tap"] * 65)
    yield 422, posted(queries=[])
    yield 422, body(json.dumps({"model": "all-MiniLM-L6-v2", "input": ["a"] * 257}).encode(), target="/v1/embeddings")
    yield 422, body(json.dumps({"model": "a" * 256, "input": "a"}).encode(), target="/v1/embeddings")
    deep = b"[" * 100_000
    yield 400, body(b'{"query": ' + deep + b"]" * 100_000 + b"}")
    yield 400, body(b'{"query": "a", "k": ' + b"9" * 5000 + b"}")
    yield 400, posted(query="tap", filter="(" * 2000)
    yield 400, posted(query="tap", filter="not " * 500)


def values() -> Iterator[bytes]:
    for k in (
        0,
        -1,
        101,
        10**30,
        "1e3",
        "0x10",
        "NaN",
        "",
        "null",
        "1;drop table passages",
        "\u0661\u0660\u0660\u0660",
    ):
        yield parameters(query="tap", k=k)
    for effort in (0, -1, "inf", "nan", 1e9):
        yield parameters(query="tap", effort=effort)
    for score in ("nan", "inf", "-inf", "much"):
        yield parameters(query="tap", min_score=score)
    for mode in ("", "HYBRID", "sql", "../dense"):
        yield parameters(query="tap", mode=mode)
    for query in ("", " ", "\t\n", "\0", "a\0b", "\u2003"):
        yield parameters(query=query)
    for date in ("today", "2026-1", "2026-01-01-01", "2026' or 1", "-2026"):
        yield parameters("/api/facets", date=date)
    yield parameters("/api/facets", folder="a" * 4097)
    yield parameters("/api/facets", type="a" * 256)
    yield parameters("/api/facets", filter="a" * 2049)
    yield parameters("/api/facets", query="tap")
    yield parameters("/api/map", dots=10**9)
    yield parameters("/api/map/places")
    for number in (0, -1, 2**63, "1 or 1", "1.5"):
        yield parameters("/api/map/places", id=number)
    yield request("/api/map/places?" + "&".join(f"id={number}" for number in range(1, 102)))
    yield parameters(query="tap", context=3)
    yield parameters(query="tap", model="/etc/passwd")
    yield parameters(query="tap", reranker="evil/model")
    yield request("/api/search")
    for asked in (
        {"query": 5}, {"query": None}, {"query": ["tap"]}, {"query": {"$ne": ""}}, {"queries": "tap"},
        {"queries": [None]}, {"query": "tap", "k": True}, {"query": "tap", "k": "5"}, {"query": "tap", "k": 2.5},
        {"query": "tap", "k": -(10**40)}, {"query": "tap", "__proto__": {}}, {"query": "tap", "path": "/etc/passwd"},
        {"query": "tap", "model": "http://evil.test/m"}, {"query": "tap", "index": 5}, {"query": "tap", "index": ""},
        {"query": "tap", "rerank": "evil/model"}, {"query": "tap", "rerank_weight": 7}, {}, [], "tap", 5, None,
    ):  # fmt: skip
        yield body(json.dumps(asked).encode())
    yield body(b"")
    yield body(b'{"query": "tap"}', kind="text/plain")
    yield body(b"query=tap", kind="application/x-www-form-urlencoded")
    for number in ("0", "-1", str(2**63), "1.5", "../1", "1 or 1=1", "%00"):
        yield parameters("/api/document", id=number)
    yield parameters("/api/document", id=1, context=51)
    yield parameters("/api/document", id=1, context=-1)


def traversal() -> Iterator[tuple[int, bytes]]:
    for path in (
        "/../secret.txt", "/static/../../secret.txt", "/static/..%2f..%2fsecret.txt", "/static/%2e%2e/%2e%2e/app.py",
        "/static/..\\..\\app.py", "/static//etc/passwd", "/static/swagger/../../../app.py", "/etc/passwd",
        "/static/%00",
        "/static/....//....//app.py", "/api/../../secret.txt", "//etc/passwd", "/%2fetc%2fpasswd", "/index.db",
        "/indexes/notes/index.db", "/static/swagger/%2e%2e%2f%2e%2e%2f__init__.py", "/.env", "/.git/config",
    ):  # fmt: skip
        yield 404, request(path)
    for name in (
        "../notes",
        "..",
        ".",
        "/",
        "/etc",
        "notes/../notes",
        "notes/",
        "notes\\",
        "NOTES",
        "%2e%2e",
        "notes%00",
    ):
        yield 404, parameters(query="tap", index=name)
        yield 404, parameters("/api/document", id=1, index=name)
        yield 404, parameters("/api/facets", index=name)
        yield 404, parameters("/api/map", index=name)
    for target in (
        "../secret.txt", "/etc/passwd", "secret.txt", "file:///etc/passwd", "tap.md/../tap.md", "./tap.md", "tap.md\0",
        "~/.ssh/id_rsa", "tap.md:99999999999999999999", "9999", "-1", "a" * 4000,
    ):  # fmt: skip
        yield 404, parameters("/api/similar", target=target)
    yield 404, parameters("/api/document", id=2**63 - 1)


def malformed() -> Iterator[bytes]:
    for content in (b"{", b"{'query': 'tap'}", b"query=tap", b"<a/>", b"\xff\xfe"):
        yield body(content)
    yield body(b"\x80\x04\x95")  # as a pickle begins
    yield body(b'{"query": "\xc3("}')
    yield b"\r\n\r\n\r\nGARBAGE\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n"
    yield b"GET\r\n\r\n"
    yield b"GET /api/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n: x\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: local\0host\r\n\r\n"
    yield request("/", "Content-Length: -5", method="POST")
    yield request("/", "Content-Length: 5, 6", method="POST")
    yield request("/", "Content-Length: five", method="POST")
    yield request("/", "Content-Length: 5", "Content-Length: 6", method="POST")
    yield request("/api/search", "Transfer-Encoding: gzip", method="POST")
    yield request("/api/search", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n"
    yield "GET /é HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def versions() -> Iterator[bytes]:
    yield b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n"
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"


def methods() -> Iterator[tuple[int, bytes]]:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "QUERY", "X"):
        yield 405, request("/api/search", method=method)
        yield 405, request("/api/indexes", method=method)
    yield 405, request("/v1/embeddings")
    yield 405, body(b"{}", target="/api/document")
    yield 405, request("/static/docs.js", method="DELETE")


KINDS: dict[str, list[tuple[int, bytes]]] = {
    "host forged": [(421, one) for one in hosts()],
    "host missing or twice": [(400, one) for one in hosts_that_are_none()],
    "origin forged": [(403, one) for one in origins()],
    "key wrong": [(401, one) for one in keys()],
    "oversize": list(oversize()),
    "values": [(422, one) for one in values()],
    "traversal": list(traversal()),
    "malformed": [(400, one) for one in malformed()],
    "version": [(505, one) for one in versions()],
    "methods": list(methods()),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret.txt").write_text(SECRET)
    (folder / "docs").mkdir()
    (folder / "docs" / "tap.md").write_text("# Tap\n\nA tap that drips.\n")
    Indexer(folder / "indexes" / "notes").update(folder / "docs")
    with serving(folder / "indexes", key=KEY) as running:
        yield running
        assert running.process.poll() is None


def test_there_are_enough_of_them() -> None:
    assert sum(map(len, KINDS.values())) >= 270


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused(server: Server, kind: str) -> None:
    for expected, content in KINDS[kind]:
        started = time.monotonic()
        status, answer = server.raw(content)
        assert status == expected, (content[:300], answer[:600])
        assert time.monotonic() - started < SLOWEST
        assert SECRET.encode() not in answer
        assert b"root:" not in answer
        assert b"Traceback" not in answer
        head = answer.partition(b"\r\n\r\n")[0].lower()
        if b"application/json" in head:
            assert b"nosniff" in head
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert server.client.get("/healthz").status_code == 200
    assert "Traceback" not in server.log


def test_another_protocol_has_one_answer_and_no_more(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=SLOWEST) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\n")
        assert answer_of(connection)[0] == 505
        assert connection.recv(1) == b"", "it is closed"


def test_who_is_slow_is_not_waited_for(server: Server) -> None:
    began = [
        b"",
        b"GET /api/indexes HTT",
        request()[:-2],
        request("/api/search", "Content-Length: 100", method="POST"),
        request("/api/search", "Content-Length: 100", method="POST") + b'{"query": ',
        request("/api/search", "Transfer-Encoding: chunked", method="POST") + b"5\r\nab",
    ]
    answers: dict[int, tuple[int, float]] = {}

    def ask(number: int, dripping: bool) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=SLOWEST) as connection:
            started = time.monotonic()
            connection.sendall(began[number])
            stop = threading.Event()

            def drip() -> None:
                while not stop.wait(0.5):
                    try:
                        connection.sendall(b"a")
                    except OSError:
                        return

            dripper = threading.Thread(target=drip)
            if dripping:
                dripper.start()
            status, _ = answer_of(connection)
            stop.set()
            answers[number + (100 if dripping else 0)] = status, time.monotonic() - started
            if dripping:
                dripper.join()

    threads = [
        threading.Thread(target=ask, args=(n, dripping)) for n in range(len(began)) for dripping in (False, True)
    ]
    for thread in threads:
        thread.start()
    time.sleep(1)
    started = time.monotonic()
    assert server.client.get("/healthz").status_code == 200
    assert time.monotonic() - started < 5, "others are served meanwhile"
    for thread in threads:
        thread.join()
    assert len(answers) == 2 * len(began)
    for number, (status, seconds) in answers.items():
        assert status in (408, 400), (number, status)
        assert seconds < SLOWEST, (number, seconds)


def test_many_that_say_nothing_leave_room_for_others(server: Server) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    try:
        assert server.client.get("/healthz").status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_script_stays_text(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    Indexer(tmp_path / "odd").update([Document(f"{script}.md", f"plain {script}", script, {"author": script})])
    with serving(tmp_path) as server:
        for asked in (
            server.get("/api/search", query=f"plain {script}"),
            server.get("/api/similar", target=f"{script}"),
            server.get("/api/document", id=1),
            server.get(f"/{script}"),
            server.get("/api/search", query="a", filter=script),
            server.get("/api/search", query="a", index=script),
        ):
            assert asked.headers["content-type"] == "application/json"
            assert asked.headers["x-content-type-options"] == "nosniff"
            assert "script-src 'self'" in asked.headers["content-security-policy"]
            json.loads(asked.text)


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    Indexer(tmp_path / "notes").update([Document("a", "a tap that drips", "A")])
    statuses: list[tuple[int, str]] = []
    with serving(tmp_path, "--threads", "1", "--queue", "2") as server:
        asked = body(json.dumps({"queries": [f"tap {n}" for n in range(64)]}).encode())

        def ask() -> None:
            status, answer = server.raw(asked)
            statuses.append((status, answer.partition(b"\r\n\r\n")[0].decode().lower()))

        threads = [threading.Thread(target=ask) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {status for status, _ in statuses} == {200, 503}
        for status, head in statuses:
            assert ("retry-after: 1" in head) == (status == 503)
        assert server.raw(asked)[0] == 200
