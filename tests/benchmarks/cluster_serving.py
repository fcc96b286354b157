"""What a query through a Ray cluster takes beside one by `semsearch serve`, both of one index in shards.

Give a folder of documents. One node on this machine has a router and a replica of each shard; queries are distinct,
pieces of the documents' own lines, in hybrid mode. Rounds with one connection and with 32, of either server, alternate.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serving import CONNECTIONS, Client, queries_of

sys.path.append(str(Path(__file__).resolve().parent.parent))

from ray_nodes import nodes, own_network

from semsearch.encoder.processors import processors

ALONE, CLUSTER = "semsearch serve", "cluster"
# Queries of a round with one connection, and with all.
ROUND = {1: 100, CONNECTIONS: 400}


def main() -> None:
    """Print medians and ratios."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("corpus", type=Path)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--shards", type=int, default=8)
    given = arguments.parse_args()
    queries = iter(queries_of(given.corpus, (2 * given.rounds + 1) * sum(ROUND.values())))
    with own_network(), tempfile.TemporaryDirectory(prefix="ray") as name, nodes(Path(name), processors()) as ray:
        index = ["index", str(given.corpus), "--indexes", name, "--name", "docs", "--shards", str(given.shards)]
        subprocess.run([sys.executable, "-m", "semsearch", *index], check=True, stderr=subprocess.DEVNULL)
        with served(name, []) as alone, served(name, ["--replicas", "1", "--cluster", ray.address]) as cluster:
            measure({ALONE: alone, CLUSTER: cluster}, queries, given.rounds)


def measure(servers: dict[str, Client], queries: Iterator[str], rounds: int) -> None:
    """Ask in turn."""
    latencies: dict[str, list[float]] = {what: [] for what in servers}
    rates: dict[str, list[float]] = {what: [] for what in servers}
    for _ in range(rounds):
        for what, client in servers.items():
            latencies[what] += client.ask(_some(queries, ROUND[1]), 1)
            started = time.perf_counter()
            client.ask(_some(queries, ROUND[CONNECTIONS]), CONNECTIONS)
            rates[what].append(ROUND[CONNECTIONS] / (time.perf_counter() - started))
    for what, client in servers.items():
        latency, rate = statistics.median(latencies[what]), statistics.median(rates[what])
        print(
            f"{what}: {1000 * latency:.1f} ms, {latency / statistics.median(latencies[ALONE]):.2f} of {ALONE}; "
            f"{CONNECTIONS} connections {rate:.0f} a second, {rate / statistics.median(rates[ALONE]):.2f} of it; "
            f"{len(client.errors)} errors {client.errors[:1]}"
        )


def _some(queries: Iterator[str], count: int) -> list[str]:
    return [next(queries) for _ in range(count)]


@contextmanager
def served(indexes: str, options: list[str]) -> Iterator[Client]:
    """A server that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "semsearch", "serve", "docs", "--indexes", indexes, "--port", str(port), *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            client = Client(port)
            while not _warm(client):
                time.sleep(0.5)
            client.errors.clear()
            yield client
        finally:
            server.terminate()


def _warm(client: Client) -> bool:
    with suppress(OSError, EOFError):
        client.ask(["how to begin", "what is new", "a longer question about it"] * 20, 1)
        return True
    return False


if __name__ == "__main__":
    main()
