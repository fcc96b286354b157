"""Lexical search against a plain BM25 over the same words, and what its words are."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import small_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semsearch import Document, Encoder, Indexer, Searcher, Settings
from semsearch.errors import InvalidInputError
from semsearch.store import lexical_writer
from semsearch.store.analysis import LANGUAGES, analyzer, phrases, query_terms, searchable, words_with
from semsearch.store.database import Database
from semsearch.store.lexical import LexicalReader
from semsearch.store.lexical_writer import write_lexical, write_rest
from semsearch.store.rest import Statistics
from semsearch.store.scored import Scored
from semsearch.store.verify import verify
from semsearch.store.writer import open_writer

WORDS = "river bridge stone water mill flood wheel rope boat ferry harbour tide".split()


def plain_bm25(texts: dict[int, list[str]], query: list[str], length: dict[int, float]) -> dict[int, float]:
    """Robertson and Zaragoza 2009, with Lucene's idf, which is never negative: k1 = 1.2, b = 0.75."""
    average = sum(len(words) for words in texts.values()) / len(texts)
    scores: dict[int, float] = {}
    for number, words in texts.items():
        counts = Counter(words)
        for term in set(query) & counts.keys():
            having = sum(term in other for other in texts.values())
            idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            norm = 1.2 * (1 - 0.75 + 0.75 * length[number] / average)
            scores[number] = scores.get(number, 0) + idf * counts[term] * 2.2 / (counts[term] + norm)
    return scores


def one_byte(length: int) -> int:
    """A length as Lucene keeps it in a byte: exact up to 40, then to three bits (its SmallFloat.intToByte4)."""
    if length < 40:
        return length
    rest = length - 24
    shift = max(0, rest.bit_length() - 4)
    return 24 + ((rest >> shift) << shift)


def lexical_index(folder: Path, texts: dict[int, str], language: str = "none") -> LexicalReader:
    lexical = write_lexical(folder, None, language, removed=(), texts=lambda _: sorted(texts.items()), first_new=1)
    return LexicalReader(folder, lexical, whole=True)


def by_id(found: Scored) -> dict[int, float]:
    return dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))


