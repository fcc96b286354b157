"""How many documents there are by folder, type and date: what a search can be narrowed to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semsearch.store.database import Database


@dataclass(frozen=True, slots=True)
class Facet:
    """A value that a search can be narrowed to, and how many documents are left then."""

    value: str
    documents: int


@dataclass(frozen=True, slots=True)
class Facets:
    """What there is, of each kind under what is chosen of the other two.

    Attributes:
        documents: Those for which all that is chosen holds.
        folders: The folders right in the one that is chosen, or in the root, with a slash behind: "docs/api/".
        types: Suffixes, in small letters and without the dot: "md".
        dates: Years; of a year that is chosen its months, of a month its days: "2026", "2026-03", "2026-03-31".
    """

    documents: int
    folders: tuple[Facet, ...]
    types: tuple[Facet, ...]
    dates: tuple[Facet, ...]


class FacetIndex:
    """What the documents of a generation are counted by."""

    def __init__(self, database: Database) -> None:
        """Read it."""
        rows = list(database.document_files())
        self._ids = np.array([row[0] for row in rows], np.int64)
        self._folders = _Values(path[: path.rfind("/") + 1] for _, path, _ in rows)
        self._types = _Values(_suffix(path) for _, path, _ in rows)
        nanoseconds = np.array([row[2] for row in rows], np.int64)
        self._dates = _Values(np.datetime_as_string(nanoseconds.view("M8[ns]"), unit="D", timezone="UTC").tolist())

    def counted(self, matching: NDArray[np.int64] | None, folder: str, type: str, date: str) -> Facets:
        """Count.

        Args:
            matching: Ids of the documents that are counted; None for all.
            folder: What is chosen, as of `Facets`, or empty.
            type: The same.
            date: The same.
        """
        whole = np.ones(len(self._ids), bool) if matching is None else np.isin(self._ids, matching)
        in_folder = self._folders.of([value.startswith(folder) for value in self._folders.names])
        of_type = self._types.of([not type or value == type for value in self._types.names])
        of_date = self._dates.of([value.startswith(date) for value in self._dates.names])
        folders, types, dates = Counter[str](), Counter[str](), Counter[str]()
        for value, count in self._folders.counts(whole & of_type & of_date):
            if value.startswith(folder) and value != folder:
                folders[value[: value.index("/", len(folder)) + 1]] += count
        for value, count in self._types.counts(whole & in_folder & of_date):
            if value:
                types[value] += count
        for value, count in self._dates.counts(whole & in_folder & of_type):
            if value.startswith(date):
                dates[value[: {0: 4, 4: 7}.get(len(date), 10)]] += count
        return _ordered(int((whole & in_folder & of_type & of_date).sum()), folders, types, dates)


class _Values:
    """One value of each document, by the different ones that there are."""

    def __init__(self, values: Iterable[str]) -> None:
        numbers: dict[str, int] = {}
        self._codes = np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)
        self.names = list(numbers)

    def of(self, chosen: Sequence[bool]) -> NDArray[np.bool_]:
        """Of each document, whether its value, by its place in `names`, is chosen."""
        found: NDArray[np.bool_] = np.array(chosen, bool)[self._codes]
        return found

    def counts(self, mask: NDArray[np.bool_]) -> Iterable[tuple[str, int]]:
        """Values, and how many of these documents have each."""
        counts = np.bincount(self._codes[mask], minlength=len(self.names)).tolist()
        return [(value, count) for value, count in zip(self.names, counts, strict=True) if count]


def _suffix(path: str) -> str:
    """As the filter's `type:` has it: what follows the last dot of a name that has something before it."""
    name = path.rpartition("/")[2]
    stem, _, suffix = name.rpartition(".")
    return suffix.lower() if stem else ""


def joined(facets: Iterable[Facets]) -> Facets:
    """What several indexes have together."""
    documents, folders, types, dates = 0, Counter[str](), Counter[str](), Counter[str]()
    for one in facets:
        documents += one.documents
        for counts, found in ((folders, one.folders), (types, one.types), (dates, one.dates)):
            counts.update({facet.value: facet.documents for facet in found})
    return _ordered(documents, folders, types, dates)


def _ordered(documents: int, folders: Counter[str], types: Counter[str], dates: Counter[str]) -> Facets:
    return Facets(
        documents,
        folders=_facets(sorted(folders.items())),
        types=_facets(sorted(types.items(), key=lambda pair: (-pair[1], pair[0]))),
        dates=_facets(sorted(dates.items(), reverse=True)),
    )


def _facets(counts: Iterable[tuple[str, int]]) -> tuple[Facet, ...]:
    return tuple(Facet(value, count) for value, count in counts)
