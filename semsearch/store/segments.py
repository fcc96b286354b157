"""Segments: immutable FAISS inner-product indexes over L2-normalized vectors."""

from __future__ import annotations

import dataclasses
import struct
import uuid
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from semsearch.errors import DamagedIndexError, ModelError
from semsearch.store.ann import Blocks, Vectors, default_factory, least_rows, one_thread, write_ann
from semsearch.store.ann_search import ApproximateIndex
from semsearch.store.files import REMEDY, FileRecord, HashingFile, check_file, check_front, check_size, write_durably
from semsearch.store.manifest import Segment
from semsearch.store.mapping import map_ahead
from semsearch.store.scored import NONE, Scored, best

# Rows that are read or written at a time.
BLOCK_ROWS = 8192
# What opening an index may hash: more than that takes longer than a query. `verify` hashes all of it.
HASHED_BYTES = 64 * 2**20
# What a FAISS file of an IndexFlatIP starts with: type, dimension, rows, two fields out of use, whether it is trained,
# metric, numbers that follow.
_FLAT_HEADER = struct.Struct("<4siqqq?iQ")
# Vectors of a segment from which on approximate search pays: exact search of 50,000 x 384 takes 10 ms, this below 1.
_ANN_ROWS = 50_000
# Fewer than these are searched exactly whatever is asked for.
_LEAST_ANN_ROWS = 1000
# Rows that several queries are multiplied with at a time: 32 MB of products for 64 queries.
_ROWS_AT_ONCE, _ROWS_IN_CACHE = 1 << 17, 512
# Of so few rows each is read by itself, rather than all of a segment looked through.
_FEW_ROWS = 2000

# Inner products, the largest first, and rows; (n,) each.
Found = tuple[Vectors, NDArray[np.int64]]


