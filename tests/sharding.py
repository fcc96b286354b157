"""Documents to divide into shards, and what is the same of two indexes."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest

from semsearch import Hit

TIED = 1e-6
WORDS = "river bridge stone water mill flood wheel rope boat ferry harbour tide".split()


def write(folder: Path, number: int, parts: int = 4) -> None:
    """A document of so many parts at most, about every tenth of which has a text that others have, too."""
    random = np.random.default_rng(number if number % 10 else 0)
    texts = [" ".join(random.choice(WORDS, random.integers(5, 40))) for _ in range(random.integers(1, parts + 1))]
    path = folder / ("docs" if number % 3 else "notes") / f"{number}.{'md' if number % 4 else 'txt'}"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join(f"## Part {n}\n\n{part}." for n, part in enumerate(texts)))
    # What was changed just now may change once more within the same tick of the clock, and is looked at again.
    before = time.time() - 60
    os.utime(path, (before, before))


def assert_same(found: list[Hit], expected: list[Hit]) -> None:
    """The same hits but for their ids, in the same order where their scores differ by more than a millionth."""
    assert len(found) == len(expected)
    for own, other in zip(found, expected, strict=True):
        assert own.score == pytest.approx(other.score, abs=TIED)
    # What is tied with the last may be there or not.
    last = expected[-1].score + TIED if expected else 0.0
    rest = {"id": 0, "rank": 0, "score": 0, "parts": {}}
    known = {(hit.path, hit.line_start): hit for hit in expected}
    for own, other in zip(found, expected, strict=True):
        same = known.get((own.path, own.line_start))
        if own.score > last + TIED:
            assert same
        if same:
            assert abs(same.score - other.score) <= 2 * TIED
            assert own.parts == pytest.approx(same.parts, abs=2e-5)  # BM25 is up to 30, in float32
            assert dataclasses.replace(own, **rest) == dataclasses.replace(same, **rest)


QUERIES = [
    "river flood",
    "rope",
    '"mill flood" wheel',
    "a tide in the harbour",
    "nothing of it",
    '"no such phrase" boat',
]
