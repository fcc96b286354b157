"""Approximate nearest neighbours: an index that is searched first, and 16-bit vectors, which rescore what it finds.

`IndexRefine(<a FAISS index>; SQfp16)` over inner products. What is first is by default an inverted file with product
quantization in 4 bits, whose codes are scanned in registers (André et al. 2017). Each vector stands in two of its
lists, the second so chosen that it is probed where the first is missed (Sun et al. 2023, "SOAR"): half as many codes
are scanned for the same recall. FAISS reads the file by itself, and then gives a vector of two probed lists twice.
Rescored in half precision, scores are within 1e-3 of exact ones; and storing a vector that was read back changes
nothing, so that segments may be merged any number of times.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
# Of the lists nearest to a vector its second is one, and what counts there: Sun et al.'s lambda.
_NEAREST_LISTS, _ORTHOGONALITY = 8, 1.0

_SEARCHED_FIRST = (faiss.IndexIVF, faiss.IndexHNSW, faiss.IndexScalarQuantizer)
_HEADER = struct.Struct("<4siqqq?i")
_UNUSED = 1 << 20  # in two fields of FAISS's headers

Vectors = NDArray[np.float32]
Blocks = Callable[[], Iterator[Vectors]]


def default_factory(count: int, dim: int) -> str:
    """What FAISS calls it: about twice as many lists as the root of the count, 4 bits for 4 numbers."""
    lists = int(2 ** np.clip(np.round(np.log2(max(count, 1)) / 2) + 1, 4, 13))
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
    if has_two_lists(base):
        _add_to_two_lists(base, blocks, count)
    else:
        for block in blocks():
            base.add(block)
    _halve_centroids(base)
    # FAISS writes a Refine as a header, its two indexes, and a default factor of candidates.
    header = _HEADER.pack(b"IxRF", dim, count, _UNUSED, _UNUSED, True, faiss.METRIC_INNER_PRODUCT)
    file.write(header)
    _write_faiss(base, file)
    del base
    store = empty_store(dim)
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


def empty_store(dim: int) -> Any:
    """A FAISS index of 16-bit vectors, with none in it."""
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
    with one_thread():
        base.train(sample)
    return base


def has_two_lists(base: Any) -> bool:
    """Whether each vector is in two of the lists of an index."""
    return isinstance(base, faiss.IndexIVFPQFastScan) and base.nlist > 1


def _add_to_two_lists(base: Any, blocks: Blocks, count: int) -> None:
    # An index of which two lists have a vector is not what `add` makes; FAISS converts the lists of one that is not yet
    # in the order of registers.
    lists = faiss.IndexIVFPQ(base.quantizer, base.d, base.nlist, base.pq.M, base.pq.nbits, faiss.METRIC_INNER_PRODUCT)
    lists.by_residual, lists.pq, lists.is_trained = base.by_residual, base.pq, True
    centroids = base.quantizer.reconstruct_n(0, base.nlist)
    products = centroids @ centroids.T  # (nlist, nlist)
    start = 0
    for block in blocks():
        block = np.ascontiguousarray(block, np.float32)
        similarities, nearest = base.quantizer.search(block, min(_NEAREST_LISTS, base.nlist))
        ids = np.arange(start, start + len(block))
        for chosen in (np.ascontiguousarray(nearest[:, 0]), _second_lists(similarities, nearest, products)):
            lists.add_core(len(block), *map(faiss.swig_ptr, (block, ids, chosen)))
        start += len(block)
    packed = faiss.IndexIVFPQFastScan(lists, base.bbs)
    packed.own_invlists = False
    base.replace_invlists(packed.invlists, True)
    base.ntotal = count


def _second_lists(similarities: Vectors, nearest: NDArray[np.int64], products: Vectors) -> NDArray[np.int64]:
    """The second list of each vector.

    The neighbours that are missed are those whose residual r = x - c has the direction of the query. So the second
    centroid c' is that of the least |r'|² + lambda (r'·r / |r|)²: near, and with a residual that has another direction
    (Sun et al. 2023, "SOAR: Improved Indexing for Approximate Nearest Neighbor Search"). Here x, c and c' are of unit
    length.

    Args:
        similarities: Inner products with the nearest centroids, (n, 8), the largest first.
        nearest: Their lists, (n, 8).
        products: Inner products of all centroids, (nlist, nlist).

    Returns:
        Lists, (n,).
    """
    first, others = similarities[:, :1], similarities[:, 1:]  # (n, 1), (n, 7)
    along = 1 - first - others + products[nearest[:, :1], nearest[:, 1:]]  # r'·r
    loss = 2 - 2 * others + _ORTHOGONALITY * along**2 / np.maximum(2 - 2 * first, 1e-6)
    return np.ascontiguousarray(nearest[np.arange(len(nearest)), 1 + loss.argmin(1)])


def _halve_centroids(base: Any) -> None:
    """Keep the centroids in 16 bits: a query reads all of them, and adding, which is faster in 32, is done."""
    if not isinstance(base, faiss.IndexIVF) or not isinstance(faiss.downcast_index(base.quantizer), faiss.IndexFlat):
        return
    halved = empty_store(base.d)
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
def one_thread() -> Iterator[None]:
    """Have FAISS use no threads but the caller's.

    A parallel loop ends in a spinning wait, which takes the processor from what comes next: NumPy's threads encode a
    query in 25 ms instead of 8 after a search, and of the tens of thousands of tiny loops of training each costs a
    whole time slice whenever another process has the other processor, 40 s instead of 3. One query gains nothing by
    FAISS's threads, which share out queries.
    """
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def neighbours(vectors: Vectors, k: int) -> NDArray[np.int64]:
    """Of each of some vectors (n, dim) the k that are nearest by Euclidean distance, itself among them, (n, k)."""
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    _, near = index.search(vectors, k)
    found: NDArray[np.int64] = near
    return found
