"""Several queries at once against brute force, and against one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from checkpoints import small_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch import Document, Encoder, Indexer, Searcher
from semsearch.store import segments

WORDS = "river bridge stone water mill flood wheel rope boat ferry harbour tide".split()


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    """Of three segments, of which rows of two are gone."""
    folder = tmp_path_factory.mktemp("batch")
    encoder = Encoder(str(small_checkpoint(folder / "model", "bert")))
    indexer = Indexer(folder / "index", model=encoder)
    random = np.random.default_rng(0)
    for part, count in enumerate((400, 90, 3)):
        texts = [" ".join(random.choice(WORDS, 6)) for _ in range(count)]
        indexer.update([Document(f"{part}/{n}", text, text[:9]) for n, text in enumerate(texts)])
    indexer.remove([f"0/{n}" for n in range(0, 30)] + ["1/5", "1/77"])
    with Searcher(folder / "index", model=encoder) as searcher:
        assert len(searcher._snapshot.vectors._readers) == 3
        yield searcher


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.sampled_from([1, 2, 7, 100, 1000]), st.integers(0, 10**6), st.sampled_from([64, 1 << 17]))
def test_the_best_of_each_query_are_found(searcher: Searcher, count: int, k: int, seed: int, at_once: int) -> None:
    reader = searcher._snapshot.vectors
    ids = reader.ids()
    vectors = reader.vectors(ids)
    queries = np.random.default_rng(seed).normal(size=(count, vectors.shape[1])).astype(np.float32)
    queries[:1] = vectors[seed % len(ids)]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_ROWS_AT_ONCE", at_once)
        found = reader.search_batch(queries, k)
    assert len(found) == count
    for query, one in zip(queries, found, strict=True):
        cosines = vectors @ query
        best = np.sort(cosines)[::-1][:k]
        assert one.scores == pytest.approx(best, abs=1e-5)
        assert len({*one.ids.tolist()}) == len(best)
        assert one.scores == pytest.approx(cosines[np.searchsorted(ids, one.ids)], abs=1e-5)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize("narrowed", [None, "path:1/"])
def test_answers_are_those_of_one_after_the_other(searcher: Searcher, mode: str, narrowed: str | None) -> None:
    queries = ["river flood", "rope", '"water mill"', "a tide in the harbour", "nothing of it"]
    for query, hits in zip(queries, searcher.search_batch(queries, 8, mode=mode, filter=narrowed), strict=True):
        alone = searcher.search(query, 8, mode=mode, filter=narrowed)
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-5)
