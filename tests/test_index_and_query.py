"""The store and the searcher against plain FAISS, NumPy and sentence-transformers."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import faiss
import numpy as np
import pytest
from conftest import CORPUS
from filelock import FileLock
from sentence_transformers import SentenceTransformer

from semsearch import Encoder, Indexer, Searcher, SemsearchError
from semsearch.errors import (
    DamagedIndexError,
    IndexConflictError,
    IndexFormatError,
    IndexLockedError,
    IndexNotFoundError,
    InvalidInputError,
    ModelMismatchError,
    NothingToIndexError,
)

QUERIES = json.loads((CORPUS.parent / "corpus_queries.json").read_text(encoding="utf-8"))


@pytest.fixture
def index(sample_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_index, tmp_path / "sample"))


def one_segment(index: Path) -> Path:
    (path,) = (index / "segments").glob("*.faiss")
    return path


def test_sample_corpus_is_sixty_documents_in_three_formats() -> None:
    suffixes = [path.suffix for path in CORPUS.rglob("*") if path.is_file()]
    assert len(suffixes) == 60
    assert set(suffixes) == {".md", ".txt", ".html"}
    assert (len(QUERIES["queries"]), len(QUERIES["demo"])) == (20, 3)


@pytest.mark.parametrize("case", QUERIES["queries"] + QUERIES["demo"], ids=lambda case: case["query"])
def test_the_right_document_comes_first(sample_index: Path, case: dict[str, object]) -> None:
    with Searcher(sample_index) as searcher:
        assert searcher.search(str(case["query"]), k=1)[0].path in case["relevant"]


def test_brute_force_over_the_stored_rows_gives_the_same_hits(sample_index: Path, minilm: Path) -> None:
    stored = faiss.read_index(str(one_segment(sample_index)))
    assert stored.metric_type == faiss.METRIC_INNER_PRODUCT
    rows = stored.reconstruct_n(0, stored.ntotal)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    database = sqlite3.connect(sample_index / "index.db")
    (first,) = database.execute("SELECT first_passage_id FROM segments").fetchone()
    places = {
        i: rest
        for i, *rest in database.execute(
            "SELECT p.id, f.path, p.char_start, d.id FROM passages p JOIN documents d ON d.id = p.document_id "
            "JOIN files f ON f.id = d.file_id"
        )
    }
    database.close()
    model = SentenceTransformer(str(minilm), device="cpu")
    with Searcher(sample_index) as searcher:
        for case in QUERIES["queries"]:
            query = model.encode(case["query"], normalize_embeddings=True)
            scores = rows @ query
            order = np.argsort(-scores, kind="stable")
            hits = searcher.search(case["query"], k=20, mode="dense", per_document=None)
            assert [[h.path, h.char_start] for h in hits] == [places[first + int(row)][:2] for row in order[:20]]
            np.testing.assert_allclose([h.score for h in hits], scores[order[:20]], atol=1e-5)
            best: dict[int, int] = {}
            for row in order:
                best.setdefault(places[first + int(row)][2], int(row))
            expected = [places[first + row][:2] for row in list(best.values())[:20]]
            hits = searcher.search(case["query"], k=20, mode="dense")
            assert [[h.path, h.char_start] for h in hits] == expected


def test_hits_cite_the_exact_characters(sample_index: Path) -> None:
    with Searcher(sample_index) as searcher:
        for hit in searcher.search("water", k=60):
            if not hit.path.endswith(".html"):
                text = (CORPUS / hit.path).read_text(encoding="utf-8")
                assert text[hit.char_start : hit.char_end] == hit.text
                assert text.split("\n")[hit.line_start - 1].endswith(hit.text.split("\n")[0])


def test_many_segments_answer_as_one(sample_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semsearch.indexer.update._AHEAD", 50)
    monkeypatch.setattr("semsearch.indexer.update.PART_ROWS", 50)
    monkeypatch.setattr("semsearch.store.compaction.MAX_ROWS", 60)
    Indexer(tmp_path / "many").update(CORPUS)
    assert len(list((tmp_path / "many" / "segments").iterdir())) > 3
    with Searcher(tmp_path / "many") as many, Searcher(sample_index) as one:
        ours, theirs = many.search("taps", k=60), one.search("taps", k=60)
    assert [hit.path for hit in ours] == [hit.path for hit in theirs]
    np.testing.assert_allclose([hit.score for hit in ours], [hit.score for hit in theirs], atol=1e-5)


def test_indexing_again_replaces_and_never_reuses_an_id(tmp_path: Path) -> None:
    source = tmp_path / "notes"
    source.mkdir()
    (source / "a.md").write_text("about apples")
    indexer = Indexer(tmp_path / "index")
    indexer.update(source)
    with Searcher(tmp_path / "index") as before:
        assert [hit.path for hit in before.search("apples")] == ["a.md"]
        (source / "a.md").rename(source / "b.md")
        summary = indexer.update(source)
        assert (summary.files_found, summary.files_indexed, summary.passages) == (1, 1, 1)
        assert [hit.path for hit in before.search("apples")] == ["b.md"], "an open searcher follows"
    assert len(list((tmp_path / "index" / "segments").iterdir())) == 1
    database = sqlite3.connect(tmp_path / "index" / "index.db")
    assert database.execute("SELECT id FROM passages").fetchall() == [(2,)]
    database.close()


def test_a_failed_build_leaves_the_index_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "notes"
    source.mkdir()
    (source / "a.md").write_text("about apples")
    Indexer(tmp_path / "index").update(source)
    (source / "a.md").write_text("about pears")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("semsearch.store.files.os.fsync", full)
    for path in (tmp_path / "index", tmp_path / "other"):
        with pytest.raises(SemsearchError, match="No space left"):
            Indexer(path).update(source)
    monkeypatch.undo()
    assert not (tmp_path / "other").exists()
    assert len(list((tmp_path / "index" / "segments").iterdir())) == 1
    with Searcher(tmp_path / "index") as searcher:
        assert searcher.search("fruit")[0].text == "about apples"


def test_sources_that_cannot_be_indexed(tmp_path: Path, index: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToIndexError, match="no file there"):
        Indexer(tmp_path / "x").update(tmp_path / "empty")
    (tmp_path / "empty" / "a.png").write_bytes(b"x")
    with pytest.raises(NothingToIndexError, match=r"a\.png: unsupported type \.png"):
        Indexer(tmp_path / "x").update(tmp_path / "empty")
    assert not (tmp_path / "x").exists()
    with pytest.raises(IndexConflictError, match="was made of"):
        Indexer(index).update(CORPUS / "home")


def test_only_one_writer(index: Path) -> None:
    with FileLock(index / "write.lock"), pytest.raises(IndexLockedError):
        Indexer(index).update(CORPUS)


def test_damage_is_told_by_the_part(index: Path) -> None:
    path = one_segment(index)
    sound = path.read_bytes()
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1
    for broken in (bytes(flipped), sound[:-1]):
        path.write_bytes(broken)
        with pytest.raises(DamagedIndexError, match=path.name):
            Searcher(index)
    path.unlink()
    with pytest.raises(DamagedIndexError, match=f"{path.name} is missing"):
        Searcher(index)
    (index / "index.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(DamagedIndexError, match=r"index\.db"):
        Searcher(index)


def test_newer_unfinished_and_absent_indexes(index: Path, tmp_path: Path) -> None:
    database = sqlite3.connect(index / "index.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(IndexFormatError, match="format 99"):
        Searcher(index)
    with pytest.raises(IndexNotFoundError, match="no index at"):
        Searcher(tmp_path / "nowhere")
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / "index.db").touch()
    with pytest.raises(IndexNotFoundError, match="never finished"):
        Searcher(tmp_path / "started")


def test_another_model_is_refused_and_a_moved_one_is_not(index: Path, distilbert: Path, minilm: Path) -> None:
    with pytest.raises(ModelMismatchError, match="all-MiniLM-L6-v2.*weights_sha256"):
        Searcher(index, model=str(distilbert))
    with pytest.raises(ModelMismatchError, match="max_seq_length"):
        Searcher(index, model=Encoder(max_seq_length=64))
    with Searcher(index, model=str(minilm)) as searcher:
        assert searcher.search("tap", k=1)


def test_arguments_of_a_search_are_checked(sample_index: Path) -> None:
    with Searcher(sample_index) as searcher:
        for query, k in (("", 1), ("  \n", 1), ("x", 0), ("x", -1), ("x", 1.5), ("x", True)):
            with pytest.raises(InvalidInputError):
                searcher.search(query, k)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError):
            searcher.search_batch("bare")
        assert searcher.search_batch([]) == []
        assert len(searcher.search("x", k=10_000)) == 60
        assert [hits[0].path for hits in searcher.search_batch(["tap", "bread"], k=1)] == [
            searcher.search(query, k=1)[0].path for query in ("tap", "bread")
        ]


def test_metadata_is_json_that_all_can_read(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nratio: .nan\nmost: .inf\nyear: 2020\n---\nA tap that drips\n")
    Indexer(tmp_path / "index").update(tmp_path / "a.md")
    with Searcher(tmp_path / "index") as searcher:
        assert searcher.search("tap")[0].metadata == {"ratio": None, "most": None, "year": 2020}
