"""Evaluation against pytrec_eval and scipy, and what is counted."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_DATA, Run
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch.errors import InvalidInputError
from semsearch.evaluation.judgments import read_dataset, read_judged
from semsearch.evaluation.measures import compare, interval, values_of
from semsearch.query.query_files import read_queries

pytrec_eval = pytest.importorskip("pytrec_eval")

# As pytrec_eval calls them; the reciprocal rank of the first ten is that of a run cut at ten.
THEIRS = {"nDCG@10": "ndcg_cut_10", "MAP": "map", "Recall@10": "recall_10", "Recall@100": "recall_100"}

Qrels = dict[str, dict[str, int]]
Run_ = dict[str, dict[str, float]]


def their_values(run: Run_, qrels: Qrels) -> dict[str, np.ndarray]:
    found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map", "recall.10,100"}).evaluate(run)
    values = {ours: [found.get(query, {}).get(name, 0.0) for query in qrels] for ours, name in THEIRS.items()}
    cut = {
        query: dict(sorted(docs.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)[:10])
        for query, docs in run.items()
    }
    found = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
    values["MRR@10"] = [found.get(query, {}).get("recip_rank", 0.0) for query in qrels]
    return {name: np.array(some) for name, some in values.items()}


DOCUMENTS = st.integers(0, 40).map(str)


@settings(max_examples=60, deadline=None)
@given(
    qrels=st.dictionaries(
        st.integers(0, 8).map(str), st.dictionaries(DOCUMENTS, st.integers(0, 3), min_size=1), min_size=1
    ),
    run=st.dictionaries(
        st.integers(0, 10).map(str), st.dictionaries(DOCUMENTS, st.integers(0, 10_000).map(float), max_size=40)
    ),
)
def test_measures_are_those_of_pytrec_eval(qrels: Qrels, run: Run_) -> None:
    # Of equal scores every program may have its own order.
    run = {q: {d: score + int(d) / 100 for d, score in docs.items()} for q, docs in run.items()}
    ours, expected = values_of(run, qrels), their_values({q: d for q, d in run.items() if d}, qrels)
    assert ours.keys() == expected.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-9, err_msg=name)


def test_intervals_cover_and_differences_are_told() -> None:
    random = np.random.default_rng(4)
    inside = sum(found.low <= 0.5 <= found.high for found in (interval(random.random(40)) for _ in range(200)))
    assert 180 <= inside <= 199, "95 % of intervals have the true mean within, less a little for few values"
    some = random.random(100)
    assert compare(some, some).p == 1.0
    assert compare(some + 0.1 + 0.01 * random.random(100), some).p < 0.001
    assert compare(some, random.permutation(some)).p > 0.001
    scipy = pytest.importorskip("scipy.stats")
    others = some + random.normal(0.02, 0.1, 100)
    expected = scipy.ttest_rel(some, others).pvalue
    assert compare(some, others).p == pytest.approx(expected, abs=0.02)
    assert compare(some, others).difference == pytest.approx((some - others).mean())


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Wells by number; of query 4 nothing is right, query 5 has no text, 6 no judgment."""
    folder = tmp_path / "wells"
    (folder / "qrels").mkdir(parents=True)
    texts = ["A tap that drips", "Bread rises by yeast", "Locks and deadlocks", "Hay fever and pollen"]
    corpus = [{"_id": f"d/{n}", "title": "", "text": text} for n, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in corpus))
    queries = {"1": "dripping tap", "2": "yeast bread", "3": "deadlock", "4": "volcano", "6": "unjudged"}
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in queries.items())
    )
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n1\td/0\t1\n2\td/1\t2\n3\td/2\t1\n4\td/9\t1\n5\td/3\t1\n"
    )
    return folder


