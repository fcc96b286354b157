"""Passages to measure with."""

from __future__ import annotations

import random
from pathlib import Path

from semsearch import Encoder
from semsearch.corpus.chunking import Chunker
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import read
from semsearch.corpus.walk import walk
from semsearch.errors import UnreadableFileError


def passages_of(corpus: Path, count: int, encoder: Encoder) -> list[str]:
    """Some of the passages of a folder, or whole documents of a BEIR `corpus.jsonl`, drawn with a fixed seed."""
    chunker = Chunker(encoder.tokenizer.token_starts, encoder.max_tokens)
    texts: list[str] = []
    for file in walk([corpus]).files:
        try:
            for document in read(file, ReadOptions()):
                if file.name.endswith(".jsonl"):
                    texts.append(f"{document.title} {document.text}")
                else:
                    texts += [embedded for _, embedded in chunker.chunk(document)]
        except UnreadableFileError:
            continue
    return random.Random(0).sample(texts, min(count, len(texts)))