@pytest.mark.parametrize("count", [20, 500, 3000])
def test_of_equal_scores_those_with_the_lowest_ids_are_taken(tmp_path: Path, count: int) -> None:
    texts = {number: "boat" if number % 7 else "boat boat" for number in range(1, count)}
    # In tantivy's files they stand in another order than that of their ids.
    shuffled = [int(number) for number in np.random.default_rng(0).permutation(sorted(texts))]
    lexical = write_lexical(
        tmp_path, None, "none", removed=(), texts=lambda _: [(n, texts[n]) for n in shuffled], first_new=1
    )
    reader = LexicalReader(tmp_path, lexical, whole=True)
    parsed = reader.parse("boat")
    assert parsed
    expected = sorted(texts, key=lambda number: (number % 7 != 0, number))
    for k in (1, 10, count // 2):
        assert reader.search(parsed, k).ids.tolist() == expected[:k]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_scores_are_those_of_a_plain_bm25(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    texts = data.draw(
        st.dictionaries(
            st.integers(1, 10_000), st.lists(st.sampled_from(WORDS), min_size=1, max_size=120), min_size=1, max_size=40
        )
    )
    query = data.draw(st.lists(st.sampled_from([*WORDS, "unheard"]), min_size=1, max_size=6))
    reader = lexical_index(tmp_path_factory.mktemp("lexical"), {n: " ".join(words) for n, words in texts.items()})
    parsed = reader.parse(" ".join(query))
    assert parsed is not None
    found = by_id(reader.search(parsed, 100))
    expected = plain_bm25(texts, query, {n: one_byte(len(words)) for n, words in texts.items()})
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[n] for n in found], [expected[n] for n in found], rtol=1e-4)
    exact = plain_bm25(texts, query, {n: len(words) for n, words in texts.items()})
    np.testing.assert_allclose([found[n] for n in found], [exact[n] for n in found], rtol=0.06)
    some = sorted(texts)[::2]
    of_some = {n: score for n, score in found.items() if n in some}
    assert by_id(reader.scores(parsed, some)) == pytest.approx(of_some, rel=1e-5)
    ranked = sorted(of_some.items(), key=lambda pair: (-pair[1], pair[0]))
    assert reader.search(parsed, 5, np.array(some, np.int64)).ids.tolist() == [n for n, _ in ranked[:5]]
    frequencies = [sum(term in words for words in texts.values()) for term in parsed.terms]
    assert reader.frequencies(parsed) == frequencies


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_shards_score_as_the_whole_does(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """However differently long their passages are, and however unevenly the words lie."""
    lengths = st.sampled_from([(1, 5), (20, 60), (100, 200), (0, 0)])
    texts, shards = dict[int, str](), list[dict[int, str]]()
    for vocabulary in ([*WORDS], [*WORDS[:3]], [*WORDS[2:]])[: data.draw(st.integers(1, 3))]:
        least, most = data.draw(lengths)
        sizes = data.draw(st.lists(st.integers(least, most), min_size=1, max_size=60))
        words = np.random.default_rng(data.draw(st.integers(0, 99)))
        shard = {len(texts) + n: " ".join(words.choice(vocabulary, size)) for n, size in enumerate(sizes, 1)}
        shards.append(shard)
        texts |= shard
    folder = tmp_path_factory.mktemp("shards")
    whole = lexical_index(folder / "whole", texts)
    alone = [lexical_index(folder / str(number), shard) for number, shard in enumerate(shards)]
    own = [reader.statistics() for reader in alone]
    everything = Statistics(sum(one.passages for one in own), sum(one.words for one in own))
    assert everything == whole.statistics() == Statistics(len(texts), sum(len(text.split()) for text in texts.values()))
    parts = []
    for number, (shard, statistics) in enumerate(zip(shards, own, strict=True)):
        place = folder / str(number)
        rest = write_rest(place, "none", statistics, everything)
        lexical = write_lexical(
            place, None, "none", removed=(), texts=lambda _, s=shard: sorted(s.items()), first_new=1
        )
        parts.append(LexicalReader(place, lexical, whole=True, rest=rest))
        assert parts[-1].count == len(shard)
    query = " ".join(data.draw(st.lists(st.sampled_from([*WORDS, "unheard", "x"]), min_size=1, max_size=6)))
    parsed = whole.parse(query)
    assert parsed is not None
    frequencies = whole.frequencies(parsed)
    found: dict[int, float] = {}
    for reader in parts:
        of_shard = reader.parse(query, frequencies)
        assert of_shard is not None
        found |= by_id(reader.search(of_shard, 1000))
    assert frequencies == [sum(n) for n in zip(*(part.frequencies(parsed) for part in parts), strict=True)]
    # tantivy computes in float32, also how rare a word is that nearly all passages have.
    assert found == pytest.approx(by_id(whole.search(parsed, 1000)), rel=1e-6, abs=1e-6)


def test_a_wide_filter_gives_the_best_of_what_it_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    texts = {n: " ".join(random.choice(WORDS, 20)) for n in range(1, 400)}
    reader = lexical_index(tmp_path, texts)
    parsed = reader.parse("river boat")
    assert parsed is not None
    allowed = np.array(sorted(n for n in texts if n % 5 == 0), np.int64)
    narrow = reader.search(parsed, 30, allowed)
    monkeypatch.setattr("semsearch.store.lexical._FEW", 0)
    wide = reader.search(parsed, 30, allowed)
    assert wide.ids.tolist() == narrow.ids.tolist()
    np.testing.assert_allclose(wide.scores, narrow.scores, rtol=1e-5)
    assert len(wide.ids) == 30
    assert {*wide.ids.tolist()} <= set(allowed.tolist())


def test_removed_passages_are_gone_and_the_files_of_before_stay(tmp_path: Path) -> None:
    texts = {n: f"well number{n}" for n in range(1, 101)}

    def some(first: int) -> list[tuple[int, str]]:
        return [(n, text) for n, text in sorted(texts.items()) if n >= first]

    first = write_lexical(tmp_path, None, "english", removed=(), texts=some, first_new=1)
    before = {path: path.read_bytes() for path in (tmp_path / "lexical" / first.uuid).iterdir()}
    gone = [3, 50, 77]
    texts = {n: text for n, text in texts.items() if n not in gone} | {101: "well late"}
    second = write_lexical(tmp_path, first, "english", removed=gone, texts=some, first_new=101)
    assert {path: path.read_bytes() for path in before} == before, "an open reader keeps what it has"
    reader = LexicalReader(tmp_path, second, whole=True)
    assert reader.all_ids().tolist() == sorted(texts)
    parsed = reader.parse("number50 number51 late")
    assert parsed is not None
    assert {*reader.search(parsed, 10).ids.tolist()} == {51, 101}
    # Nothing changed, nothing written; much gone, and it is written without holes.
    assert write_lexical(tmp_path, second, "english", removed=(), texts=some, first_new=102) == second
    texts = {n: text for n, text in texts.items() if n > 50}
    third = write_lexical(tmp_path, second, "english", removed=list(range(1, 51)), texts=some, first_new=102)
    assert not any(name.endswith(".del") for name in third.files)
    assert LexicalReader(tmp_path, third, whole=True).all_ids().tolist() == sorted(texts)


def test_a_lock_that_comes_late_is_not_left_in_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of tantivy's makes one when it sees what was written, whenever that is."""
    written: list[Path] = []
    opened, sync_folder = lexical_writer._opened, lexical_writer.sync_folder

    def open_noted(folder: Path, *given: Any) -> Any:
        written.append(folder)
        return opened(folder, *given)

    def sync_late(folder: Path) -> None:
        (written[-1] / ".tantivy-meta.lock").touch()
        sync_folder(folder)

    monkeypatch.setattr(lexical_writer, "_opened", open_noted)
    monkeypatch.setattr(lexical_writer, "sync_folder", sync_late)
    first = write_lexical(tmp_path, None, "none", removed=(), texts=lambda _: [(1, "well"), (2, "tap")], first_new=1)
    second = write_lexical(tmp_path, first, "none", removed=[1], texts=lambda _: [(3, "rain")], first_new=3)
    assert len(written) == 2
    for lexical in (first, second):
        assert {path.name for path in (tmp_path / "lexical" / lexical.uuid).iterdir()} == {*lexical.files}
    assert {path.name for path in (tmp_path / "lexical").iterdir()} == {first.uuid, second.uuid}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("getElementById", "getelementbyid get element by id"),
        ("HTTPServer snake_case __init__", "httpserver snake_case __init__ http server snake case init"),
        ("utf8 x86 H1N1", "utf8 x86 h1n1"),
        ("Café, naïve ﬁle", "cafe naive file"),
        ("全文検索 engine", "engine 全文 文検 検索"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert analyzer("none").analyze(searchable(text)) == words.split()


def test_stems_and_stop_words() -> None:
    assert query_terms("What are the running costs of it?", "english") == ("run", "cost")
    assert query_terms("to be or not to be", "english") == ("to", "be", "or", "not"), "there is nothing else"
    assert query_terms("die laufenden Kosten der Häuser", "german") == ("laufend", "kost", "haus")
    for language in LANGUAGES:
        assert query_terms("text", language)
    assert phrases('a "b c" d „e f“ "') == (["b c", "e f"], 'a  b c  d  e f  "')


def test_words_of_the_query_are_marked_where_they_stand() -> None:
    text = "Running costs: getRunTime ran, 検索エンジン."
    terms = query_terms("run 検索", "english")
    assert [text[slice(*span)] for span in words_with(text, set(terms), "english")] == ["Running", "getRunTime", "検索"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(str(small_checkpoint(tmp_path_factory.mktemp("model"), "bert")), precision="float32")


def test_phrases_identifiers_and_languages_in_an_index(tmp_path: Path, encoder: Encoder) -> None:
    texts = {
        "a": "the white house by the river",
        "b": "a house that is white",
        "c": "call parse_config_file before you start",
        "d": "Die Häuser am Fluss",
    }
    indexer = Indexer(tmp_path / "index", model=encoder)
    indexer.update(Document(path, text, "") for path, text in texts.items())
    with Searcher(tmp_path / "index", model=encoder) as searcher:

        def found(query: str, mode: str = "lexical", **options: str) -> list[str]:
            return sorted(hit.path for hit in searcher.search(query, mode=mode, **options))  # type: ignore[arg-type]

        assert found("white house") == ["a", "b"]
        assert found('"white house"') == ["a"]
        assert found('"white house"', "hybrid") == ["a"]
        assert len(found('"white house"', "dense")) == 4
        assert found('"house white"') == ["a", "b"], "nobody says so: word by word"
        assert found('"white house"', filter="path:b") == ["b"]
        assert found("config") == found("parse_config_file") == ["c"]
        assert found("haus") == []
        assert found("?!") == []
        assert len(found("?!", "hybrid")) == 4
        Indexer(tmp_path / "index", model=encoder, settings=Settings(language="german")).update(
            Document("e", "Ein Haus", "")
        )
        assert found("haus") == ["d", "e"], "the words of all are stemmed anew"
    with Database.open_for_reading(tmp_path / "index") as database:
        lexical = database.head().lexical
    assert lexical is not None
    assert lexical.language == "german"
    with pytest.raises(InvalidInputError, match="klingon.*german"):
        Settings(language="klingon")


def test_the_score_of_lexical_mode_is_bm25(sample_index: Path) -> None:
    """Over a real index, by the words that are in it."""
    with Database.open_for_reading(sample_index) as database:
        stored = dict(database.texts(1))
    words = {n: analyzer("english").analyze(searchable(text)) for n, text in stored.items()}
    lengths = {n: float(one_byte(len(some))) for n, some in words.items()}
    with Searcher(sample_index) as searcher:
        for query in ("my tap drips", "deadlock in a database", "how long does bread rise"):
            hits = searcher.search(query, k=30, mode="lexical", per_document=None)
            terms = [w for w in re.findall(r"\w+", query) if w not in {"my", "in", "a", "how", "does"}]
            expected = plain_bm25(words, analyzer("english").analyze(" ".join(terms)), lengths)
            best = sorted(expected.items(), key=lambda pair: (-pair[1], pair[0]))[:30]
            np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in best], rtol=1e-4)
            assert all(expected[hit.id] == pytest.approx(hit.score, rel=1e-4) for hit in hits)


def test_verify_compares_it_with_the_passages(tmp_path: Path, encoder: Encoder) -> None:
    index = tmp_path / "index"
    Indexer(index, model=encoder).update(Document(f"{n}", f"well {n}", "") for n in range(5))
    for texts, told in (
        (lambda stored: stored[1:], "1 passages are not in the lexical index"),
        (lambda stored: [*stored, (99, "nobody's")], "1 passages are in the lexical index alone"),
        (lambda stored: stored, None),
    ):
        with open_writer(index) as writer, writer.transaction():
            head, stored = writer.database.head(), list(writer.database.texts(1))
            lexical = write_lexical(
                index, None, "english", removed=(), texts=lambda _, t=texts, s=stored: t(s), first_new=1
            )
            changed = replace(head, generation=head.generation + 1, lexical=lexical)
            writer.database.set_head(changed, writer.database.segments())
        assert list(verify(index)) == ([told] if told else [])
    (index / "lexical" / lexical.uuid / "stray").touch()
    assert any("stray does not belong there" in problem for problem in verify(index))
