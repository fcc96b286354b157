"""Approximate segments against exact search in NumPy."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from checkpoints import small_checkpoint
from numpy.typing import NDArray

from semsearch import Document, Encoder, Indexer, Searcher
from semsearch.errors import DamagedIndexError, InvalidInputError
from semsearch.store import segments
from semsearch.store.archive import export_index, import_index
from semsearch.store.compaction import compact
from semsearch.store.database import Database
from semsearch.store.manifest import Segment
from semsearch.store.segments import SegmentReader, all_ids, kind_for, segment_path, without, write_segment
from semsearch.store.verify import verify

ROWS, DIM = 20_000, 64
Vectors = NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """Points around 300 centres, as topics make them."""
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((300, DIM)))
    return unit(centres[random.integers(300, size=ROWS)] + 0.1 * random.standard_normal((ROWS, DIM)))


@pytest.fixture(scope="module")
def queries(vectors: Vectors) -> Vectors:
    random = np.random.default_rng(1)
    return unit(vectors[random.integers(ROWS, size=100)] + 0.05 * random.standard_normal((100, DIM)))


def written(folder: Path, vectors: Vectors, index_type: str = "ivf", first: int = 1) -> Segment:
    (folder / "segments").mkdir(parents=True, exist_ok=True)

    def blocks() -> Iterator[Vectors]:
        for start in range(0, len(vectors), 3000):
            yield vectors[start : start + 3000]

    return write_segment(folder, blocks, np.arange(first, first + len(vectors)), DIM, index_type=index_type)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors) -> SegmentReader:
    folder = tmp_path_factory.mktemp("ann")
    return SegmentReader(folder, written(folder, vectors), DIM, whole=True)


def recall(reader: SegmentReader, vectors: Vectors, queries: Vectors, wanted: NDArray[np.bool_] | None = None) -> float:
    found = 0
    for query in queries:
        scores = vectors @ query
        if wanted is not None:
            scores = np.where(wanted, scores, -2)
        best = np.argsort(-scores)[:10]
        allowed = None if wanted is None else all_ids(reader.segment)[wanted]
        got, rows = reader.search(query, 10, allowed)
        assert len(rows) == 10
        np.testing.assert_allclose(got, vectors[rows] @ query, atol=1e-3)
        assert (np.diff(got) <= 0).all()
        found += len(np.intersect1d(rows, best))
    return found / (10 * len(queries))


def test_kinds_by_size() -> None:
    assert kind_for("auto", 49_999, 384) == "flat"
    assert kind_for("auto", 50_000, 384) == "IVF512,PQ96x4fs"
    assert kind_for("auto", 1_000_000, 384) == "IVF2048,PQ96x4fs"
    assert kind_for("flat", 1_000_000, 384) == "flat"
    assert (kind_for("ivf", 999, 384), kind_for("ivf", 2000, 384)) == ("flat", "IVF64,PQ96x4fs")
    assert (kind_for("HNSW32", 999, 384), kind_for("HNSW32", 2000, 384)) == ("flat", "HNSW32")
    assert kind_for("IVF4096,SQ8", 5000, 384) == "flat"


def test_it_finds_what_exact_search_finds(reader: SegmentReader, vectors: Vectors, queries: Vectors) -> None:
    assert reader.segment.kind == "IVF256,PQ16x4fs"
    assert reader.segment.file.size < 0.65 * vectors.nbytes  # .58 of vectors of 384 numbers, where ids weigh less
    assert recall(reader, vectors, queries) >= 0.99


def test_more_effort_finds_more(reader: SegmentReader, vectors: Vectors, queries: Vectors) -> None:
    queries = unit(queries + queries[::-1])  # between topics
    exact = [set(np.argsort(-(vectors @ query))[:10]) for query in queries]
    recalls = [
        sum(
            len(best & set(reader.search(query, 10, None, effort)[1]))
            for query, best in zip(queries, exact, strict=True)
        )
        for effort in (0.05, 1, 8)
    ]
    assert recalls[0] < recalls[1] <= recalls[2] + 2
    assert recalls[2] >= 998  # 16 bits may change places with the eleventh


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.02])
@pytest.mark.parametrize("few", [0, 2000])
def test_filtered(
    reader: SegmentReader, vectors: Vectors, queries: Vectors, share: float, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_FEW_ROWS", few)
    monkeypatch.setattr("semsearch.store.ann_search._EXACT_SURVIVORS", few)
    anywhere = np.random.default_rng(2).random(ROWS) < share
    assert recall(reader, vectors, queries, anywhere) >= 0.98
    topic = vectors @ vectors[0]
    assert recall(reader, vectors, queries[:30], topic > np.quantile(topic, 1 - share)) >= (0.95 if few else 0.8)


def test_fewer_than_asked_for(reader: SegmentReader, vectors: Vectors) -> None:
    scores, rows = reader.search(vectors[5], 10, np.array([6, 17], np.int64))
    assert sorted(rows) == [5, 16]
    assert len(scores) == 2
    assert len(reader.search(vectors[5], 10, np.array([], np.int64))[1]) == 0


@pytest.mark.parametrize(
    "factory", ["IVF64,SQ8", "IVF64,PQ32x4", "IVF64,PQ32x4fsr", "IVF1,PQ32x4fs", "HNSW16", "SQ8", "IVF64,Flat"]
)
def test_faiss_factory_strings(tmp_path: Path, vectors: Vectors, queries: Vectors, factory: str) -> None:
    some = vectors[:5000]
    reader = SegmentReader(tmp_path, written(tmp_path, some, factory), DIM, whole=True)
    assert reader.segment.kind == factory
    assert recall(reader, some, queries) >= 0.95
    allowed = np.random.default_rng(3).random(5000) < 0.5
    assert recall(reader, some, queries, allowed) >= 0.95


def test_faiss_reads_the_file_by_itself(reader: SegmentReader, vectors: Vectors, tmp_path: Path) -> None:
    plain = faiss.read_index(str(reader._path))
    assert (plain.metric_type, plain.ntotal, plain.d) == (faiss.METRIC_INNER_PRODUCT, ROWS, DIM)
    faiss.write_index(plain, str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == reader._path.read_bytes()
    np.testing.assert_allclose(reader.vectors(np.arange(100)), vectors[:100], atol=1e-3)


def test_the_same_vectors_make_the_same_file(reader: SegmentReader, vectors: Vectors, tmp_path: Path) -> None:
    assert written(tmp_path, vectors).file == reader.segment.file


def test_merging_again_and_again_changes_no_vector(vectors: Vectors, tmp_path: Path) -> None:
    merged = [written(tmp_path, vectors[:5000])]
    before = SegmentReader(tmp_path, merged[0], DIM, whole=True).vectors(np.arange(5000))
    for number in range(3):
        start = 5000 + 1000 * number
        more = written(tmp_path, vectors[start : start + 1000], "flat", first=start + 1)
        merged = compact(tmp_path, merged, [more], DIM, "ivf", fully=True)
        assert len(merged) == 1
    reader = SegmentReader(tmp_path, merged[0], DIM, whole=True)
    assert reader.segment.count == 8000
    np.testing.assert_array_equal(reader.vectors(np.arange(5000)), before)
    gone = compact(tmp_path, [without(merged[0], np.arange(1, 3001))], [], DIM, "ivf")
    reader = SegmentReader(tmp_path, gone[0], DIM, whole=True)
    assert (reader.segment.count, reader.segment.first_passage_id) == (5000, 3001)
    np.testing.assert_array_equal(reader.vectors(np.arange(2000)), before[3000:])


def test_damage_is_told_before_faiss_reads(vectors: Vectors, tmp_path: Path) -> None:
    segment = written(tmp_path, vectors[:3000])
    assert segment.front
    path = segment_path(tmp_path, segment.uuid)
    sound = path.read_bytes()
    random = np.random.default_rng(4)
    for place in [*range(60), *random.integers(segment.front.size, size=100)]:
        damaged = bytearray(sound)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(DamagedIndexError):
            SegmentReader(tmp_path, segment, DIM, whole=False)
    path.write_bytes(sound[:-1])
    with pytest.raises(DamagedIndexError, match="bytes"):
        SegmentReader(tmp_path, segment, DIM, whole=False)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(str(small_checkpoint(tmp_path_factory.mktemp("model"), "bert")))


def test_an_approximate_index_from_end_to_end(tmp_path: Path, encoder: Encoder) -> None:
    words = "well water rain river lake garden kitchen winter summer journey friend letter winding road".split()
    random = np.random.default_rng(5)
    documents = [Document(str(n), " ".join(random.choice(words, 12)), f"note {n}") for n in range(2500)]
    index = tmp_path / "index"
    Indexer(index, model=encoder, index_type="ivf").update(documents)
    with Database.open_for_reading(index) as database:
        assert [segment.kind for segment in database.segments()] == ["IVF128,PQ8x4fs"]
    Indexer(index, model=encoder).remove([str(n) for n in range(0, 2500, 10)])
    assert list(verify(index)) == []
    exact = tmp_path / "exact"
    Indexer(exact, model=encoder, index_type="flat").update([d for d in documents if int(d.path) % 10])
    found = 0
    with Searcher(index, model=encoder) as approximate, Searcher(exact, model=encoder) as other:
        for document in documents[1:50:2]:
            hits = approximate.search(document.text, k=10, mode="dense")
            best = other.search(document.text, k=10, mode="dense")
            assert len(hits) == 10
            found += len({hit.path for hit in hits} & {hit.path for hit in best})
    # Its lists come out a little different each time, as several threads add up.
    assert found >= 230
    export_index(index, tmp_path / "moved.tar")
    import_index(tmp_path / "moved.tar", tmp_path / "moved")
    assert list(verify(tmp_path / "moved")) == []
    with Searcher(index, model=encoder) as one, Searcher(tmp_path / "moved", model=encoder) as copy:
        assert one.search("winter water", k=20, mode="dense") == copy.search("winter water", k=20, mode="dense")
    summary = Indexer(index, model=encoder, index_type="flat").update(documents[1])
    assert summary.passages_embedded == 0
    with Database.open_for_reading(index) as database:
        assert [segment.kind for segment in database.segments()] == ["flat"]
    assert list(verify(index)) == []


@pytest.mark.parametrize("index_type", ["", "nonsense", "OPQ16,IVF64,PQ16", "IVF0,Flat", "IDMap,Flat", "PQ8"])
def test_index_types_that_cannot_be(tmp_path: Path, encoder: Encoder, index_type: str) -> None:
    with pytest.raises(InvalidInputError, match="factory"):
        Indexer(tmp_path / "index", model=encoder, index_type=index_type).update(Document("a", "text", "A"))
    assert not (tmp_path / "index").exists()


def test_effort_is_checked(tmp_path: Path, encoder: Encoder) -> None:
    Indexer(tmp_path / "index", model=encoder).update(Document("a", "text", "A"))
    with Searcher(tmp_path / "index", model=encoder) as searcher, pytest.raises(InvalidInputError, match="effort"):
        searcher.search("text", effort=0)


@pytest.mark.parametrize("k", [1, 10, 1500])
def test_vectors_that_are_all_alike(vectors: Vectors, tmp_path: Path, k: int) -> None:
    reader = SegmentReader(tmp_path, written(tmp_path, np.repeat(vectors[:3], 500, axis=0)), DIM, whole=True)
    scores, rows = reader.search(vectors[0], k)
    assert len(set(rows)) == k
    np.testing.assert_allclose(scores, np.sort(np.repeat(vectors[:3] @ vectors[0], 500))[::-1][:k], atol=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux maps pages ahead")
def test_a_second_search_maps_the_file(vectors: Vectors, tmp_path: Path) -> None:
    def resident() -> int:
        """KiB of the segment that are mapped."""
        lines = Path("/proc/self/smaps").read_text().splitlines()
        start = next(n for n, line in enumerate(lines) if line.endswith(reader._path.name))
        return next(int(line.split()[1]) for line in lines[start:] if line.startswith("Rss:"))

    reader = SegmentReader(tmp_path, written(tmp_path, vectors), DIM, whole=False)
    reader.search(vectors[0], 10)
    assert resident() < reader.segment.file.size >> 10
    reader.search(vectors[1], 10)
    for thread in threading.enumerate():
        if thread.name == "map-ahead":
            thread.join(30)
    assert resident() >= reader.segment.file.size >> 10
