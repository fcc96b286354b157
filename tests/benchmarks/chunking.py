"""What passages do for finding: structural ones against fixed windows, and against whole documents.

Of a folder of Markdown, sections are looked for by their headings: each query is the heading of a section, of three
words or more and found once in the folder, and a passage is right if half of it, or of the section, is in both. Fixed
windows have the document's title in front, too, and on average as many tokens of text as the structural passages. Of a
folder in BEIR's layout, documents are looked for, by their best passage or as a whole (cut off at the model's length).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from semsearch import Encoder
from semsearch.corpus.chunking import CHUNK_TOKENS, OVERLAP, Chunker
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import read
from semsearch.corpus.walk import walk
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

QUERIES = 1500
# Of a document: the spans of its pieces, and what is embedded for each.
Cut = Callable[[Document], Iterator[tuple[int, int, str]]]


def main() -> None:
    """Print a line for each way of cutting."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folders", nargs="+", type=Path)
    arguments.add_argument("--chunk-tokens", nargs="+", type=int, default=[CHUNK_TOKENS])
    arguments.add_argument("--overlap", nargs="+", type=int, default=[OVERLAP])
    given = arguments.parse_args()
    encoder = Encoder(precision="auto")
    chunkers = {
        f"passages of {tokens} tokens, overlap {overlap}": Chunker(
            encoder.tokenizer.token_starts, encoder.max_tokens, tokens, overlap
        )
        for tokens in given.chunk_tokens
        for overlap in given.overlap
    }
    for folder in given.folders:
        if (folder / "qrels").is_dir():
            _look_for_documents(folder, encoder, chunkers)
        else:
            _look_for_sections(folder, encoder, chunkers)


def _look_for_sections(folder: Path, encoder: Encoder, chunkers: dict[str, Chunker]) -> None:
    documents = []
    for file in walk([folder]).files:
        try:
            documents += list(read(file, ReadOptions()))
        except UnreadableFileError:
            continue
    counts = Counter(heading.text.lower() for document in documents for heading in document.headings)
    sections = [
        (number, heading.char_start, next_start, heading.text)
        for number, document in enumerate(documents)
        for heading, next_start in zip(
            document.headings, [*(h.char_start for h in document.headings[1:]), len(document.text)], strict=False
        )
        if counts[heading.text.lower()] == 1 and len(heading.text.split()) >= 3 and heading.text != document.title
    ]
    sections = random.Random(0).sample(sections, min(QUERIES, len(sections)))
    queries = _normalized(encoder.encode_query([heading for *_, heading in sections]))
    print(f"{folder.name}: {len(documents)} documents, {len(sections)} sections looked for by their headings")
    for name, chunker in chunkers.items():

        def structural(document: Document, chunker: Chunker = chunker) -> Iterator[tuple[int, int, str]]:
            for passage, text in chunker.chunk(document):
                yield passage.char_start, passage.char_end, text

        mean = _measure_sections(name, structural, documents, sections, queries, encoder)
        _measure_sections(f"  windows of {mean} tokens", _windows(encoder, mean), documents, sections, queries, encoder)


def _windows(encoder: Encoder, size: int) -> Cut:
    """Every `size` tokens a piece, of the text as the reader gives it, without its markup."""

    def cut(document: Document) -> Iterator[tuple[int, int, str]]:
        kept = list(document.text)
        for start, end in document.markup:
            kept[start:end] = " " * (end - start)
        text = "".join(kept)
        starts = encoder.tokenizer.token_starts(text)
        bounds = [*starts[np.searchsorted(starts, document.body_start) :: size].tolist(), len(text)]
        for start, end in zip(bounds, bounds[1:], strict=False):
            if piece := " ".join(text[start:end].split(" ")):
                yield start, end, f"{document.title}\n{piece}"

    return cut


def _measure_sections(
    name: str,
    cut: Cut,
    documents: list[Document],
    sections: list[tuple[int, int, int, str]],
    queries: np.ndarray,
    encoder: Encoder,
) -> int:
    """Print how well the sections are found; returns tokens of a piece's text, without its title, on average."""
    pieces = [(number, *piece) for number, document in enumerate(documents) for piece in cut(document)]
    vectors = _normalized(encoder.encode_document([text for *_, text in pieces]))
    ranks = []
    for query, (number, first, last, _) in zip(queries, sections, strict=True):
        found = [pieces[row][:3] for row in np.argsort(-(vectors @ query), kind="stable")[:10]]
        right = [
            rank
            for rank, (one, start, end) in enumerate(found, 1)
            if one == number and 2 * (min(end, last) - max(start, first)) >= min(end - start, last - first)
        ]
        ranks.append(right[0] if right else 0)
    starts = encoder.tokenizer.token_starts
    titles = [len(starts(document.title)) for document in documents]
    tokens = round(statistics.mean(len(starts(text)) - titles[number] for number, *_, text in pieces))
    mrr, first_place = statistics.mean(1 / r if r else 0 for r in ranks), statistics.mean(r == 1 for r in ranks)
    print(f"  {name}: MRR@10 {mrr:.3f}, first {first_place:.3f}; {len(pieces)} pieces", flush=True)
    return tokens


def _look_for_documents(folder: Path, encoder: Encoder, chunkers: dict[str, Chunker]) -> None:
    (file,) = walk([folder / "corpus.jsonl"]).files
    documents = list(read(file, ReadOptions()))
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as lines:
        grades: dict[str, dict[str, int]] = {}
        for query, document_id, grade in list(csv.reader(lines, delimiter="\t"))[1:]:
            grades.setdefault(query, {})[document_id] = int(grade)
    texts = {one["_id"]: one["text"] for one in map(json.loads, (folder / "queries.jsonl").open(encoding="utf-8"))}
    queries = _normalized(encoder.encode_query([texts[query] for query in grades]))

    def whole(document: Document) -> Iterator[str]:
        yield f"{document.title} {document.text}".strip()

    ways = {"whole documents": whole}
    for name, chunker in chunkers.items():
        ways[name] = lambda document, chunker=chunker: (text for _, text in chunker.chunk(document))
    print(f"{folder.name}: {len(documents)} documents, {len(grades)} queries")
    for name, cut in ways.items():
        pieces = [(number, text) for number, document in enumerate(documents) for text in cut(document)]
        vectors = _normalized(encoder.encode_document([text for _, text in pieces]))
        of = np.array([number for number, _ in pieces])
        total = 0.0
        for query, relevant in zip(queries, grades.values(), strict=True):
            best = np.full(len(documents), -2, np.float32)
            np.maximum.at(best, of, vectors @ query)
            total += _ndcg(
                [str(documents[row].metadata["_id"]) for row in np.argsort(-best, kind="stable")[:10]], relevant
            )
        print(f"  {name}: nDCG@10 {total / len(grades):.4f}; {len(pieces)} pieces", flush=True)


def _ndcg(found: list[str], relevant: dict[str, int]) -> float:
    """nDCG@10 (Jarvelin and Kekalainen 2002), the gain being the grade, as trec_eval's ndcg_cut_10."""
    gain = sum(relevant.get(one, 0) / math.log2(rank + 2) for rank, one in enumerate(found))
    ideal = sorted(relevant.values(), reverse=True)[:10]
    return gain / sum(grade / math.log2(rank + 2) for rank, grade in enumerate(ideal))


def _normalized(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
