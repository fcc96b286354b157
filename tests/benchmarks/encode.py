"""Tokens a second of the encoder and of sentence-transformers: same weights, same passages, float32, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from sentence_transformers import SentenceTransformer

from semsearch import Encoder
from semsearch.corpus.chunking import Chunker
from semsearch.corpus.readers import read
from semsearch.corpus.walk import walk
from semsearch.encoder.models import load_model_files

ROUNDS = 5


def main() -> None:
    """Print the medians and their ratio, on the passages of the sample corpus."""
    encoder = Encoder()
    peer = SentenceTransformer(str(load_model_files("all-MiniLM-L6-v2").folder), device="cpu")
    chunker = Chunker(encoder.tokenizer.token_spans, encoder.max_tokens)
    files = walk([Path(__file__).resolve().parent.parent / "corpus"]).files
    texts = [text for file in files for document in read(file) for _, text in chunker.chunk(document)]
    tokens = sum(map(len, encoder.tokenizer.token_ids(texts)))

    def theirs(batch: list[str]) -> object:
        return peer.encode(batch, batch_size=32)

    contenders: dict[str, Callable[[list[str]], object]] = {
        "semsearch": encoder.encode,
        "sentence-transformers, batch 32": theirs,
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(ROUNDS + 1):
        for name, encode in contenders.items():
            started = time.perf_counter()
            encode(texts)
            if run:  # the first loads the weights
                rates[name].append(tokens / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{len(texts)} passages, {tokens / len(texts):.0f} tokens on average")
    for name, median in medians.items():
        print(f"{name:<32} {median:,.0f} tokens/s, median of {ROUNDS}")
    print(f"{'ratio':<32} {medians['semsearch'] / medians['sentence-transformers, batch 32']:.2f}")


if __name__ == "__main__":
    main()
