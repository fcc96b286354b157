"""The map of an index, against scikit-learn's measure of how many neighbours stay neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import small_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from semsearch import Document, Encoder, Indexer, Searcher
from semsearch.query import projection
from semsearch.query.projection import project

Vectors = NDArray[np.float32]


def clusters(count: int, each: int, dim: int = 64) -> tuple[Vectors, NDArray[np.int64]]:
    random = np.random.default_rng(1)
    centres = random.normal(size=(count, dim))
    vectors = centres.repeat(each, axis=0) + 0.6 * random.normal(size=(count * each, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.arange(count).repeat(each)


def test_neighbours_stay_neighbours() -> None:
    vectors, own = clusters(20, 60)
    places = project(vectors)
    assert places.shape == (1200, 2)
    assert places.dtype == np.float32
    assert 0 <= places.min() <= places.max() <= 1
    kept = trustworthiness(vectors, places, n_neighbors=10)
    plain = trustworthiness(vectors, PCA(2).fit_transform(vectors), n_neighbors=10)
    assert kept > 0.93 > plain
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert (own[gaps.argmin(axis=1)] == own).mean() > 0.98
    assert np.array_equal(project(vectors), places), "the same each time"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 8), st.sampled_from(["alike", "few", "random"]))
def test_any_vectors_have_places(count: int, dim: int, kind: str) -> None:
    random = np.random.default_rng(count)
    vectors = random.normal(size=(count, dim)).astype(np.float32)
    if kind == "alike":
        vectors[:] = 1
    elif kind == "few":
        vectors = vectors[random.integers(0, max(1, count // 4), count)] if count else vectors
    places = project(vectors)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    assert not len(places) or 0 <= places.min() <= places.max() <= 1


def test_an_index_has_a_map_for_each_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "DOTS", 30)
    encoder = Encoder(str(small_checkpoint(tmp_path / "model", "bert")))
    indexer = Indexer(tmp_path / "index", model=encoder)
    indexer.update([Document(f"{'big' if n % 4 else f'small/{n % 3}'}/{n}.md", f"Of well {n}", "W") for n in range(50)])
    with Searcher(tmp_path / "index", model=encoder) as searcher:
        made = searcher.map()
        assert searcher.map() is made
        assert (len(made.ids), made.passages, made.generation) == (30, 50, 1)
        assert list(made.ids) == sorted(set(made.ids.tolist()))
        documents = {hit.id: hit.path for hit in searcher.search("well", k=100)}
        for number, folder in zip(made.ids.tolist(), made.folder_of.tolist(), strict=True):
            assert documents[number].startswith(made.folders[folder])
        sizes = np.bincount(made.folder_of).tolist()
        assert sizes == sorted(sizes, reverse=True)
        # A passage with a dot is at it, another at that of the one most like it.
        places = searcher.places([*documents, 10**9])
        assert places.keys() == documents.keys()
        stored = searcher._snapshot.vectors
        cosines = stored.vectors(np.array([*places])) @ stored.vectors(made.ids).T
        for (number, place), row in zip(places.items(), cosines, strict=True):
            at = list(made.ids).index(number) if number in made.ids else int(row.argmax())
            assert place == tuple(made.places[at].tolist())
        indexer.update([Document("new/1.md", "Something else", "E")])
        last = searcher.map()
        assert (last.generation, last.passages) == (2, 51)
    with Searcher(tmp_path / "index", model=encoder) as searcher:
        assert np.array_equal(searcher.map().places, last.places), "the same each time"
        indexer.remove([hit.path for hit in searcher.search("well", k=100)])
        assert searcher.map().passages == len(searcher.map().ids) == searcher.facets().documents == 0
        assert searcher.facets().folders == ()


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.md", "b.md"], {""}),
        (["all/x/1", "all/x/2", "all/y/3", "all/z/4", "all/5"], {"all/x/", "all/y/", "all/z/", "all/"}),
        (["one/deep/down/1", "one/deep/down/2"], {"one/deep/down/"}),
        (["a/1", "a/2", "b/3", "c/4"], {"a/", "b/", "c/"}),
        ([], set()),
    ],
)
def test_folders_of_a_size_to_be_told_apart(paths: list[str], expected: set[str]) -> None:
    folders, numbers = projection._by_folder(paths)
    assert set(folders) == expected
    assert len(numbers) == len(paths)
