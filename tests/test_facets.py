"""Counts of documents by folder, type and date, against counting by hand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from checkpoints import small_checkpoint

from semsearch import Encoder, Indexer, Searcher
from semsearch.errors import InvalidInputError

FILES = {
    "top.md": "2026-03-31T23:59:59",
    "a/one.md": "2026-03-31T00:00:00",
    "a/two.TXT": "2026-04-01T00:00:00",
    "a/b/three.md": "2025-12-31T23:59:59",
    "a/b/c/four.txt": "2025-01-01T00:00:00",
    "ab/five.md": "2026-03-01T12:00:00",
    "a/.b/Makefile": "1969-12-31T23:00:00",
}


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    folder = tmp_path_factory.mktemp("facets")
    for name, when in FILES.items():
        path = folder / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n\nWhat {name} says of wells.\n")
        time = datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()
        os.utime(path, (time, time))
    encoder = Encoder(str(small_checkpoint(folder / "model", "bert")))
    indexer = Indexer(folder / "index", model=encoder)
    indexer.update(folder / "docs")
    with Searcher(folder / "index", model=encoder) as searcher:
        yield searcher


def there(searcher: Searcher) -> dict[str, str]:
    """The files that were indexed; what the walk leaves out is no matter of counting."""
    paths = {hit.path for hit in searcher.search("wells", k=100)}
    return {name: when for name, when in FILES.items() if name in paths}


@pytest.mark.parametrize("folder", ["", "a/", "a/b/", "ab/", "none/"])
@pytest.mark.parametrize("type", ["", "md", "txt", "pdf"])
@pytest.mark.parametrize("date", ["", "2026", "2026-03", "2026-03-31", "1999"])
def test_each_kind_is_counted_under_the_others(searcher: Searcher, folder: str, type: str, date: str) -> None:
    files = there(searcher)
    assert len(files) >= 6
    suffix = {name: os.path.splitext(name)[1][1:].lower() for name in files}
    of_folder = {name for name in files if name.startswith(folder)}
    of_type = {name for name in files if not type or suffix[name] == type}
    of_date = {name for name, when in files.items() if when.startswith(date)}
    found = searcher.facets(folder=folder, type=type, date=date)
    assert found.documents == len(of_folder & of_type & of_date)
    below = [name[len(folder) :] for name in of_folder & of_type & of_date]
    folders = Counter(folder + name.split("/")[0] + "/" for name in below if "/" in name)
    assert [(one.value, one.documents) for one in found.folders] == sorted(folders.items())
    types = Counter(suffix[name] for name in of_folder & of_date if suffix[name])
    assert {one.value: one.documents for one in found.types} == types
    counts = [one.documents for one in found.types]
    assert counts == sorted(counts, reverse=True)
    length = {0: 4, 4: 7}.get(len(date), 10)
    dates = Counter(files[name][:length] for name in of_folder & of_type & of_date)
    assert [(one.value, one.documents) for one in found.dates] == sorted(dates.items(), reverse=True)


def test_a_filter_comes_first(searcher: Searcher) -> None:
    found = searcher.facets("path:a/b/ or path:top.md")
    assert found.documents == 3
    assert [(one.value, one.documents) for one in found.folders] == [("a/", 2)]
    assert searcher.facets("author:nobody").documents == 0
    with pytest.raises(InvalidInputError):
        searcher.facets("path:")


def test_what_is_counted_is_what_a_search_narrowed_to_it_finds(searcher: Searcher) -> None:
    for one in searcher.facets().folders:
        hits = searcher.search("wells", k=100, filter=f'path:"{one.value}"')
        assert len({hit.path for hit in hits}) == one.documents
    for one in searcher.facets().types:
        assert len({hit.path for hit in searcher.search("wells", k=100, filter=f"type:{one.value}")}) == one.documents
    for one in [*searcher.facets().dates, *searcher.facets(date="2026").dates, *searcher.facets(date="2026-03").dates]:
        hits = searcher.search("wells", k=100, filter=f"modified:{one.value}")
        assert len({hit.path for hit in hits}) == one.documents, one.value
