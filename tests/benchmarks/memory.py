"""Peak memory of encoding many short texts, above that of having encoded a few hundred."""

from __future__ import annotations

import argparse
import random
import resource

from semsearch import Encoder

WORDS = (
    "water tap bread river engine letter window garden music winter paper bridge copper market silver harbour".split()
)


def main() -> None:
    """Print the peak after a few texts, which the model's own is most of, and after all of them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--texts", type=int, default=200_000)
    arguments.add_argument("--precision", default="auto")
    given = arguments.parse_args()
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=draw.randint(3, 20))) for _ in range(given.texts))
    encoder = Encoder(precision=given.precision)
    encoder.encode([" ".join(WORDS)] * 1000)
    model = _peak()
    streamed = sum(len(vectors) for vectors in encoder.encode_document_stream(texts))
    stream = _peak()
    listed = encoder.encode([" ".join(draw.choices(WORDS, k=draw.randint(3, 20))) for _ in range(given.texts)])
    print(f"{encoder.precision}, the model with a few texts: peak {model:.0f} MiB")
    print(f"{streamed} texts as a stream: {stream - model:+.0f} MiB")
    print(f"{len(listed)} texts as a list, with the list and its vectors: {_peak() - model:+.0f} MiB")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
