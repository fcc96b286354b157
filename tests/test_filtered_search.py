"""Filtered searches against all hits, of which those are kept that the filter's meaning lets through."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import small_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semsearch import Document, Encoder, Hit, Indexer, Searcher
from semsearch.errors import InvalidInputError
from semsearch.store import segments
from semsearch.store.verify import verify

Case = tuple[str, Callable[[Hit], bool]]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(str(small_checkpoint(tmp_path_factory.mktemp("model"), "bert")))


def documents(start: int, end: int) -> list[Document]:
    return [
        Document(
            f"{'docs' if n % 3 else 'notes'}/{n}.{'md' if n % 2 else 'txt'}",
            f"Report {n} on wells.\n\n"
            + "\n\n".join(f"Well {i} gave {n * i} litres of water. " * 5 for i in range(n % 4)),
            f"Report {n}",
            {"number": n, "author": ["Ann", "Bo", "Cy"][n % 3]} if n % 5 else {},
        )
        for n in range(start, end)
    ]


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Searcher:
    """Several segments, with rows that are gone."""
    index = tmp_path_factory.mktemp("filtered") / "index"
    indexer = Indexer(index, model=encoder)
    indexer.update(documents(0, 120))
    indexer.update(documents(120, 150))
    indexer.remove([f"{'docs' if n % 3 else 'notes'}/{n}.{'md' if n % 2 else 'txt'}" for n in range(7, 150, 11)])
    assert list(verify(index)) == []
    searcher = Searcher(index, model=encoder)
    assert len(searcher._snapshot.vectors._readers) == 2
    assert all(reader.live is not None for reader in searcher._snapshot.vectors._readers)
    return searcher


def glob(pattern: str) -> Case:
    return f"path:{pattern}", lambda hit: fnmatch.fnmatchcase(hit.path, pattern)


def number(sign: str, than: int) -> Case:
    compare = {"<": int.__lt__, ">=": int.__ge__, "=": int.__eq__}[sign]
    return f"number{sign}{than}", lambda hit: "number" in hit.metadata and compare(hit.metadata["number"], than)


def author(name: str) -> Case:
    return f"author:{name.lower()}", lambda hit: hit.metadata.get("author") == name


def suffix(name: str) -> Case:
    return f"type:{name}", lambda hit: hit.path.endswith(f".{name}")


def negated(case: Case) -> Case:
    return f"not ({case[0]})", lambda hit: not case[1](hit)


def both(one: Case, other: Case) -> Case:
    return f"({one[0]}) and ({other[0]})", lambda hit: one[1](hit) and other[1](hit)


def either(one: Case, other: Case) -> Case:
    return f"({one[0]}) or ({other[0]})", lambda hit: one[1](hit) or other[1](hit)


TERMS = st.one_of(
    st.sampled_from(["docs/*", "notes/1*", "docs/?.md", "nowhere/*"]).map(glob),
    st.builds(number, st.sampled_from(["<", ">=", "="]), st.integers(-1, 151)),
    st.sampled_from(["Ann", "Bo", "Cy", "Di"]).map(author),
    st.sampled_from(["md", "txt", "pdf"]).map(suffix),
)
CASES = st.recursive(
    TERMS, lambda inner: st.one_of(inner.map(negated), st.builds(both, inner, inner), st.builds(either, inner, inner))
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES, k=st.integers(1, 40), few=st.sampled_from([0, 5, 2000]), per_document=st.sampled_from([None, 1, 2]))
def test_a_filter_keeps_exactly_what_it_means(
    searcher: Searcher, case: Case, k: int, few: int, per_document: int | None
) -> None:
    text, holds = case
    kept, seen, cut = [], dict[str, int](), dict[str, float]()
    for hit in searcher.search("water of the wells", k=10_000, mode="dense", per_document=None):
        if holds(hit):
            seen[hit.path] = seen.get(hit.path, 0) + 1
            if per_document is None or seen[hit.path] <= per_document:
                kept.append(hit)
            else:
                cut.setdefault(hit.path, hit.score)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_FEW_ROWS", few)
        found = searcher.search("water of the wells", k, mode="dense", per_document=per_document, filter=text)
    expected = kept[:k]
    assert len(found) == len(expected), "k where k exist"
    assert [round(hit.score, 5) for hit in found] == pytest.approx([hit.score for hit in expected], abs=2e-5)
    # Of equal scores either may be the last, of all hits and of one document's.
    surely = {
        (hit.path, hit.char_start)
        for hit in expected
        if hit.score > max(expected[-1].score, cut.get(hit.path, -1.0)) + 1e-5
    }
    assert surely <= {(hit.path, hit.char_start) for hit in found}
    assert all(holds(hit) for hit in found)


def test_a_filter_that_nobody_understands(searcher: Searcher) -> None:
    with pytest.raises(InvalidInputError, match="type:"):
        searcher.search("water", filter="type:")


def test_removing_by_a_filter(tmp_path: Path, encoder: Encoder) -> None:
    indexer = Indexer(tmp_path / "index", model=encoder)
    indexer.update(documents(0, 30))
    with pytest.raises(InvalidInputError, match="not both"):
        indexer.remove("docs/1.md", filter="type:md")
    with pytest.raises(InvalidInputError, match="type:"):
        indexer.remove(filter="type:")
    assert indexer.remove(filter="type:pdf") == 0
    assert indexer.remove(filter="type:md and number<20") == 8
    assert list(verify(tmp_path / "index")) == []
    with Searcher(tmp_path / "index", model=encoder) as searcher:
        paths = {hit.path for hit in searcher.search("report", k=100)}
    assert len(paths) == 22
    assert not any(path.endswith(".md") and int(path.split("/")[1][:-3]) in (1, 3, 7) for path in paths)


def test_removing_documents_of_a_file_with_several(tmp_path: Path, encoder: Encoder) -> None:
    source = tmp_path / "corpus.jsonl"
    source.write_text(
        "".join(f'{{"_id": "{n}", "title": "T{n}", "text": "well {n}", "year": {n}}}\n' for n in range(6))
    )
    indexer = Indexer(tmp_path / "index", model=encoder)
    indexer.update(source)
    assert indexer.remove(filter="year>=3") == 3
    assert list(verify(tmp_path / "index")) == []
    assert indexer.update(source).documents == 6, "what the file still holds comes back"
    assert list(verify(tmp_path / "index")) == []
