"""Segments: immutable FAISS inner-product indexes over L2-normalized vectors."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from semsearch.errors import DamagedIndexError, ModelError
from semsearch.store.files import Segment, check_file, write_durably

# Rows of a segment: they are gathered in memory, so this bounds it (150 MB at 384 dimensions).
SEGMENT_ROWS = 100_000
# What a FAISS file of each kind starts with.
_MAGIC = {"flat": b"IxFI"}


def normalize(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (n, dim) over their L2 norms, so that an inner product is a cosine.

    Raises:
        ModelError: A vector is zero and has no direction.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # (n, 1)
    if not norms.all():
        raise ModelError("the model gave a zero vector, which has no direction; its weights are broken")
    return cast("NDArray[np.float32]", vectors / norms)


def segment_path(index: Path, segment_uuid: str) -> Path:
    """Where a segment stands in an index folder."""
    return index / "segments" / f"{segment_uuid}.faiss"


def write_segment(index: Path, vectors: NDArray[np.float32], first_passage_id: int) -> Segment:
    """Write normalized vectors (n, dim) as a segment; it counts once the manifest names it.

    Raises:
        OSError: The disk refused.
    """
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    name = uuid.uuid4().hex
    failure: list[OSError] = []

    def write(file: Any) -> None:
        def write_block(block: bytes) -> int:
            # An exception does not pass through FAISS, so it is kept; 0 bytes written tells FAISS to stop.
            try:
                return int(file.write(block))
            except OSError as error:
                failure.append(error)
                return 0

        callback: Any = faiss.PyCallbackIOWriter(write_block)  # type: ignore[attr-defined]
        try:
            faiss.write_index(flat, callback)
        except RuntimeError:
            if failure:
                raise failure[0] from None
            raise

    record = write_durably(segment_path(index, name), write)
    return Segment(name, "flat", len(vectors), first_passage_id, record)


class VectorReader:
    """The segments of an index, opened memory-mapped for searching."""

    def __init__(self, index: Path, segments: Sequence[Segment], dim: int) -> None:
        """Check and open the segments.

        Raises:
            DamagedIndexError: A segment is not what was written.
            FileNotFoundError: A segment is not there.
        """
        self._segments = [(segment, _open(index, segment, dim)) for segment in segments]

    def __len__(self) -> int:
        return sum(segment.count for segment, _ in self._segments)

    def search(self, query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """The k passages nearest to a normalized query (dim,): their ids and cosines, the best first."""
        found: list[tuple[int, float]] = []
        for segment, index in self._segments:
            scores, rows = index.search(query[None, :], min(k, segment.count))  # (1, k) each
            found.extend(
                (segment.first_passage_id + int(row), float(score))
                for score, row in zip(scores[0], rows[0], strict=True)
                if row >= 0
            )
        # Of equal scores the earlier passage comes first, so that an answer is the same every time.
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]


def _open(index: Path, segment: Segment, dim: int) -> Any:
    path = segment_path(index, segment.uuid)
    # FAISS trusts the file that it reads: nothing reaches it that was not written by `write_segment`.
    check_file(path, segment.file)
    with path.open("rb") as file:
        if file.read(4) != _MAGIC.get(segment.kind):
            raise DamagedIndexError(f"damaged index: {path} is no FAISS index of kind {segment.kind!r}")
    opened = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    if (opened.metric_type, opened.d, opened.ntotal) != (faiss.METRIC_INNER_PRODUCT, dim, segment.count):
        raise DamagedIndexError(
            f"damaged index: {path} holds {opened.ntotal} vectors of {opened.d} numbers; "
            f"{segment.count} of {dim} are expected"
        )
    return opened
