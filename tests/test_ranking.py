"""Hybrid ranking against the same formula over brute force, and what surrounds it."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from checkpoints import small_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semsearch import Document, Encoder, Indexer, Searcher
from semsearch.errors import InvalidInputError
from semsearch.query.batching import Batching
from semsearch.query.similar import similar
from semsearch.query.snippet import snippet
from semsearch.store.database import Database
from semsearch.store.segments import VectorReader

WORDS = "river bridge stone water mill flood wheel rope boat ferry harbour tide".split()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"), "bert")


@pytest.fixture(scope="module")
def encoder(model: Path) -> Encoder:
    return Encoder(str(model), precision="float32")


def document(number: int, seed: int = 0) -> Document:
    random = np.random.default_rng(1000 * seed + number)
    parts = [" ".join(random.choice(WORDS, random.integers(5, 12))) for _ in range(random.integers(1, 5))]
    text = "\n\n".join(f"## Part {n} of {number}\n\n{part}." for n, part in enumerate(parts))
    return Document(f"{'docs' if number % 2 else 'notes'}/{number}.md", text, f"title {number}")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("ranking") / "index"
    Indexer(folder, model=encoder).update(document(n) for n in range(90))
    return folder


class BruteForce:
    """All of an index in memory."""

    def __init__(self, index: Path, encoder: Encoder) -> None:
        with Database.open_for_reading(index) as database:
            rows = list(database.rows("SELECT id, document_id FROM passages ORDER BY id"))
            reader = VectorReader(index, database.segments(), encoder.dim)
            self.ids = [row[0] for row in rows]
            self.documents = np.array([row[1] for row in rows])
            self.vectors = reader.vectors(np.array(self.ids))  # (n, dim)
        self._encoder = encoder

    def scores(
        self, query: str, bm25: dict[int, float], allowed: set[int], *, by_documents: bool
    ) -> NDArray[np.float64]:
        """As the docstring of `query.fusion` has it; minus infinity for what is not allowed."""
        shut = np.array([0 if number in allowed else -np.inf for number in self.ids])
        vector = self._encoder.encode_query([query])[0]
        vector = vector / np.linalg.norm(vector)
        terms = list(dict.fromkeys(query.split()))
        counts = [self._having(term) for term in terms]
        count = len(self.ids)
        idf = [math.log(1 + (count - n + 0.5) / (n + 0.5)) for n in counts if n]
        lexical = np.array([bm25.get(number, 0.0) for number in self.ids])
        if idf:
            rarest = sorted(idf)[-6:]
            lexical = 0.8 * lexical / (2.2 * sum(rarest)) * max(idf) / math.log(1 + count)
        first = self._fused(vector, lexical, by_documents=by_documents) + shut
        if not idf or not bm25:
            return first
        moved = vector + 0.2 * self.vectors[np.argmax(first)]
        return self._fused(moved / np.linalg.norm(moved), lexical, by_documents=by_documents) + shut

    def _fused(self, vector: NDArray[np.float32], lexical: NDArray[np.float64], *, by_documents: bool):  # type: ignore[no-untyped-def]
        near = self.vectors @ vector
        if by_documents:
            means = {d: self.vectors[self.documents == d].mean(axis=0) for d in set(self.documents.tolist())}
            whole = np.array([means[d] @ vector / np.linalg.norm(means[d]) for d in self.documents.tolist()])
            near = 0.6 * near + 0.4 * whole
        return near + lexical

    def _having(self, term: str) -> int:
        return sum(term in words for words in self.words)

    words: list[set[str]]


@pytest.fixture(scope="module")
def brute_force(index: Path, encoder: Encoder) -> BruteForce:
    found = BruteForce(index, encoder)
    with Database.open_for_reading(index) as database:
        found.words = [set(text.lower().replace(".", " ").replace("#", " ").split()) for _, text in database.texts(1)]
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.lists(st.sampled_from([*WORDS, "unheard"]), min_size=1, max_size=10).map(" ".join),
    k=st.integers(1, 30),
    per_document=st.sampled_from([None, 1, 2]),
    condition=st.sampled_from([None, "path:docs/"]),
)
def test_hybrid_is_its_formula(
    index: Path,
    encoder: Encoder,
    brute_force: BruteForce,
    query: str,
    k: int,
    per_document: int | None,
    condition: str | None,
) -> None:
    with Searcher(index, model=encoder) as searcher:
        # 230 passages: either search gives all that there are.
        words = searcher.search(query, 10_000, mode="lexical", per_document=None, filter=condition)
        hits = searcher.search(query, k, per_document=per_document, filter=condition)
        allowed = {hit.id for hit in searcher.search(query, 10_000, mode="dense", per_document=None, filter=condition)}
    bm25 = {hit.id: hit.score for hit in words}
    scores = brute_force.scores(query, bm25, allowed, by_documents=per_document is not None)
    expected, seen = [], dict[int, int]()
    for at in np.argsort(-scores, kind="stable"):
        own = int(brute_force.documents[at])
        seen[own] = seen.get(own, 0) + 1
        if np.isfinite(scores[at]) and (per_document is None or seen[own] <= per_document):
            expected.append(at)
    expected = expected[:k]
    np.testing.assert_allclose([hit.score for hit in hits], scores[expected], atol=1e-4)
    at = {number: row for row, number in enumerate(brute_force.ids)}
    np.testing.assert_allclose([hit.score for hit in hits], [scores[at[hit.id]] for hit in hits], atol=1e-4)
    for hit in hits:
        shares = (0.6, 0.4) if per_document is not None else (1.0, 0.0)
        near = hit.parts.get("moved_cosine", hit.parts["cosine"])
        whole = hit.parts.get("document_cosine", 0.0)
        total = shares[0] * near + shares[1] * whole + hit.parts.get("lexical", 0.0)
        assert hit.score == pytest.approx(total, abs=1e-5), "the parts make up the score"


def test_k_hits_come_where_k_are(index: Path, encoder: Encoder) -> None:
    with Searcher(index, model=encoder) as searcher:
        for mode in ("hybrid", "dense"):
            assert len(searcher.search("rope", 1000, mode=mode)) == 90
            assert len(searcher.search("rope", 1000, mode=mode, filter="path:docs/")) == 45
        everything = searcher.search("title", 1000, mode="lexical", per_document=None)
        assert len(everything) == len(searcher.search("title", 1000, per_document=None)), "each passage has the word"
        words = searcher.search("rope", 1000, mode="lexical")
        assert 0 < len(words) < 90
        assert len(searcher.search("rope", 3, mode="lexical", filter="path:docs/")) == 3
        assert searcher.search("unheard", mode="lexical") == []
        best = searcher.search("rope", 5)
        assert [hit.id for hit in searcher.search("rope", 5, min_score=best[2].score)] == [hit.id for hit in best[:3]]
        for options in ({"mode": "sparse"}, {"min_score": math.nan}, {"per_document": 0}, {"k": 0}):
            with pytest.raises(InvalidInputError):
                searcher.search("rope", **options)  # type: ignore[arg-type]


def test_answers_are_the_same_each_time(index: Path, encoder: Encoder) -> None:
    answers = []
    for _ in range(3):
        with Searcher(index, model=encoder) as searcher:
            answers.append([searcher.search(query, 20) for query in ("rope boat", "stone of the mill")])
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.slow
def test_threads_share_a_searcher_while_it_is_written(tmp_path: Path, encoder: Encoder) -> None:
    """2,000 queries by 8 threads: each answer is that of one thread alone in one of the generations."""
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    indexer.update(document(n) for n in range(40))
    queries = [" ".join(WORDS[i : i + 2]) for i in range(10)]

    Answer = list[tuple[str, float]]

    def answer(searcher: Searcher, query: str) -> Answer:
        return [(hit.path, hit.score) for hit in searcher.search(query, 5)]

    def same(one: Answer, other: Answer) -> bool:
        alike = [path for path, _ in one] == [path for path, _ in other]
        return alike and np.allclose([score for _, score in one], [score for _, score in other], atol=1e-5, rtol=0)

    known: list[dict[str, Answer]] = []

    def note() -> None:
        with Searcher(index, model=encoder) as alone:
            known.append({query: answer(alone, query) for query in queries})

    note()
    given: list[list[tuple[str, Answer]]] = [[] for _ in range(8)]
    errors: list[BaseException] = []
    with Searcher(index, model=encoder) as searcher:

        def ask(number: int) -> None:
            try:
                for turn in range(250):
                    query = queries[(number + turn) % len(queries)]
                    given[number].append((query, answer(searcher, query)))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for commit in range(1, 8):
            indexer.update(document(n, seed=commit) for n in range(commit, 40, 3))
            note()
        for thread in threads:
            thread.join()
        assert not errors
        assert all(same(answer(searcher, query), known[-1][query]) for query in queries), "it follows"
    total = 0
    for mine in given:
        last = 0
        for query, found in mine:
            generations = [number for number, answers in enumerate(known) if same(answers[query], found)]
            assert generations, (query, found)
            assert generations[-1] >= last, "it never goes back"
            last = max(last, generations[0])
            total += 1
    assert total == 2000


def test_threads_filter_and_read_at_once(index: Path, encoder: Encoder) -> None:
    """SQLite calls back into Python for a filter, which must not meet another thread that waits for SQLite."""
    done = threading.Semaphore(0)
    with Searcher(index, model=encoder) as searcher:

        def ask(number: int) -> None:
            for at in range(100):
                if number % 2:
                    searcher.search("rope", k=3, filter="path:docs/ or nothing:here", mode="lexical")
                else:
                    searcher.excerpt(at + 1)
            done.release()

        for number in range(4):
            threading.Thread(target=ask, args=(number,), daemon=True).start()
        for _ in range(4):
            assert done.acquire(timeout=60), "they wait for each other, or one failed"


def test_a_closed_searcher_says_so(index: Path, encoder: Encoder) -> None:
    searcher = Searcher(index, model=encoder)
    searcher.close()
    searcher.close()
    with pytest.raises(InvalidInputError, match="closed"):
        searcher.search("rope")


def test_what_threads_ask_for_is_worked_on_together() -> None:
    batches: list[int] = []
    entered, go = threading.Event(), threading.Event()

    def encode(texts: Sequence[str]) -> list[float]:
        batches.append(len(texts))
        entered.set()
        assert go.wait(10)
        if "bad" in texts:
            raise ValueError("bad text")
        return [float(text) for text in texts]

    batching, results = Batching(encode), dict[str, object]()

    def ask(text: str) -> None:
        try:
            results[text] = batching([text])
        except ValueError as error:
            results[text] = str(error)

    threads = [threading.Thread(target=ask, args=(str(n),)) for n in range(6)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(batching._waiting) < 5:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert batches == [1, 5]
    assert results == {str(n): [float(n)] for n in range(6)}
    ask("bad")
    assert results["bad"] == "bad text"
    ask("7")
    assert results["7"] == [7.0], "an error leaves it as it was"


def test_more_like_this(index: Path, encoder: Encoder, brute_force: BruteForce) -> None:
    with Database.open_for_reading(index) as database:
        number = database.passage_at("docs/7.md", 1)
    assert number is not None
    row = brute_force.ids.index(number)
    own = brute_force.documents == brute_force.documents[row]
    cosines = np.where(own, -2, brute_force.vectors @ brute_force.vectors[row])
    hits = similar(index, f"{number}", 5)
    assert hits[0].id == brute_force.ids[int(np.argmax(cosines))]
    assert hits[0].score == pytest.approx(cosines.max(), abs=1e-5)
    assert hits == similar(index, "docs/7.md:1", 5)
    mean = brute_force.vectors[own].mean(axis=0)
    cosines = np.where(own, -2, brute_force.vectors @ (mean / np.linalg.norm(mean)))
    whole = similar(index, "docs/7.md", 100)
    assert whole[0].score == pytest.approx(cosines.max(), abs=1e-5)
    assert len(whole) == 89
    assert all(hit.path.startswith("docs/") for hit in similar(index, "docs/7.md", 5, filter="path:docs/"))
    for target in ("nothing.md", "123456789", "9" * 30, "docs/7.md:x"):
        with pytest.raises(InvalidInputError, match="has nothing at"):
            similar(index, target)


def test_snippets_are_pieces_of_the_passage_with_most_of_the_query() -> None:
    filler = "Nothing of it stands here at all, and the sentence goes on for a while. "
    text = f"# Wells\n\n{filler * 4}The rope of the well broke. It was mended by a smith.\n\n{filler * 4}"
    piece, matches = snippet(text, "broken rope of wells, mended", "english")
    assert piece in text
    assert len(piece) <= 281
    assert [piece[slice(*span)] for span in matches] == ["rope", "well", "mended"]
    piece, matches = snippet(text, "unheard", "english")
    assert (text.index(piece) < 20, matches) == (True, ())
    assert snippet("  ", "x", "english")[1] == ()
    assert snippet("word" * 300, "x", "english")[0] == ("word" * 300)[:280]
