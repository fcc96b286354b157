"""Figures of how well hits answer queries, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semsearch.errors import InvalidInputError
from semsearch.evaluation.judgments import Qrels

# What each is called here, and in ir_measures.
MEASURES = {"nDCG@10": "nDCG@10", "MRR@10": "RR@10", "MAP": "AP", "Recall@10": "R@10", "Recall@100": "R@100"}
# Hits that they look at.
DEPTH = 100
_RESAMPLES = 10_000
# Numbers drawn at a time, of each query.
_AT_ONCE = 500

Values = NDArray[np.float64]
# Of each query the documents that were found, with their scores.
Run = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries, and between what it lies in 95 % of bootstrap samples of them."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much higher one mean is than another over the same queries, and the p value of there being no difference."""

    difference: float
    p: float


def values_of(run: Run, qrels: Qrels) -> dict[str, Values]:
    """The value (n,) of each measure for each judged query, in the order of the judgments.

    As trec_eval has them: documents in the order of their scores, gains linear in nDCG. Without an answer it is 0.

    Raises:
        InvalidInputError: The library that computes them is not installed.
    """
    library = _library()
    by_name = {name: library.parse_measure(known) for name, known in MEASURES.items()}
    row = {query: number for number, query in enumerate(qrels)}
    values = {measure: np.zeros(len(qrels)) for measure in by_name.values()}
    answered = {query: dict(found) for query, found in run.items() if found and query in row}
    for one in library.iter_calc(list(values), qrels, answered) if answered else ():
        values[one.measure][row[one.query_id]] = one.value
    return {name: values[measure] for name, measure in by_name.items()}


def _library() -> Any:
    try:
        import ir_measures
    except ImportError:
        raise InvalidInputError("evaluating needs: pip install 'semsearch[eval]'") from None
    return ir_measures


def interval(values: Values) -> Interval:
    """The mean of values (n,), with its 95 % percentile bootstrap interval (Efron 1979)."""
    random = np.random.default_rng(0)
    means = np.concatenate(
        [
            values[random.integers(0, len(values), (_AT_ONCE, len(values)))].mean(axis=1)
            for _ in range(_RESAMPLES // _AT_ONCE)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def compare(some: Values, others: Values) -> Comparison:
    """Compare the means of two kinds of values (n,) of the same queries by a two-sided paired randomization test.

    (Smucker, Allan and Carterette 2007: a query's two values change places or not, at random.)
    """
    random = np.random.default_rng(0)
    differences = some - others
    found = abs(differences.mean())
    higher = sum(
        int(
            (abs((random.choice((-1.0, 1.0), (_AT_ONCE, len(some))) * differences).mean(axis=1)) >= found - 1e-12).sum()
        )
        for _ in range(_RESAMPLES // _AT_ONCE)
    )
    # The arrangement that was found is one of them.
    return Comparison(float(differences.mean()), (higher + 1) / (_RESAMPLES + 1))
