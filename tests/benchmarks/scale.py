"""Indexes of 10,000 to 1,000,000 passages: build time, memory, size, latency and recall, against exact search.

The vectors are real ones and more that are grown of them: a child is its parent plus the difference of two of the
parent's ten nearest neighbours, with a little noise, normalized. The real ones are embedded from the passages of
folders and BEIR `corpus.jsonl` files; 1,000 of them are kept aside as queries. They are kept in the file `--vectors`,
from which the next run takes them. Embedding is not in the build time, all else is.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from passages import passages_of
from record import machine

from semsearch import Document, Encoder, Indexer
from semsearch.store.database import Database
from semsearch.store.segments import VectorReader

Vectors = NDArray[np.float32]
DIM, QUERIES, K = 384, 1000, 10
BLOCK = 10
COLD_ROUNDS = 7
TESTS = Path(__file__).resolve().parent.parent


class Ready(Encoder):
    """An encoder for passages that end in the number of their vector in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def encode_document_stream(self, texts: Iterable[str]) -> Iterator[Vectors]:
        for text in texts:
            yield rows_of(self._path, int(text.split()[-1]), 1)


def rows_of(path: Path, first: int, count: int) -> Vectors:
    """Vectors of a file of nothing but float32, read and not mapped, so that they do not count as memory."""
    return np.fromfile(path, np.float32, count * DIM, offset=4 * DIM * first).reshape(count, DIM)


