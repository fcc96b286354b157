"""How good a ranking is, mode by mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from semsearch.errors import IndexConflictError, ModelMismatchError
from semsearch.evaluation.judgments import Judged
from semsearch.evaluation.measures import DEPTH, Comparison, Interval, compare, interval, values_of
from semsearch.indexer.indexer import Indexer
from semsearch.indexer.report import IndexSummary, Progress
from semsearch.indexer.settings import Settings
from semsearch.query.query_files import document_id
from semsearch.query.searcher import Searcher
from semsearch.types import Hit

# Queries that are embedded together.
_BATCH = 256
# A corpus is one file, however large.
_NO_LIMIT = 2**50


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        queries: How many count: all that are judged.
        unasked: How many of them have no text, and count as unanswered.
        modes: Of each mode the measures.
        compared: Of each two modes, as "hybrid - dense", the measures' differences.
    """

    queries: int
    unasked: int
    modes: dict[str, dict[str, Interval]]
    compared: dict[str, dict[str, Comparison]]


def index_dataset(
    folder: Path, index: Path, *, model: str | None = None, progress: Callable[[Progress], None] | None = None
) -> IndexSummary:
    """Index a dataset's `corpus.jsonl`; again, only what has changed, unless model or folder are others."""
    indexer = Indexer(index, model=model, settings=Settings(max_file_size=_NO_LIMIT))
    try:
        return indexer.update(folder / "corpus.jsonl", progress=progress)
    except (ModelMismatchError, IndexConflictError):
        return indexer.update(folder / "corpus.jsonl", rebuild=True, progress=progress)


def answers_of(searcher: Searcher, queries: dict[str, str], mode: str) -> dict[str, list[Hit]]:
    """The best hits of each query."""
    answers: dict[str, list[Hit]] = {}
    keys, texts = list(queries), list(queries.values())
    for start in range(0, len(keys), _BATCH):
        some = searcher.search_batch(texts[start : start + _BATCH], DEPTH, mode=mode)
        answers |= zip(keys[start : start + _BATCH], some, strict=True)
    return answers


def evaluate(answers: dict[str, dict[str, list[Hit]]], judged: Judged) -> Evaluation:
    """The measures of each mode's answers, as of `answers_of`.

    Raises:
        InvalidInputError: The library that computes them is not installed.
    """
    values = {mode: values_of(_run(found), judged.qrels) for mode, found in answers.items()}
    return Evaluation(
        queries=len(judged.qrels),
        unasked=len(judged.qrels) - len(judged.queries),
        modes={mode: {name: interval(own) for name, own in measures.items()} for mode, measures in values.items()},
        compared={
            f"{one} - {other}": {name: compare(values[one][name], values[other][name]) for name in values[one]}
            for one, other in combinations(values, 2)
        },
    )


def _run(answers: dict[str, list[Hit]]) -> dict[str, dict[str, float]]:
    """Each document's best score, as it stands in a run file."""
    run: dict[str, dict[str, float]] = {}
    for query, hits in answers.items():
        found = run.setdefault(query, {})
        for hit in hits:
            found.setdefault(document_id(hit), float(f"{hit.score:.9g}"))
    return run
