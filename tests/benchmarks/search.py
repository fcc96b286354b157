"""Hybrid search from 10,000 to 1,000,000 passages of real text: with and without encoding, and as a whole process.

The passages are those of a folder, and beyond their number copies of them in which every fifth word is another word of
the folder. A copy's vector is that of the passage, a little moved. A document has ten passages. Queries are headings of
the folder. Exact search by FAISS over the same vectors, alternating with ours, is what to compare the times with.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from passages import passages_of
from scale import TESTS, cold, unit

from semsearch import Document, Encoder, Indexer, Searcher

Vectors = NDArray[np.float32]
DIM, QUERIES, PASSAGES, BLOCK = 384, 300, 10, 10
_MARK = re.compile(r"(\d+) (\d+)\W*$")


class Copies(Encoder):
    """An encoder for passages that end in the number of the one they are copied from, and of the copy."""

    def __init__(self, vectors: Vectors) -> None:
        super().__init__()
        self._vectors = vectors

    def encode_document_stream(self, texts: Iterable[str]) -> Iterator[Vectors]:
        for text in texts:
            found = _MARK.search(text)
            passage, copy = map(int, found.groups()) if found else (0, 1)
            vector = self._vectors[passage % len(self._vectors)]
            if copy:
                noise = np.random.default_rng((passage, copy)).standard_normal(DIM, np.float32)
                vector = vector + noise * np.float32(0.3 / DIM**0.5)
            yield vector[None]


class Known(Encoder):
    """An encoder that looks the vectors of its queries up."""

    def __init__(self, queries: list[str]) -> None:
        super().__init__()
        self.vectors = dict(zip(queries, unit(super().encode_query(queries)), strict=True))

    def encode_query(self, texts: Iterable[str]) -> Vectors:
        return np.array([self.vectors[text] for text in texts])


def documents(texts: list[str], count: int) -> Iterator[Document]:
    """Documents of ten passages, of so many passages together."""
    words = [word for text in random.Random(0).sample(texts, min(len(texts), 2000)) for word in text.split()]
    order = random.Random(1)
    for first in range(0, count, PASSAGES):
        sections = []
        for number in range(first, min(first + PASSAGES, count)):
            passage, copy = number % len(texts), number // len(texts)
            own = texts[passage].split()
            for _ in range(len(own) // 5 if copy else 0):
                own[order.randrange(len(own))] = order.choice(words)
            sections.append(f"## Part {number}\n\n{' '.join(own)}\n\n{passage} {copy}")
        yield Document(f"{first}.md", "\n\n".join(sections), f"Document {first}")


def main() -> None:
    """Print a row for each size."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpus", nargs="?", type=Path, default=TESTS / "corpus")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    given = arguments.parse_args()
    encoder = Encoder(precision="auto")
    texts = [text for text in passages_of(given.corpus, 50_000, encoder) if len(text.split()) >= 30]
    vectors = unit(encoder.encode(texts))
    lines = sorted({line.lstrip("# ") for text in texts for line in text.split("\n") if 3 <= len(line.split()) <= 8})
    queries = random.Random(2).sample(lines, min(QUERIES, len(lines)))
    with tempfile.TemporaryDirectory() as name:
        small = Path(name) / "1000"
        Indexer(small, model=Copies(vectors)).update(documents(texts, 1000))
        for size in given.sizes:
            index = Path(name) / str(size)
            started = time.perf_counter()
            Indexer(index, model=Copies(vectors)).update(documents(texts, size))
            seconds = time.perf_counter() - started
            lexical = sum(path.stat().st_size for path in (index / "lexical").rglob("*") if path.is_file())
            row = {"passages": size, "build_s": round(seconds), "lexical_mib": round(lexical / 2**20)}
            print(json.dumps({**row, **measured(index, queries), **cold(index, small)}), flush=True)


def measured(index: Path, queries: list[str]) -> dict[str, float]:
    """Milliseconds of a warm query, and of all of it but encoding."""
    known = Known(queries)
    times: dict[str, list[float]] = {}
    with (
        Searcher(index, model=known) as searcher,
        Searcher(index) as encoding,
        searcher._current() as snapshot,
    ):
        there = len(snapshot.vectors)
        exact = faiss.IndexFlatIP(DIM)
        ids = snapshot.words.all_ids()
        for first in range(0, there, 50_000):
            exact.add(snapshot.vectors.vectors(ids[first : first + 50_000]))
        ways: dict[str, Callable[[str], object]] = {
            "search": searcher.search,
            "with_encoding": encoding.search,
            "exact": lambda query: exact.search(known.vectors[query][None], 10),
        }
        for _ in range(2):  # the first round is for the caches
            times = {way: [] for way in ways}
            for start in range(0, len(queries), BLOCK):
                for way, run in ways.items():
                    times[way] += [timed(run, query) for query in queries[start : start + BLOCK]]
    return {
        "passages_there": there,
        "search_p50_ms": _ms(times["search"], 50),
        "search_p99_ms": _ms(times["search"], 99),
        "with_encoding_p50_ms": _ms(times["with_encoding"], 50),
        "with_encoding_p99_ms": _ms(times["with_encoding"], 99),
        "exact_p50_ms": _ms(times["exact"], 50),
        "of_exact": round(statistics.median(times["search"]) / statistics.median(times["exact"]), 3),
    }


def timed(run: Callable[[str], object], query: str) -> float:
    """Seconds."""
    started = time.perf_counter()
    run(query)
    return time.perf_counter() - started


def _ms(seconds: list[float], percentile: float) -> float:
    return round(1000 * float(np.percentile(seconds, percentile)), 2)


if __name__ == "__main__":
    main()
