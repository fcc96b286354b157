"""Cross-encoders against transformers' own scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints import small_checkpoint
from conftest import Run

from semsearch import Document, Encoder, Indexer, Searcher
from semsearch.encoder.reranker import Reranker
from semsearch.errors import InvalidInputError, UnsupportedModelError

TEXTS = [f"{word} of the well number {n}" for n, word in enumerate(["rope", "stone", "water", "bucket"] * 20)]


def cross_encoder(folder: Path, labels: int = 1) -> Path:
    """A small random cross-encoder, as transformers saves it."""
    import torch
    import transformers

    small_checkpoint(folder, "bert")
    config = transformers.BertConfig.from_pretrained(folder, num_labels=labels)
    torch.manual_seed(5)
    model = transformers.BertForSequenceClassification(config)
    model.eval().classifier.weight.data.mul_(3000)  # scores that differ
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**tokenizer(["the rope of a well"] * 8, TEXTS[:8], padding=True, return_tensors="pt")).logits
    model.classifier.bias.data.copy_(-logits.mean(axis=0))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross_encoder(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    encoder = Encoder(str(small_checkpoint(folder / "model", "bert")), precision="float32")
    Indexer(folder / "wells", model=encoder).update(Document(f"{n}", text, "") for n, text in enumerate(TEXTS))
    return folder / "wells"


def theirs(model: Path, query: str, texts: list[str]) -> np.ndarray:
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(model).eval()
    scores = []
    for text in texts:
        with torch.inference_mode():
            logit = network(**tokenizer([query], [text], truncation=True, max_length=64, return_tensors="pt")).logits
        scores.append(1 / (1 + np.exp(-float(logit[0, 0]))))
    return np.array(scores)


def test_scores_are_those_of_transformers(model: Path) -> None:
    texts = [*TEXTS[:10], "", "long " * 500]
    found = Reranker(str(model)).scores("the rope of a well", texts)
    expected = theirs(model, "the rope of a well", texts)
    np.testing.assert_allclose(found, expected, atol=5e-4)
    assert expected.std() > 0.01
    with pytest.raises(InvalidInputError, match="list"):
        Reranker(str(model)).scores("x", "text")


def test_the_first_hits_are_ordered_anew(index: Path, model: Path) -> None:
    query = "water"
    with Searcher(index) as plain, Searcher(index, reranker=str(model)) as searcher:
        first = plain.search(query, 50)
        scores = dict(zip([hit.id for hit in first], theirs(model, query, [hit.text for hit in first]), strict=True))
        hits = searcher.search(query, 10)
        best = sorted(scores, key=lambda number: -scores[number])[:10]
        np.testing.assert_allclose([hit.score for hit in hits], [scores[number] for number in best], atol=5e-4)
        fused = searcher.search(query, 50, rerank_weight=0.3)
        before = {hit.id: hit.score for hit in first}
        for hit in fused:
            assert hit.score == pytest.approx(0.7 * before[hit.id] + 0.3 * scores[hit.id], abs=5e-4)
            assert hit.parts["rerank"] == pytest.approx(scores[hit.id], abs=5e-4)
        unchanged = searcher.search(query, 10, rerank_weight=0.0)
        assert [hit.id for hit in unchanged] == [hit.id for hit in first[:10]]
        assert len(searcher.search(query, 70)) == 70
        assert all(hit.score >= 0.5 for hit in searcher.search(query, min_score=0.5))
        with pytest.raises(InvalidInputError, match="rerank_weight"):
            searcher.search(query, rerank_weight=2)


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="no cross-encoder"):
        Reranker(str(small_checkpoint(tmp_path / "encoder", "bert")))
    with pytest.raises(UnsupportedModelError, match="3 classes"):
        Reranker(str(cross_encoder(tmp_path / "three", labels=3)))


def test_on_the_command_line(run: Run, index: Path, model: Path) -> None:
    done = run("query", "water", "--indexes", index.parent, "-i", "wells", "--rerank", model, "--json", "-k", "3")
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)["hits"]
    assert len(hits) == 3
    assert all(hit["score"] == hit["parts"]["rerank"] for hit in hits)
