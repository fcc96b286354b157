"""What a build by a Ray cluster costs beside a plain one, and whether its index answers as that one does.

Give a folder of documents. Nodes are on this machine: one, with one worker for all processors, and with as many workers
as processors; then a head and three nodes, of which one is killed in the middle.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ray_nodes import Nodes, nodes, own_network

from semsearch import Encoder, Hit, Searcher
from semsearch.encoder.processors import processors

PLAIN, ALONE, EACH = "plain", "cluster, one worker", "cluster, a worker for each processor"


def main() -> None:
    """Print medians, ratios, and what differs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("corpus", type=Path)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--shards", type=int, default=8)
    arguments.add_argument("--queries", type=int, default=200)
    arguments.add_argument("--no-kill", action="store_true")
    given = arguments.parse_args()
    with own_network(), tempfile.TemporaryDirectory(prefix="ray") as name:
        folder = Path(name)
        measure(given.corpus, folder, given.rounds, given.shards)
        if not given.no_kill:
            kill(given.corpus, folder, given.shards, given.queries)


def measure(corpus: Path, folder: Path, rounds: int, shards: int) -> None:
    """Build in turn, and print the medians."""
    seconds: dict[str, list[float]] = {PLAIN: [], ALONE: [], EACH: []}
    with nodes(folder, processors()) as ray:
        on_cluster = ["--cluster", ray.address, "--shards", str(shards)]
        for turn in range(rounds):
            for what, options in (
                (PLAIN, []),
                (ALONE, [*on_cluster, "--workers", "1"]),
                (EACH, [*on_cluster, "--workers", str(processors())]),
            ):
                started = time.monotonic()
                build(corpus, folder / f"{turn}-{len(seconds[what])}-{what}", options).wait()
                seconds[what].append(time.monotonic() - started)
                print(f"  {what}: {seconds[what][-1]:.1f} s", flush=True)
    plain = statistics.median(seconds[PLAIN])
    for what, each in seconds.items():
        print(f"{what}: {statistics.median(each):.1f} s, {statistics.median(each) / plain:.3f} of plain")


def build(corpus: Path, indexes: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """The command that builds an index there."""
    command = ["index", str(corpus), "--indexes", str(indexes), "--name", "built", "--yes", *options]
    return subprocess.Popen([sys.executable, "-m", "semsearch", *command], stderr=subprocess.DEVNULL)


def kill(corpus: Path, folder: Path, shards: int, queries: int) -> None:
    """Build on a head and three nodes, of which one is killed, and compare with a plain build."""
    build(corpus, folder / "one", []).wait()
    with nodes(folder, 1) as ray:
        others = [ray.add(1) for _ in range(3)]
        started = time.monotonic()
        building = build(corpus, folder / "many", ["--cluster", ray.address, "--shards", str(shards)])
        while time.monotonic() - started < 20 or not is_building(ray, others[0]):
            time.sleep(0.1)
        ray.kill(others[0])
        print(f"a node was killed after {time.monotonic() - started:.0f} s; the build ends with {building.wait()}")
    encoder = Encoder()
    with (
        Searcher(folder / "one" / "built", model=encoder) as one,
        Searcher(folder / "many" / "built", model=encoder) as many,
    ):
        places = [Counter((hit.path, hit.char_start) for hit in every(searcher)) for searcher in (one, many)]
        print(f"{places[1].total()} passages, {places[0].total()} in one index, the same: {places[0] == places[1]}")
        asked = [hit.heading or hit.title for hit in every(one) if hit.heading or hit.title]
        asked = asked[:: max(1, len(asked) // queries)][:queries]
        for mode in ("hybrid", "dense"):
            found = [searcher.search_batch(asked, mode=mode) for searcher in (one, many)]
            pairs = list(zip(*found, strict=True))
            largest = max(abs(a.score - b.score) for own, other in pairs for a, b in zip(own, other, strict=True))
            same = sum([a.path for a in own] == [b.path for b in other] for own, other in pairs)
            print(f"{mode}: {len(asked)} queries, in {same} the same order, largest difference {largest:.2g}")


def is_building(ray: Nodes, node: str) -> bool:
    """Whether a node has a task."""
    return any(b"ray::shard" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in ray.pids(node))


def every(searcher: Searcher) -> list[Hit]:
    """A hit for each passage."""
    return searcher.search("anything", 10**6, mode="dense", per_document=None)


if __name__ == "__main__":
    main()