def normalize(vectors: Vectors) -> Vectors:
    """Vectors (n, dim) over their L2 norms, so that an inner product is a cosine.

    Raises:
        ModelError: A vector is zero and has no direction.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # (n, 1)
    if not norms.all():
        raise ModelError("the model gave a zero vector, which has no direction; its weights are broken")
    return cast("Vectors", vectors / norms)


def segment_path(index: Path, segment_uuid: str) -> Path:
    """Where a segment stands in an index folder."""
    return index / "segments" / f"{segment_uuid}.faiss"


def write_segment(
    index: Path, blocks: Blocks, ids: NDArray[np.int64], dim: int, *, index_type: str = "flat"
) -> Segment:
    """Write normalized vectors as a segment; it counts once the manifest names it.

    Args:
        index: The index folder.
        blocks: Gives the vectors, (some, dim) at a time, as often as it is called.
        ids: Of their passages, (n,), ascending.
        dim: Numbers in a vector.
        index_type: As of `kind_for`.

    Raises:
        OSError: The disk refused.
    """
    name, count = uuid.uuid4().hex, len(ids)
    kind = kind_for(index_type, count, dim)
    front: FileRecord | None = None

    def write(file: HashingFile) -> None:
        nonlocal front
        if kind != "flat":
            front = write_ann(file, blocks, count, dim, kind)
            return
        file.write(_flat_header(count, dim))
        for block in blocks():
            file.write(np.ascontiguousarray(block, "<f4").tobytes())

    record = write_durably(segment_path(index, name), write)
    first = int(ids[0])
    offsets = (ids - first).astype("<u4")
    consecutive = int(offsets[-1]) == count - 1
    return Segment(name, kind, count, first, None if consecutive else offsets.tobytes(), None, record, front)


def kind_for(index_type: str, count: int, dim: int) -> str:
    """The kind of a segment of so many vectors.

    Args:
        index_type: "auto" for exact search while it is fast, then approximate; "flat" for exact search always; "ivf"
            for approximate search early; or a FAISS factory string of what is then searched first.
        count: Vectors.
        dim: Numbers in a vector.
    """
    if index_type == "flat" or count < (_ANN_ROWS if index_type == "auto" else _LEAST_ANN_ROWS):
        return "flat"
    if index_type in ("auto", "ivf"):
        return default_factory(count, dim)
    return index_type if count >= least_rows(index_type, dim) else "flat"


class SegmentReader:
    """A segment, opened memory-mapped."""

    def __init__(self, index: Path, segment: Segment, dim: int, *, whole: bool) -> None:
        """Check and open a segment.

        Args:
            index: The index folder.
            segment: Its row in the manifest.
            dim: Numbers in a vector.
            whole: Whether all of the file is hashed, or its length compared alone.

        Raises:
            DamagedIndexError: It is not what was written.
            FileNotFoundError: It is not there.
        """
        self.segment = segment
        self._path = segment_path(index, segment.uuid)
        # FAISS trusts the file that it reads: whatever it takes apart has been compared with what was written.
        (check_file if whole else check_size)(self._path, segment.file)
        if segment.front:
            check_front(self._path, segment.front)
        elif not self._is_flat(dim):
            raise self._damaged(f"it is no index of {segment.count} vectors of {dim} numbers")
        try:
            self._index = faiss.read_index(str(self._path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError:
            raise self._damaged("FAISS cannot read it") from None
        found = (self._index.metric_type, self._index.d, self._index.ntotal)
        if found != (faiss.METRIC_INNER_PRODUCT, dim, segment.count):
            raise self._damaged(
                f"it holds {found[2]} vectors of {found[1]} numbers, {segment.count} of {dim} are expected"
            )
        self._approximate = ApproximateIndex(self._index) if segment.front else None
        self._searches = 0

    def _is_flat(self, dim: int) -> bool:
        header = _flat_header(self.segment.count, dim)
        with self._path.open("rb") as file:
            begins = file.read(len(header)) == header
        return begins and self.segment.file.size == len(header) + 4 * self.segment.count * dim

    def _damaged(self, why: str) -> DamagedIndexError:
        return DamagedIndexError(f"damaged index: {self._path}: {why}; {REMEDY}")

    @cached_property
    def live(self) -> NDArray[np.bool_] | None:
        """Which vectors' passages are there, (n,); None for all of them."""
        return live_rows(self.segment)

    @cached_property
    def _matrix(self) -> Vectors:
        """The vectors (n, dim) of an index that is searched exactly, where they are mapped."""
        index: Any = self._index
        matrix: Vectors = faiss.rev_swig_ptr(index.get_xb(), self.segment.count * index.d)
        return matrix.reshape(self.segment.count, -1)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """The vectors (n, dim) of these rows."""
        vectors: Vectors = self._approximate.vectors(rows) if self._approximate else self._index.reconstruct_batch(rows)
        return vectors

    def live_blocks(self) -> Iterator[Vectors]:
        """The vectors whose passages are there, in order, (some, dim) at a time."""
        rows = np.arange(self.segment.count) if self.live is None else np.flatnonzero(self.live)
        for start in range(0, len(rows), BLOCK_ROWS):
            yield self.vectors(rows[start : start + BLOCK_ROWS])

    def search(self, query: Vectors, k: int, allowed: NDArray[np.int64] | None = None, effort: float = 1.0) -> Found:
        """The k vectors nearest to a query (dim,) whose passages are there, and among `allowed` where given.

        Returns:
            Inner products, the largest first, and rows; (k or as many as there are,) each.
        """
        wanted = self.live
        if allowed is not None:
            wanted = np.zeros(self.segment.count, bool)
            wanted[rows_of(self.segment, allowed)] = True
            if self.live is not None:
                wanted &= self.live
            if wanted.sum() <= _FEW_ROWS:
                return self._search_few(query, k, np.flatnonzero(wanted))
        if self._approximate:
            self._expect_more()
            return self._approximate.search(query, k, wanted, effort)
        parameters = None
        if wanted is not None:
            selector: Any = faiss.IDSelectorBitmap
            parameters = cast("Any", faiss.SearchParameters)(sel=selector(np.packbits(wanted, bitorder="little")))
        scores, rows = self._index.search(query[None, :], min(k, self.segment.live), params=parameters)  # (1, k) each
        found = rows[0] >= 0
        return scores[0][found], rows[0][found]

    def search_batch(self, queries: Vectors, k: int, effort: float) -> list[Found]:
        """As `search`, for several queries (n, dim)."""
        if self._approximate or len(queries) == 1:
            return [self.search(query, k, None, effort) for query in queries]
        # Exactly, what is read of memory is read once for all of them.
        k = min(k, self.segment.live)
        nearest: list[Found] = [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(queries)
        for start in range(0, self.segment.count, _ROWS_AT_ONCE):
            products = _products(self._matrix[start : start + _ROWS_AT_ONCE], queries)
            if self.live is not None:
                products[:, ~self.live[start : start + _ROWS_AT_ONCE]] = -np.inf
            for number, own in enumerate(products):
                candidates = _about(own, k)
                scores = np.concatenate([nearest[number][0], own[candidates]])
                rows = np.concatenate([nearest[number][1], start + candidates])
                order = np.lexsort((rows, -scores))[:k]
                nearest[number] = scores[order], rows[order]
        return nearest

    def _expect_more(self) -> None:
        """One query reads what it needs; where a second comes, more will."""
        self._searches += 1
        if self._searches == 2 and self._approximate and self.segment.front:
            start = self._approximate.vectors_address - self.segment.front.size
            map_ahead(start, self.segment.file.size, self._index)

    def _search_few(self, query: Vectors, k: int, rows: NDArray[np.int64]) -> tuple[Vectors, NDArray[np.int64]]:
        scores = self.vectors(rows) @ query if len(rows) else np.empty(0, np.float32)
        best = np.argsort(-scores, kind="stable")[:k]
        return scores[best], rows[best]


def _products(vectors: Vectors, queries: Vectors) -> Vectors:
    """The inner products (queries, n) of vectors (n, dim) and queries."""
    # Few rows at a time stay in a processor's cache while they are laid out for it: it takes half as long.
    products = np.empty((len(vectors), len(queries)), np.float32)
    columns = np.ascontiguousarray(queries.T)
    for start in range(0, len(vectors), _ROWS_IN_CACHE):
        end = start + _ROWS_IN_CACHE
        np.matmul(vectors[start:end], columns, out=products[start:end])
    return np.ascontiguousarray(products.T)


def _about(scores: Vectors, k: int) -> NDArray[np.int64]:
    """Where the k largest are, and few others: all that are not below the k-th largest of the maxima of 4 k pieces."""
    length = len(scores) // (4 * k)
    if length < 4:
        return np.arange(len(scores))
    maxima = scores[: 4 * k * length].reshape(4 * k, length).max(axis=1)
    return np.flatnonzero(scores >= np.partition(maxima, -k)[-k])


def _flat_header(count: int, dim: int) -> bytes:
    unused = 1 << 20
    return _FLAT_HEADER.pack(b"IxFI", dim, count, unused, unused, True, faiss.METRIC_INNER_PRODUCT, count * dim)


class VectorReader:
    """The segments of a generation, for searching."""

    def __init__(self, index: Path, segments: Sequence[Segment], dim: int) -> None:
        """Check and open the segments; else as `SegmentReader`."""
        self._dim = dim
        left = HASHED_BYTES
        self._readers: list[SegmentReader] = []
        for segment in segments:
            left -= segment.file.size
            self._readers.append(SegmentReader(index, segment, dim, whole=left >= 0))
        self._live = [reader for reader in self._readers if reader.segment.live]

    def __len__(self) -> int:
        return sum(reader.segment.live for reader in self._readers)

    def ids(self) -> NDArray[np.int64]:
        """The ids, ascending, of the passages that are there, (n,)."""
        return np.concatenate([np.empty(0, np.int64), *(live_ids(reader.segment) for reader in self._readers)])

    def vectors(self, ids: NDArray[np.int64]) -> Vectors:
        """The vectors (n, dim) of passages that are there."""
        found = np.empty((len(ids), self._dim), np.float32)
        order = np.argsort(ids)
        ascending = ids[order]
        for reader in self._readers:
            segment = reader.segment
            own = order[slice(*np.searchsorted(ascending, [segment.first_passage_id, segment.last_passage_id + 1]))]
            if len(own):
                with one_thread():
                    found[own] = reader.vectors(rows_of(segment, ids[own]))
        return found

    def search(self, query: Vectors, k: int, allowed: NDArray[np.int64] | None = None, effort: float = 1.0) -> Scored:
        """The k passages nearest to a normalized query (dim,), by their cosines.

        Args:
            query: What is looked for.
            k: How many at most.
            allowed: Ids, ascending, that are looked through alone.
            effort: Of approximate search: more finds more and takes longer; 1 gives a recall@10 of about .99.
        """
        with one_thread():
            return self._joined([reader.search(query, k, allowed, effort) for reader in self._live], k)

    def search_batch(self, queries: Vectors, k: int, effort: float = 1.0) -> list[Scored]:
        """As `search`, for several queries (n, dim), which takes less time than one after the other."""
        with one_thread():
            found = [reader.search_batch(queries, k, effort) for reader in self._live]
        return [self._joined([several[at] for several in found], k) for at in range(len(queries))]

    def _joined(self, found: Sequence[Found], k: int) -> Scored:
        """The k best of what each of the live segments gave."""
        if not found:
            return NONE
        ids = [passage_ids(reader.segment, rows) for reader, (_, rows) in zip(self._live, found, strict=True)]
        return best(np.concatenate(ids), np.concatenate([scores for scores, _ in found]), k)


def all_ids(segment: Segment) -> NDArray[np.int64]:
    """The ids of a segment's passages, (n,), those that are gone too."""
    if segment.ids is None:
        return np.arange(segment.first_passage_id, segment.first_passage_id + segment.count)
    return segment.first_passage_id + np.frombuffer(segment.ids, "<u4").astype(np.int64)


def passage_ids(segment: Segment, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids (n,) of the passages of these of a segment's vectors."""
    offsets = rows if segment.ids is None else np.frombuffer(segment.ids, "<u4")[rows].astype(np.int64)
    return segment.first_passage_id + offsets


def live_rows(segment: Segment) -> NDArray[np.bool_] | None:
    """Which of a segment's vectors have passages that are there, (n,); None for all of them."""
    if segment.dead is None:
        return None
    bits = np.unpackbits(np.frombuffer(segment.dead, np.uint8), count=segment.count, bitorder="little")
    return cast("NDArray[np.bool_]", bits == 0)


def live_ids(segment: Segment) -> NDArray[np.int64]:
    """The ids of a segment's passages that are there, ascending."""
    live = live_rows(segment)
    return all_ids(segment) if live is None else all_ids(segment)[live]


def rows_of(segment: Segment, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of those of these ids, ascending, that the segment has."""
    start, end = np.searchsorted(ids, [segment.first_passage_id, segment.last_passage_id + 1])
    some = ids[start:end]
    if segment.ids is None:
        return some - segment.first_passage_id
    own = all_ids(segment)
    rows = np.searchsorted(own, some)
    present: NDArray[np.int64] = rows[own[rows] == some]
    return present


def without(segment: Segment, removed: NDArray[np.int64]) -> Segment:
    """The segment when the passages of these ids, ascending, are gone."""
    rows = rows_of(segment, removed)
    if not len(rows):
        return segment
    live = live_rows(segment)
    dead = np.zeros(segment.count, bool) if live is None else ~live
    dead[rows] = True
    return dataclasses.replace(segment, dead=np.packbits(dead, bitorder="little").tobytes())
