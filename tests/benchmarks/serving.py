"""The HTTP server under load: throughput by connections, latency, memory, and commits meanwhile.

A folder is indexed and served; queries are distinct, pieces of its own lines, in hybrid mode. Rounds with one
connection and with 32 alternate. Then 32 connections ask while the index is committed to ten times, and every answer
must be whole: k hits of as many documents, in order. Memory is the resident sets of the server and of its processes,
after a tenth of the requests and after all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from passages import passages_of

from semsearch import Document, Encoder, Indexer

TESTS = Path(__file__).resolve().parent.parent
CONNECTIONS, ROUNDS, COMMITS, K = 32, 5, 10, 10


def queries_of(folder: Path, count: int) -> list[str]:
    """Distinct queries: three to eight words that follow each other in the folder's texts."""
    found_words = (re.findall(r"\w+", text) for text in passages_of(folder, 50_000, Encoder()))
    words = [one for one in found_words if len(one) > 8]
    order, found = random.Random(0), dict[str, None]()
    while len(found) < count:
        chosen = order.choice(words)
        start, length = order.randrange(len(chosen) - 8), order.randint(3, 8)
        found[" ".join(chosen[start : start + length])] = None
    return list(found)


class Client:
    """Some connections that ask one query after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.errors: list[str] = []

    def ask(self, queries: list[str], connections: int) -> list[float]:
        """Seconds of each answer."""
        return asyncio.run(self._ask(queries, connections))

    async def _ask(self, queries: list[str], connections: int) -> list[float]:
        left, seconds = iter(queries), list[float]()

        async def one() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            for query in left:
                body = json.dumps({"query": query, "k": K}).encode()
                started = time.perf_counter()
                writer.write(
                    b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                answer = await reader.readexactly(int(length[1]) if length else 0)
                seconds.append(time.perf_counter() - started)
                self._check(head, answer)
            writer.close()

        await asyncio.gather(*(one() for _ in range(connections)))
        return seconds

    def _check(self, head: bytes, answer: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 200"):
            self.errors.append(f"{head[:30]!r} {answer[:200]!r}")
            return
        hits = json.loads(answer)["hits"]
        scores = [hit["score"] for hit in hits]
        if len(hits) != K or scores != sorted(scores, reverse=True) or len({hit["path"] for hit in hits}) != K:
            self.errors.append(f"not whole: {answer[:200]!r}")


def main() -> None:
    """Print one object."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpus", nargs="?", type=Path, default=TESTS / "corpus")
    arguments.add_argument("--requests", type=int, default=20_000, help="Under commits, for memory.")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        indexer = Indexer(Path(name) / "docs")
        summary = indexer.update(given.corpus)
        queries = queries_of(given.corpus, given.requests + ROUNDS * 1000)
        command = [sys.executable, "-m", "semsearch", "serve", "--indexes", name, "--port", "0"]
        with (Path(name) / "log").open("w+") as log, subprocess.Popen(command, stderr=log) as server:
            try:
                while not (found := re.search(r"at http://\S+:(\d+)", (Path(name) / "log").read_text())):
                    time.sleep(0.1)
                client = Client(int(found[1]))
                row: dict[str, object] = {"passages": summary.passages}
                row |= rounds(client, queries)
                row |= under_commits(client, indexer, queries[ROUNDS * 1000 :], server.pid)
                print(json.dumps({**row, "errors": len(client.errors), "first_errors": client.errors[:3]}))
            finally:
                server.terminate()


def rounds(client: Client, queries: list[str]) -> dict[str, float]:
    """Queries a second by one connection and by many, in turn."""
    client.ask(queries[:200], CONNECTIONS)
    rates: dict[int, list[float]] = {1: [], CONNECTIONS: []}
    latencies: dict[int, list[float]] = {1: [], CONNECTIONS: []}
    left = iter(queries)
    for _ in range(ROUNDS):
        for connections, count in ((1, 200), (CONNECTIONS, 800)):
            chosen = [next(left) for _ in range(count)]
            started = time.perf_counter()
            latencies[connections] += client.ask(chosen, connections)
            rates[connections].append(count / (time.perf_counter() - started))
    one, many = (statistics.median(rates[connections]) for connections in (1, CONNECTIONS))
    return {
        "per_s_of_1": round(one, 1),
        f"per_s_of_{CONNECTIONS}": round(many, 1),
        "ratio": round(many / one, 2),
        "p50_ms_of_1": _ms(latencies[1], 50),
        "p99_ms_of_1": _ms(latencies[1], 99),
        f"p50_ms_of_{CONNECTIONS}": _ms(latencies[CONNECTIONS], 50),
        f"p99_ms_of_{CONNECTIONS}": _ms(latencies[CONNECTIONS], 99),
    }


def under_commits(client: Client, indexer: Indexer, queries: list[str], pid: int) -> dict[str, float]:
    """Many connections while the index is committed to."""
    generations = 0
    done = threading.Event()

    def commit() -> None:
        nonlocal generations
        for number in range(COMMITS):
            indexer.update([Document(f"news/{number % 3}", f"What is new in edition {number}", "News")])
            generations += 1
            if done.wait(max(1.0, len(queries) / 5000)):
                return

    client.ask(queries[: len(queries) // 10], CONNECTIONS)
    before = _resident_mib(pid)
    writer = threading.Thread(target=commit)
    writer.start()
    seconds = client.ask(queries[len(queries) // 10 :], CONNECTIONS)
    done.set()
    writer.join()
    return {
        "requests": len(queries),
        "commits": generations,
        "p99_ms_under_commits": _ms(seconds, 99),
        "mib_before": before,
        "mib_after": _resident_mib(pid),
    }


def _resident_mib(pid: int) -> int:
    """Of the server and of the processes that search for it."""
    processes = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    found = (re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{one}/status").read_text()) for one in processes)
    return sum(int(one[1]) for one in found if one) // 1024


def _ms(seconds: list[float], percentile: float) -> float:
    return round(1000 * float(np.percentile(seconds, percentile)), 1)


if __name__ == "__main__":
    main()