def main() -> None:
    """Print a row for each size."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpora", nargs="*", type=Path, default=[TESTS / "corpus"])
    arguments.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments.add_argument("--vectors", type=Path, help="keep them here, or take them from here")
    arguments.add_argument("--json", default="", help="write the record to this file")
    arguments.add_argument("--build", nargs=3, metavar=("INDEX", "VECTORS", "COUNT"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.build:
        build(Path(given.build[0]), Path(given.build[1]), int(given.build[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vectors = given.vectors or folder / "vectors"
        if not vectors.exists():
            make(vectors, given.corpora, max(given.sizes))
        queries = rows_of(Path(f"{vectors}.queries"), 0, QUERIES)
        small = folder / "indexes" / "small"
        run_build(small, vectors, 1000)
        rows = []
        for size in given.sizes:
            index = folder / "indexes" / str(size)
            row = {"passages": size, **run_build(index, vectors, size)}
            row |= searched(index, vectors, size, queries) | cold(index, small)
            rows.append(row)
            print(json.dumps(row))
    if given.json:
        Path(given.json).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


def run_build(index: Path, vectors: Path, count: int) -> dict[str, float]:
    """Build an index in a process of its own: seconds, peak MiB, and sizes in bytes."""
    command = [sys.executable, __file__, "--build", str(index), str(vectors), str(count)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    segments = sum(path.stat().st_size for path in (index / "segments").iterdir())
    whole = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    return {**answer, "vectors_of_float32": round(segments / (4 * DIM * count), 3), "index_mib": round(whole / 2**20)}


def build(index: Path, vectors: Path, count: int) -> None:
    """In the process of its own: as `semsearch index` does, but for the embedding."""
    documents = (Document(str(number), f"passage number {number}", "") for number in range(count))
    started = time.perf_counter()
    Indexer(index, model=Ready(vectors)).update(documents)
    seconds = time.perf_counter() - started
    print(
        json.dumps({"build_s": round(seconds, 1), "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10})
    )


def searched(index: Path, vectors: Path, count: int, queries: Vectors) -> dict[str, object]:
    """Recall of ten hits and latency, with exact search over the same vectors in turn, ten queries at a time.

    Exact search leaves nothing else in the processor's caches, so the first query after it is counted by itself.
    """
    exact = faiss.IndexFlatIP(DIM)
    for first in range(0, count, 50_000):
        exact.add(rows_of(vectors, first, min(50_000, count - first)))
    with Database.open_for_reading(index) as database:
        segments = database.segments()
        reader = VectorReader(index, segments, DIM)
    first_id = segments[0].first_passage_id
    found, ours, after_exact, theirs = 0, [], [], []
    reader.search(queries[0], K)
    for start in range(0, QUERIES, BLOCK):
        block = queries[start : start + BLOCK]
        times, hits = timed(lambda query: {*reader.search(query, K).ids.tolist()}, block)
        after_exact.append(times[0])
        ours += times[1:]
        times, best = timed(lambda query: set((exact.search(query[None], K)[1][0] + first_id).tolist()), block)
        theirs += times
        found += sum(len(one & other) for one, other in zip(hits, best, strict=True))
    our_ms, cold_ms, their_ms = (1000 * statistics.median(times) for times in (ours, after_exact, theirs))
    return {
        "kinds": [segment.kind for segment in segments],
        "recall": round(found / (K * QUERIES), 4),
        "query_ms": round(our_ms, 3),
        "exact_ms": round(their_ms, 2),
        "times_faster": round(their_ms / our_ms, 1),
        "after_exact_ms": round(cold_ms, 3),
    }


def timed(search: Callable[[Vectors], set[int]], queries: Vectors) -> tuple[list[float], list[set[int]]]:
    """The seconds and the hits of queries, one after the other."""
    seconds, hits = [], []
    for query in queries:
        started = time.perf_counter()
        hits.append(search(query))
        seconds.append(time.perf_counter() - started)
    return seconds, hits


def cold(index: Path, small: Path) -> dict[str, float]:
    """A query as a whole process, in turn with one of an index of 1,000 passages."""
    seconds: dict[Path, list[float]] = {small: [], index: []}
    for _ in range(COLD_ROUNDS + 1):
        for one, times in seconds.items():
            command = [sys.executable, "-m", "semsearch", "query", "how tides move sand", "-i", one.name]
            started = time.perf_counter()
            subprocess.run([*command, "--indexes", one.parent], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - started)
    medians = {one: statistics.median(times[1:]) for one, times in seconds.items()}
    return {"cold_s": round(medians[index], 3), "cold_of_1000": round(medians[index] / medians[small], 2)}


def make(path: Path, corpora: list[Path], count: int) -> None:
    """Write `count` vectors, and queries beside them."""
    encoder = Encoder(precision="auto")
    texts = [text for corpus in corpora for text in passages_of(corpus, 15_000, encoder)]
    real = unit(encoder.encode(texts))
    real = real[np.random.default_rng(0).permutation(len(real))]
    kept = min(QUERIES, len(real) // 5)
    np.resize(real[:kept], (QUERIES, DIM)).tofile(f"{path}.queries")
    vectors = real[kept:]
    while len(vectors) < count:
        vectors = np.concatenate([vectors, children(vectors, min(3 * len(vectors), count - len(vectors)))])
    vectors[np.random.default_rng(1).permutation(len(vectors))[:count]].tofile(path)


def children(parents: Vectors, count: int) -> Vectors:
    """Vectors (count, dim) grown of others."""
    neighbours = nearest(parents, 11)[:, 1:]
    random = np.random.default_rng(len(parents))
    grown = np.empty((count, DIM), np.float32)
    for start in range(0, count, 8192):
        size = min(8192, count - start)
        parent = random.integers(len(parents), size=size)
        one = random.integers(10, size=size)
        other = (one + 1 + random.integers(9, size=size)) % 10
        step = parents[neighbours[parent, one]] - parents[neighbours[parent, other]]
        noise = random.standard_normal((size, DIM), np.float32) * (0.3 / DIM**0.5)
        grown[start : start + size] = unit(parents[parent] + step + noise * np.linalg.norm(step, axis=1, keepdims=True))
    return grown


def nearest(vectors: Vectors, k: int) -> NDArray[np.int64]:
    """The k nearest of each, itself first; approximately where there are many."""
    kind = "Flat" if len(vectors) < 50_000 else "IVF1024,SQfp16"
    index = faiss.index_factory(DIM, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:: max(1, len(vectors) // 50_000)])
    index.add(vectors)
    if kind != "Flat":
        index.nprobe = 6
    found: NDArray[np.int64] = index.search(vectors, k)[1]
    return found


def unit(vectors: Vectors) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()
