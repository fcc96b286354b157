"""Merging: few segments instead of many, without the vectors of what is gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from semsearch.store.ann import Vectors
from semsearch.store.manifest import Segment
from semsearch.store.segments import SegmentReader, kind_for, live_ids, write_segment

# Vectors of a segment at most: what is merged is held in memory.
MAX_ROWS = 1_000_000
# A segment is written anew once this share of its vectors is dead.
_DEAD_SHARE = 0.2
# A segment joins the newer ones after it if it has at most so many times their vectors: segments then grow
# geometrically towards the oldest, so that they are few, and a vector is copied a logarithmic number of times.
_GROWTH = 2


def compact(
    index: Path,
    old: Sequence[Segment],
    new: Sequence[Segment],
    dim: int,
    index_type: str,
    *,
    fully: bool = False,
) -> list[Segment]:
    """The segments after merging what is due; new files are written, and none is removed.

    Args:
        index: The index folder.
        old: The segments of the last generation, in the order of their passages.
        new: Those that came since, which become one.
        dim: Numbers in a vector.
        index_type: As of `segments.kind_for`.
        fully: Merge and drop all that can be, due or not.

    Raises:
        OSError: The disk refused.
        DamagedIndexError: A segment that is merged is not what was written.
    """
    return [
        _merged(index, run, dim, index_type) if _is_due(run, fully) or not _suits(run[0], index_type, dim) else run[0]
        for run in _runs(old, new, fully)
    ]


def _suits(segment: Segment, index_type: str, dim: int) -> bool:
    kind = kind_for(index_type, segment.live, dim)
    if index_type in ("auto", "ivf"):
        return (segment.kind == "flat") == (kind == "flat")  # with a few lists more or less
    return segment.kind == kind


def _runs(old: Sequence[Segment], new: Sequence[Segment], fully: bool) -> list[list[Segment]]:
    """Neighbours that become one segment."""
    runs: list[list[Segment]] = []
    live, joined = 0, {segment.uuid for segment in new}
    for segment in reversed([*old, *new]):
        if not segment.live:
            continue
        joins = fully or segment.uuid in joined or segment.live <= _GROWTH * live
        if runs and joins and live + segment.live <= MAX_ROWS:
            runs[-1].insert(0, segment)
            live += segment.live
        else:
            runs.append([segment])
            live = segment.live
    return runs[::-1]


def _is_due(run: Sequence[Segment], fully: bool) -> bool:
    dead = run[0].count - run[0].live
    return len(run) > 1 or dead > (0 if fully else _DEAD_SHARE * run[0].count)


def _merged(index: Path, run: Sequence[Segment], dim: int, index_type: str) -> Segment:
    # What is copied is checked first, lest a damaged vector come under a sound hash.
    for segment in run:
        SegmentReader(index, segment, dim, whole=True)

    def blocks() -> Iterator[Vectors]:
        for segment in run:
            # Opened anew each time: what was read of it leaves the memory with it.
            yield from SegmentReader(index, segment, dim, whole=False).live_blocks()

    ids = np.concatenate([live_ids(segment) for segment in run])
    return write_segment(index, blocks, ids, dim, index_type=index_type)
