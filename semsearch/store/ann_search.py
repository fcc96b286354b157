"""Search in approximate segments: lists are probed, codes give estimates, and 16-bit vectors rescore the best."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semsearch.store.ann import Vectors, empty_store, faiss, has_two_lists

# Candidates for k hits: so many times k, and no fewer than the least. One that is in two probed lists counts twice.
_CANDIDATES_PER_HIT, _LEAST_CANDIDATES = 20, 700
# Of these, those rescored at first, and how far behind the last hit an estimate may be, in standard deviations of the
# errors of the first. Where many vectors lie close together more are rescored: of a million that are 30,000 with noise,
# 530 instead of 280, for a recall@10 of .991; 300 give .96.
_FIRST_PER_HIT, _LEAST_FIRST, _DEVIATIONS = 4, 100, 3.3
# The lists probed, over the root of their number, where a vector is in one of them, and where it is in two.
_PROBES, _PROBES_OF_TWO = 3.5, 2.0
# Of those lists none is probed whose centroid's cosine is so far behind that of the nearest: .26 where there are 2,048
# lists, which at a million vectors leaves 30 of 91, and .29 of 512, whose centroids are farther from their vectors.
_GAP, _GAP_EXPONENT = 0.49, -1 / 12
# Of so many vectors that a filter lets through, each is scored: if they are of one topic they are in lists far from a
# query of another, and probing finds .6 of its hits where each is a hundredth of the whole.
_EXACT_SURVIVORS = 20_000


class ApproximateIndex:
    """An index of `ann.write_ann`, opened."""

    def __init__(self, index: Any) -> None:
        """Take an index as FAISS opened it."""
        self._index = index  # holds what the others are parts of
        self._base = faiss.downcast_index(index.base_index)
        self._store = faiss.downcast_index(index.refine_index)
        size = self._store.code_size
        # The bytes (n, 2 * dim) of the vectors where they are, which is in the file.
        self._codes = faiss.rev_swig_ptr(self._store.codes.data(), index.ntotal * size).reshape(-1, size)

    @property
    def vectors_address(self) -> int:
        """Where the bytes of the vectors begin in memory."""
        return int(self._codes.ctypes.data)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """The vectors (n, dim) of these rows."""
        halves: NDArray[np.float16] = self._codes[rows].view(np.float16)
        return halves.astype(np.float32)

    def search(
        self, query: Vectors, k: int, wanted: NDArray[np.bool_] | None, effort: float
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """The k vectors of the largest inner products with a query (dim,), the best first; k, where there are so many.

        Args:
            query: A normalized vector.
            k: How many.
            wanted: Which vectors are looked at, (n,); None for all.
            effort: How much is looked at, as a multiple of what gives a recall@10 of .99.

        Returns:
            Inner products and rows, (k or as many as there are,) each.
        """
        matrix = np.ascontiguousarray(query, np.float32)[None, :]
        count: int = self._index.ntotal
        survivors, selector = count, None
        if wanted is not None:
            survivors = int(wanted.sum())
            selector = faiss.IDSelectorBitmap(np.packbits(wanted, bitorder="little"))
        k = min(k, survivors)
        if not k:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        candidates = max(_CANDIDATES_PER_HIT * k, _LEAST_CANDIDATES)
        if selector is not None:
            if survivors <= max(_EXACT_SURVIVORS, candidates):
                return self._exactly(matrix, k, selector)
            # The fewer there are the farther away they may be.
            effort *= math.sqrt(count / survivors)
        while True:
            candidates = min(candidates, 2 * survivors)
            estimates, rows, all_of_them = self._candidates(matrix, candidates, effort, selector)
            if len(rows) < k:
                return self._exactly(matrix, k, selector)
            scores, places, enough = self._rescored(matrix, k, estimates, rows, effort)
            if enough or all_of_them or candidates == 2 * survivors:
                return scores, rows[places]
            candidates *= 4

    def _candidates(
        self, matrix: Vectors, count: int, effort: float, selector: Any
    ) -> tuple[Vectors, NDArray[np.int64], bool]:
        """Rows that may be the nearest.

        Returns:
            Estimates of their inner products, the largest first, and rows, (count or fewer,) each; and whether it is
            all that was looked at.
        """
        base = self._base
        if isinstance(base, faiss.IndexIVF):
            of_two = has_two_lists(base)
            probes = math.ceil((_PROBES_OF_TWO if of_two else _PROBES) * effort * math.sqrt(base.nlist))
            parameters = _ivf_parameters(min(probes, base.nlist), selector)
            similarities, lists = base.quantizer.search(matrix, parameters.nprobe)  # (1, nprobe) each
            if of_two:
                lists[similarities < similarities[0, 0] - _GAP * base.nlist**_GAP_EXPONENT * effort] = -1
            estimates, rows = np.empty((1, count), np.float32), np.empty((1, count), np.int64)
            # The wrapper of `search_preassigned` takes no parameters.
            given = [faiss.swig_ptr(array) for array in (matrix, lists, similarities, estimates, rows)]
            base.search_preassigned_c(1, given[0], count, *given[1:], False, parameters)
        else:
            parameters = faiss.SearchParameters(sel=selector)
            if isinstance(base, faiss.IndexHNSW):
                parameters = faiss.SearchParametersHNSW(efSearch=max(16, math.ceil(256 * effort)), sel=selector)
            estimates, rows = base.search(matrix, min(count, base.ntotal), params=parameters)
        own, first = np.unique(rows[0], return_index=True)
        first = np.sort(first[own >= 0])
        return estimates[0, first], rows[0, first], bool(rows[0, -1] < 0 or len(rows[0]) == base.ntotal)

    def _rescored(
        self, matrix: Vectors, k: int, estimates: Vectors, rows: NDArray[np.int64], effort: float
    ) -> tuple[Vectors, NDArray[np.int64], bool]:
        """The k best of candidates, of which as many are rescored as the errors of the first call for.

        Returns:
            Inner products, the largest first, and places among the candidates, (k,) each; and whether candidates behind
            these are unlikely to be better.
        """
        start = min(max(_FIRST_PER_HIT * k, _LEAST_FIRST), len(rows))
        exact = self._products(matrix, rows[:start])
        errors = exact - estimates[:start]
        reach = np.partition(exact, -k)[-k] - errors.mean() - _DEVIATIONS * effort * errors.std()
        end = int(np.searchsorted(-estimates, -reach))
        if end > start:
            exact = np.concatenate([exact, self._products(matrix, rows[start:end])])
        best = np.argsort(-exact, kind="stable")[:k]
        return exact[best], best, end < len(rows)

    def _products(self, matrix: Vectors, rows: NDArray[np.int64]) -> Vectors:
        """Inner products (n,) with the vectors of these rows."""
        # FAISS multiplies 16-bit numbers in registers; NumPy would convert them first, which takes six times as long.
        some = empty_store(matrix.shape[1])
        some.add_sa_codes(self._codes[rows])
        scores, places = some.search(matrix, len(rows))  # (1, n) each
        products = np.empty(len(rows), np.float32)
        products[places[0]] = scores[0]
        return products

    def _exactly(self, matrix: Vectors, k: int, selector: Any) -> tuple[Vectors, NDArray[np.int64]]:
        scores, rows = self._store.search(matrix, k, params=faiss.SearchParameters(sel=selector))
        return scores[0], rows[0]


def _ivf_parameters(probes: int, selector: Any) -> Any:
    if selector is None:
        return _unfiltered(probes)
    return faiss.SearchParametersIVF(nprobe=probes, sel=selector)


@lru_cache(maxsize=64)
def _unfiltered(probes: int) -> Any:
    """The parameters of a search without a filter, kept: making them takes a tenth of a search."""
    return faiss.SearchParametersIVF(nprobe=probes)
