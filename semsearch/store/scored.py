"""Passages with scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Scored(NamedTuple):
    """What a search found, the best first; of equal scores the passage that was indexed earlier.

    Attributes:
        ids: Of the passages, (n,).
        scores: Of each, (n,).
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.floating]


NONE = Scored(np.empty(0, np.int64), np.empty(0, np.float32))


def best(ids: NDArray[np.int64], scores: NDArray[np.floating], k: int, *, bits: int | None = None) -> Scored:
    """The k with the highest scores, of these in any order.

    Args:
        ids: Of passages, (n,).
        scores: Of each, (n,).
        k: How many.
        bits: Scores that are the same as `rounded` to these count as equal, but stay what they are.
    """
    order = np.lexsort((ids, -(scores if bits is None else rounded(scores, bits))))[:k]
    return Scored(ids[order], scores[order])


def rounded(scores: NDArray[np.floating], bits: int) -> NDArray[np.floating]:
    """Scores with mantissas of so many bits."""
    mantissas, exponents = np.frexp(scores)
    found: NDArray[np.floating] = np.ldexp(np.rint(np.ldexp(mantissas, bits)), exponents - bits)
    return found
