"""Test collections: queries, and which documents answer them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from semsearch.errors import InvalidInputError
from semsearch.query.query_files import read_queries

# Of each query the documents that were judged, with how relevant each is; 0 is not.
Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Queries whose answers are known.

    Attributes:
        queries: By id; those that are judged.
        qrels: The judgments of each judged query, of those without a text, too.
    """

    queries: dict[str, str]
    qrels: Qrels


def read_judged(queries: Path, qrels: Path) -> Judged:
    """Read queries and judgments; queries without any are left out.

    Args:
        queries: As of `query_files.read_queries`.
        qrels: A line a judgment: `query-id`, `corpus-id`, `score`, parted by tabs below a line that says so, as BEIR
            has them; or `query 0 document score`, as TREC has them.

    Raises:
        InvalidInputError: A file is not there, or not what it should be, or no query is judged.
    """
    with _opened(queries) as lines:
        texts = read_queries(lines, str(queries))
    judgments = _read_qrels(qrels)
    judged = {key: text for key, text in texts.items() if key in judgments and text.strip()}
    if not judged:
        raise InvalidInputError(f"{str(qrels)!r} judges none of the queries of {str(queries)!r}")
    return Judged(judged, judgments)


def read_dataset(folder: Path, split: str) -> Judged:
    """Read the queries and judgments of a folder in BEIR's layout: `queries.jsonl`, `qrels/SPLIT.tsv`.

    (Thakur et al. 2021, https://github.com/beir-cellar/beir)

    Raises:
        InvalidInputError: It is no such folder; else as `read_judged`.
    """
    for name in ("corpus.jsonl", "queries.jsonl", "qrels"):
        if not (folder / name).exists():
            raise InvalidInputError(
                f"{str(folder)!r} has no {name}; a dataset has corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
            )
    qrels = folder / "qrels" / f"{split}.tsv"
    if not qrels.exists():
        there = ", ".join(sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))) or "none"
        raise InvalidInputError(f"{str(folder)!r} has no split {split!r}; there are: {there}")
    return read_judged(folder / "queries.jsonl", qrels)


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"cannot read {str(path)!r}: {error.strerror}") from None


def _read_qrels(path: Path) -> Qrels:
    qrels: Qrels = {}
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip("\r\n").split("\t")
            fields = line.split() if len(fields) == 1 else fields
            if len(fields) == 4:
                del fields[1]
            try:
                query, document, score = fields
                qrels.setdefault(query, {})[document] = int(score)
            except ValueError:
                if line.strip() and number > 1:  # the first may be of names
                    raise InvalidInputError(
                        f"{str(path)!r}, line {number} is no judgment: {line.strip()!r:.80}"
                    ) from None
    return qrels
