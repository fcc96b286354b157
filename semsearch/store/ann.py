"""Approximate nearest neighbours: an index that is searched first, and 16-bit vectors, which rescore what it finds.

`IndexRefine(<a FAISS index>; SQfp16)` over inner products. What is first is by default an inverted file with product
quantization in 4 bits, whose codes are scanned in registers (André et al. 2017). Rescored in half precision, scores are
within 1e-3 of exact ones; and storing a vector that was read back changes nothing, so that segments may be merged any
number of times.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from semsearch.errors import InvalidInputError
from semsearch.store.files import FileRecord, HashingFile

# The stubs of FAISS lack parameters of its wrappers.
faiss: Any = _faiss

# What the sample and the k-means start from: the same vectors give the same file.
_SEED = 20_240_601
# Vectors of the training sample per inverted list, and iterations of k-means: more of either made no difference at
# 100,000 vectors (recall@10 .9937; with 300 per list or 20 iterations .9939 and .9932).
_SAMPLE_PER_LIST, _ITERATIONS = 64, 10
_LEAST_SAMPLE = 4096
# Candidates that are rescored for k hits: so many times k, and no fewer than the least.
_RESCORED_PER_HIT, _RESCORED_LEAST = 20, 400
# The lists probed, over the root of their number. At a million vectors that is 112 of 1,024, and a recall@10 of .994.
_EFFORT = 3.5
# Of so many vectors that a filter lets through, each is scored: if they are of one topic they are in lists far from a
# query of another, and probing finds .6 of its hits where each is a hundredth of the whole.
_EXACT_SURVIVORS = 20_000

_SEARCHED_FIRST = (faiss.IndexIVF, faiss.IndexHNSW, faiss.IndexScalarQuantizer)
_HEADER = struct.Struct("<4siqqq?i")
_UNUSED = 1 << 20  # in two fields of FAISS's headers

Vectors = NDArray[np.float32]
Blocks = Callable[[], Iterator[Vectors]]


def default_factory(count: int, dim: int) -> str:
    """What FAISS calls it: about as many lists as the root of the count, 4 bits for 4 numbers."""
    lists = int(2 ** np.clip(np.round(np.log2(max(count, 1)) / 2), 4, 13))
    parts = next(parts for parts in range(max(dim // 4, 1), 0, -1) if dim % parts == 0)
    return f"IVF{lists},PQ{parts}x4fs"


def check_factory(factory: str, dim: int) -> None:
    """Refuse what cannot be an index that is searched first.

    Raises:
        InvalidInputError: FAISS does not know it, or searches in it cannot be filtered.
    """
    try:
        built = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        supported = isinstance(built, _SEARCHED_FIRST) and getattr(built, "nlist", 1) > 0
    except RuntimeError:
        supported = False
    if not supported:
        raise InvalidInputError(
            f"{factory!r} is no index type for vectors of {dim} numbers; give auto, flat, ivf, or a FAISS factory "
            "string of an IVF, HNSW or SQ index, such as IVF1024,PQ96x4fs or HNSW32"
        )


def least_rows(factory: str, dim: int) -> int:
    """Vectors that an index of a kind needs at least to be trained."""
    built = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    return 2 * built.nlist if isinstance(built, faiss.IndexIVF) else 256


def write_ann(file: HashingFile, blocks: Blocks, count: int, dim: int, factory: str) -> FileRecord:
    """Write an index of vectors, which are passed through three times and never held.

    Args:
        file: Where to.
        blocks: Gives the normalized vectors, (some, dim) at a time.
        count: How many there are.
        dim: Numbers in a vector.
        factory: Of the index that is searched first.

    Returns:
        What stands before the vectors, which FAISS takes apart when it opens the file.

    Raises:
        OSError: The disk refused.
    """
    base = _trained(blocks, count, dim, factory)
    for block in blocks():
        base.add(block)
    _halve_centroids(base)
    # FAISS writes a Refine as a header, its two indexes, and a default factor of candidates.
    header = _HEADER.pack(b"IxRF", dim, count, _UNUSED, _UNUSED, True, faiss.METRIC_INNER_PRODUCT)
    file.write(header)
    _write_faiss(base, file)
    del base
    store = _empty_store(dim)
    store.ntotal = count
    # It ends with the number of bytes of vectors, of which it has none itself.
    file.write(faiss.serialize_index(store).tobytes()[:-8] + struct.pack("<Q", count * store.code_size))
    front = file.record()
    for block in blocks():
        # Not astype: FAISS rounds ties away from even.
        file.write(store.sa_encode(np.ascontiguousarray(block)).tobytes())
    file.write(struct.pack("<f", 1.0))
    return front


def stored_vectors(data: NDArray[np.uint8], count: int, dim: int) -> NDArray[np.float16]:
    """The vectors (count, dim) in the bytes of a file of `write_ann`, of which nothing else is read.

    Raises:
        ValueError: It is too short.
    """
    size = 2 * count * dim
    if len(data) < size + 4:
        raise ValueError(f"{len(data)} bytes do not hold {count} vectors of {dim} numbers")
    return data[len(data) - size - 4 : len(data) - 4].view(np.float16).reshape(count, dim)


def vectors_of(index: Any) -> Any:
    """The part of an index of `write_ann` that has the vectors; it must not outlive the index."""
    return faiss.downcast_index(index.refine_index)


def search_ann(
    index: Any, query: Vectors, k: int, wanted: NDArray[np.bool_] | None, effort: float
) -> tuple[Vectors, NDArray[np.int64]]:
    """The k vectors of the largest inner products with a query (dim,), the best first; k, where there are so many.

    Args:
        index: What `write_ann` wrote, as FAISS opens it.
        query: A normalized vector.
        k: How many.
        wanted: Which vectors are looked at, (n,); None for all.
        effort: How much is looked at, as a multiple of what gives a recall@10 of .99.

    Returns:
        Inner products and rows, (k or as many as there are,) each.
    """
    matrix = np.ascontiguousarray(query, np.float32)[None, :]
    survivors = index.ntotal if wanted is None else int(wanted.sum())
    selector = None if wanted is None else faiss.IDSelectorBitmap(np.packbits(wanted, bitorder="little"))
    k = min(k, survivors)
    if not k:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    candidates = math.ceil(
        max(_RESCORED_PER_HIT * k, _RESCORED_LEAST) * max(effort, 1) * (1 if selector is None else 2)
    )
    candidates = min(candidates, survivors)
    if selector is not None and survivors <= max(_EXACT_SURVIVORS, candidates):
        return _exactly(index, matrix, k, selector)
    base = faiss.downcast_index(index.base_index)
    if selector is None:
        parameters = _unfiltered(base.__class__, getattr(base, "nlist", 0), effort, candidates / k)
    else:
        # The fewer there are the farther away they may be.
        parameters = _parameters(
            type(base),
            getattr(base, "nlist", 0),
            effort * math.sqrt(index.ntotal / survivors),
            candidates / k,
            selector,
        )
    scores, rows = index.search(matrix, k, params=parameters)  # (1, k) each
    return (scores[0], rows[0]) if rows[0, -1] >= 0 else _exactly(index, matrix, k, selector)


def _exactly(index: Any, matrix: Vectors, k: int, selector: Any) -> tuple[Vectors, NDArray[np.int64]]:
    scores, rows = vectors_of(index).search(matrix, k, params=faiss.SearchParameters(sel=selector))
    return scores[0], rows[0]


def _parameters(kind: type, lists: int, effort: float, k_factor: float, selector: Any) -> Any:
    if issubclass(kind, faiss.IndexIVF):
        probes = math.ceil(_EFFORT * effort * math.sqrt(lists))
        inner = faiss.SearchParametersIVF(nprobe=max(1, min(probes, lists)), sel=selector)
    elif issubclass(kind, faiss.IndexHNSW):
        inner = faiss.SearchParametersHNSW(efSearch=max(16, math.ceil(256 * effort)), sel=selector)
    else:
        inner = faiss.SearchParameters(sel=selector)
    # Selection is the inner search's: FAISS passes over a selector of the outer parameters.
    return faiss.IndexRefineSearchParameters(k_factor=k_factor, base_index_params=inner)


@lru_cache(maxsize=64)
def _unfiltered(kind: type, lists: int, effort: float, k_factor: float) -> Any:
    """The parameters of a search without a filter, kept: making them takes a tenth of a search."""
    return _parameters(kind, lists, effort, k_factor, None)


def _write_faiss(built: Any, file: HashingFile) -> None:
    failure: list[OSError] = []

    def write_block(block: bytes) -> int:
        # An exception does not pass through FAISS, so it is kept; 0 bytes written tells FAISS to stop.
        try:
            return int(file.write(block))
        except OSError as error:
            failure.append(error)
            return 0

    callback = faiss.PyCallbackIOWriter(write_block)
    try:
        faiss.write_index(built, callback)
    except RuntimeError:
        if failure:
            raise failure[0] from None
        raise


def _empty_store(dim: int) -> Any:
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def _trained(blocks: Blocks, count: int, dim: int, factory: str) -> Any:
    base = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    if base.is_trained:
        return base
    is_ivf = isinstance(base, faiss.IndexIVF)
    sample = _sample(blocks, count, dim, max(_SAMPLE_PER_LIST * base.nlist if is_ivf else 0, _LEAST_SAMPLE))
    if is_ivf:
        # FAISS takes a quantizer that holds its centroids as trained.
        means = faiss.Clustering(dim, base.nlist)
        means.niter, means.seed, means.spherical, means.min_points_per_centroid = _ITERATIONS, _SEED, True, 1
        means.train(sample, base.quantizer)
    if hasattr(base, "pq"):
        base.pq.cp.min_points_per_centroid = 1
    with _one_thread():
        base.train(sample)
    return base


def _halve_centroids(base: Any) -> None:
    """Keep the centroids in 16 bits: a query reads all of them, and adding, which is faster in 32, is done."""
    if not isinstance(base, faiss.IndexIVF) or not isinstance(faiss.downcast_index(base.quantizer), faiss.IndexFlat):
        return
    halved = _empty_store(base.d)
    halved.add(faiss.downcast_index(base.quantizer).reconstruct_n(0, base.nlist))
    halved.this.disown()
    base.quantizer.this.acquire()
    base.quantizer = halved


def _sample(blocks: Blocks, count: int, dim: int, size: int) -> Vectors:
    """Vectors drawn without return, in their order."""
    chosen = np.arange(count)
    if size < count:
        chosen = np.sort(np.random.default_rng(_SEED).choice(count, size, replace=False, shuffle=False))
    sample = np.empty((len(chosen), dim), np.float32)
    start = filled = 0
    for block in blocks():
        stop = start + len(block)
        end = int(np.searchsorted(chosen, stop))
        sample[filled:end] = block[chosen[filled:end] - start]
        start, filled = stop, end
    return sample


@contextmanager
def _one_thread() -> Iterator[None]:
    # Training the codes is tens of thousands of tiny parallel loops. With several threads each ends in a spinning wait,
    # which takes a whole time slice whenever another process has the other processor: 40 s instead of 3.
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
