"""What `auto` precision costs in quality, against float32 on the same texts.

Give a folder with `scifact/` (BEIR's layout) and `stsb/test.tsv` (score, sentence, sentence).
"""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np

from semsearch import Encoder

PASSAGES = 5000


def main() -> None:
    """Print cosines, nDCG@10 and Spearman's correlation of both precisions."""
    data = Path(sys.argv[1])
    corpus = [json.loads(line) for line in (data / "scifact" / "corpus.jsonl").open(encoding="utf-8")]
    texts = [f"{one['title']} {one['text']}".strip() for one in corpus]
    scores: dict[str, str] = {}
    vectors = {}
    for asked in ("float32", "auto"):
        encoder = Encoder(precision=asked)
        vectors[asked] = _normalized(encoder.encode_document(texts))
        ndcg = _ndcg(encoder, vectors[asked], [one["_id"] for one in corpus], data / "scifact")
        scores[asked] = f"scifact nDCG@10 {ndcg:.4f}, stsb Spearman {100 * _stsb(encoder, data):.2f}"
        print(f"{asked} ({encoder.precision}): {scores[asked]}", flush=True)
    cosines = (vectors["float32"] * vectors["auto"]).sum(1)[:PASSAGES]
    print(f"cosine of the two on {len(cosines)} texts: mean {cosines.mean():.6f}, least {cosines.min():.6f}")


def _normalized(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _ndcg(encoder: Encoder, documents: np.ndarray, ids: list[str], folder: Path) -> float:
    """nDCG@10 (Jarvelin and Kekalainen 2002), the gain being the grade, as trec_eval's ndcg_cut_10."""
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as file:
        grades: dict[str, dict[str, int]] = {}
        for query, document, grade in list(csv.reader(file, delimiter="\t"))[1:]:
            grades.setdefault(query, {})[document] = int(grade)
    queries = {one["_id"]: one["text"] for one in map(json.loads, (folder / "queries.jsonl").open(encoding="utf-8"))}
    asked = _normalized(encoder.encode_query([queries[query] for query in grades]))
    total = 0.0
    for vector, relevant in zip(asked, grades.values(), strict=True):
        best = np.argsort(-(documents @ vector), kind="stable")[:10]
        gain = sum(relevant.get(ids[row], 0) / math.log2(rank + 2) for rank, row in enumerate(best))
        ideal = sorted(relevant.values(), reverse=True)[:10]
        total += gain / sum(grade / math.log2(rank + 2) for rank, grade in enumerate(ideal))
    return total / len(grades)


def _stsb(encoder: Encoder, data: Path) -> float:
    with (data / "stsb" / "test.tsv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = [row for row in rows if row[0].replace(".", "", 1).isdigit()]
    left, right = (_normalized(encoder.encode([row[column] for row in rows])) for column in (1, 2))
    golden = _ranks(np.array([float(row[0]) for row in rows]))
    return float(np.corrcoef(golden, _ranks((left * right).sum(1)))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean, so that Pearson's correlation of them is Spearman's."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


if __name__ == "__main__":
    main()