def test_a_dataset_from_end_to_end(run: Run, dataset: Path, tmp_path: Path) -> None:
    done = run("eval", dataset, "--json", "--run", "run.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["dataset"], found["queries"], found["unasked"]) == ("wells", 5, 1)
    assert found["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert list(found["modes"]) == ["hybrid", "dense", "lexical"]
    names = ["nDCG@10", "MRR@10", "MAP", "Recall@10", "Recall@100"]
    for measures in found["modes"].values():
        assert list(measures) == names
        assert measures["nDCG@10"]["mean"] == pytest.approx(0.6), "three of five, the others count as zero"
        assert measures["MAP"]["low"] <= measures["MAP"]["mean"] <= measures["MAP"]["high"]
    assert set(found["compared"]) == {"hybrid - dense", "hybrid - lexical", "dense - lexical"}
    lines = [line.split() for line in (tmp_path / "run.txt").read_text().splitlines()]
    assert {line[0] for line in lines} == {"1", "2", "3", "4"}
    assert lines[0][:4] == ["1", "Q0", "d/0", "1"]
    # The same figures come from the file; and again from the index that is there now.
    stored: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for query, _, document, _, score, _ in lines:
        stored[query][document] = float(score)
    qrels = read_dataset(dataset, "test").qrels
    for name, values in their_values(stored, qrels).items():
        assert found["modes"]["hybrid"][name]["mean"] == pytest.approx(values.mean())
    assert (tmp_path / "indexes" / "eval-wells").is_dir()
    again = run(
        "eval", "-i", "eval-wells", "--queries", dataset / "queries.jsonl", "--qrels", dataset / "qrels" / "test.tsv",
        "--mode", "lexical", cwd=tmp_path,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "lexical   0.6000 [" in again.stdout
    assert "hybrid" not in again.stdout
    itself = run("eval", "--self", "-i", "eval-wells", "--json", cwd=tmp_path)
    assert (itself.returncode, "no heading or sentence" in itself.stderr) == (2, True)


def test_an_index_is_evaluated_by_its_own_headings(run: Run, sample_index: Path) -> None:
    done = run("eval", "--self", "--json", "--indexes", sample_index.parent, "-i", sample_index.name)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["queries"] > 50
    assert found["modes"]["hybrid"]["MRR@10"]["mean"] > 0.9


def test_stsb(run: Run, tmp_path: Path) -> None:
    pairs = [("a tap drips", "the tap is dripping", 5.0), ("bread", "a volcano", 0.2), ("rain", "wet weather", 3.0)]
    lines = ["score\ts1\ts2", *(f"{score}\t{one}\t{other}" for one, other, score in pairs)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    done = run("eval", "--stsb", tmp_path / "pairs.tsv", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["spearman"] == pytest.approx(1.0)
    (tmp_path / "pairs.tsv").write_text("score\ts1\ts2\n1.0\tonly one")
    done = run("eval", "--stsb", tmp_path / "pairs.tsv")
    assert (done.returncode, "line 2" in done.stderr) == (2, True)


@pytest.mark.slow
def test_the_published_correlation(run: Run) -> None:
    path = SHARED_DATA / "stsb" / "test.tsv"
    if not path.exists():
        pytest.skip("the STS Benchmark is not here")
    done = run("eval", "--stsb", path, "--json")
    # https://www.sbert.net/docs/sentence_transformer/pretrained_models.html: 82.03 for all-MiniLM-L6-v2
    assert json.loads(done.stdout)["spearman"] == pytest.approx(0.8203, abs=0.0005)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one of"),
        (["--queries", "q.jsonl"], "go together"),
        (["--stsb", "nowhere.tsv"], "cannot read 'nowhere.tsv'"),
    ],
)
def test_wrong_usage(run: Run, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run("eval", *arguments, cwd=tmp_path)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_files_that_are_not_what_they_should_be(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no split 'dev'; there are: test"):
        read_dataset(dataset, "dev")
    with pytest.raises(InvalidInputError, match=r"has no corpus.jsonl"):
        read_dataset(tmp_path, "test")
    bad = tmp_path / "bad.tsv"
    bad.write_text("query-id\tcorpus-id\tscore\n1\td/0\tmuch\n")
    with pytest.raises(InvalidInputError, match="line 2 is no judgment"):
        read_judged(dataset / "queries.jsonl", bad)
    bad.write_text("query-id\tcorpus-id\tscore\n77\td/0\t1\n")
    with pytest.raises(InvalidInputError, match="judges none"):
        read_judged(dataset / "queries.jsonl", bad)
    trec = tmp_path / "trec.txt"
    trec.write_text("1 0 d/0 1\n2 0 d/1 0\n")
    assert read_judged(dataset / "queries.jsonl", trec).qrels == {"1": {"d/0": 1}, "2": {"d/1": 0}}
    for line in ('{"_id": 1}', '{"text": "x"}', '{"_id": "1", "text": "x"}\n{"_id": "1", "text": "y"}', "{"):
        with pytest.raises(InvalidInputError, match="queries, line"):
            read_queries(line.split("\n"), "queries")
    assert read_queries(["a tap\n", "\n", "bread"], "stdin") == {"1": "a tap", "3": "bread"}
