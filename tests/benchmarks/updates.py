"""What a build of a folder and its updates cost: unchanged, one file edited, a folder moved, half of it deleted.

Give a folder; a copy of it is worked on.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from semsearch import Encoder, Indexer, IndexSummary, Searcher, Settings
from semsearch.corpus.walk import walk
from semsearch.indexer.sources import Reading
from semsearch.store.verify import verify


def main() -> None:
    """Print a line for each step."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("corpus", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent / "corpus")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source, index = Path(name) / "corpus", Path(name) / "index"
        shutil.copytree(given.corpus, source)
        files = sorted(path for path in source.rglob("*.md") if path.stat().st_size > 2000)
        first = step("first run", index, source, None)
        alone = reading_alone(source)
        print(f"reading and cutting alone: {alone:.2f} s, {1000 * alone / first.took_ms:.3f} of the first run")
        step("nothing changed", index, source, first)
        edited = random.Random(0).choice(files)
        lines = edited.read_text(encoding="utf-8").split("\n")
        lines[len(lines) // 2] += " This sentence is new."
        edited.write_text("\n".join(lines), encoding="utf-8")
        step(f"a line of {edited.name} edited", index, source, first)
        folder = max((path for path in source.iterdir() if path.is_dir()), key=lambda path: len(list(path.rglob("*"))))
        folder.rename(source / "moved")
        step(f"{folder.name}/ moved", index, source, first)
        before = size(index)
        gone = set()
        for path in random.Random(1).sample(sorted(source.rglob("*.*")), len(list(source.rglob("*.*"))) // 2):
            if path.is_file():
                gone.add(path.relative_to(source).as_posix())
                path.unlink()
        step(f"{len(gone)} files deleted", index, source, first)
        with Searcher(index) as searcher:
            words = ("how to", "error", "class", "pointer", "water", "build", "example", "function", "list", "file")
            hits = [hit for hits in searcher.search_batch(words, k=1000) for hit in hits]
        print(f"{sum(hit.path in gone for hit in hits)} of {len(hits)} hits of 10 queries are of deleted files")
        print(f"disk: {before / 2**20:.1f} MiB before, {size(index) / 2**20:.1f} after, {size(index) / before:.3f}")
        print(f"verify: {len(list(verify(index)))} problems")


def reading_alone(source: Path) -> float:
    """Seconds of all that a build does before it embeds, the start of its processes counted; the median of three."""
    encoder = Encoder(precision="auto")
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        for _ in Reading(encoder, Settings()).read(walk([source]).files):
            pass
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def step(name: str, index: Path, source: Path, first: IndexSummary | None) -> IndexSummary:
    """Update, and print what it took."""
    summary = Indexer(index).update(source)
    share = f", 1/{first.took_ms / max(summary.took_ms, 1):.0f} of the first run" if first else ""
    print(
        f"{name}: {summary.took_ms / 1000:.2f} s{share}; {summary.passages_embedded} of {summary.passages} passages "
        f"embedded; {summary.files_added} files new, {summary.files_changed} changed, {summary.files_removed} gone, "
        f"{summary.files_unchanged} as they were",
        flush=True,
    )
    return summary


def size(index: Path) -> int:
    """Bytes on disk."""
    return sum(path.stat().st_size for path in index.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
