"""Merging: few segments instead of many, without the vectors of what is gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from semsearch.store.manifest import Segment
from semsearch.store.segments import SegmentReader, Vectors, write_segment

# Vectors of a segment at most: what is merged is held in memory.
MAX_ROWS = 1_000_000
# A segment is written anew once this share of its vectors is dead.
_DEAD_SHARE = 0.2
# A segment joins the newer ones after it if it has at most so many times their vectors: segments then grow
# geometrically towards the oldest, so that they are few, and a vector is copied a logarithmic number of times.
_GROWTH = 2


def compact(index: Path, segments: Sequence[Segment], dim: int, *, fully: bool = False) -> list[Segment]:
    """The segments after merging what is due; new files are written, and none is removed.

    Args:
        index: The index folder.
        segments: In the order of their passages.
        dim: Numbers in a vector.
        fully: Merge and drop all that can be, due or not.

    Raises:
        OSError: The disk refused.
        DamagedIndexError: A segment that is merged is not what was written.
    """
    kept = [segment for segment in segments if segment.live]
    return [_merged(index, run, dim) if _is_due(run, fully) else run[0] for run in _runs(kept, fully)]


def _runs(segments: Sequence[Segment], fully: bool) -> list[list[Segment]]:
    """Neighbours that become one segment."""
    runs: list[list[Segment]] = []
    live = 0
    for segment in reversed(segments):
        if runs and live + segment.live <= MAX_ROWS and (fully or segment.live <= _GROWTH * live):
            runs[-1].insert(0, segment)
            live += segment.live
        else:
            runs.append([segment])
            live = segment.live
    return runs[::-1]


def _is_due(run: Sequence[Segment], fully: bool) -> bool:
    dead = run[0].count - run[0].live
    return len(run) > 1 or dead > (0 if fully else _DEAD_SHARE * run[0].count)


def _merged(index: Path, run: Sequence[Segment], dim: int) -> Segment:
    # What is copied is checked first, lest a damaged vector come under a sound hash.
    readers = [SegmentReader(index, segment, dim, whole=True) for segment in run]

    def blocks() -> Iterator[Vectors]:
        return chain.from_iterable(reader.live_blocks() for reader in readers)

    return write_segment(index, blocks, np.concatenate([reader.live_ids for reader in readers]), dim)
