"""How well cosines agree with people on which sentences mean the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semsearch.encoder.encoder import Encoder
from semsearch.errors import InvalidInputError


def spearman(path: Path, encoder: Encoder) -> tuple[float, int]:
    """Spearman's rank correlation of cosines and people's scores, and of how many pairs.

    Args:
        path: A pair a line, parted by tabs: score, sentence, sentence; a first line of names is passed over.
        encoder: What embeds the sentences.

    Raises:
        InvalidInputError: The file cannot be read, or is of another form; or the library that computes it is missing.
    """
    try:
        from scipy.stats import spearmanr
    except ImportError:
        raise InvalidInputError("evaluating needs: pip install 'semsearch[eval]'") from None
    scores: list[float] = []
    pairs: list[tuple[str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidInputError(f"cannot read {str(path)!r}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        try:
            score, one, other = line.split("\t")
            scores.append(float(score))
            pairs.append((one, other))
        except ValueError:
            if line.strip() and number > 1:
                raise InvalidInputError(
                    f"{str(path)!r}, line {number} is not a score and two sentences, parted by tabs: {line!r:.80}"
                ) from None
    if len(pairs) < 2:
        raise InvalidInputError(f"{str(path)!r} has {len(pairs)} pairs of sentences; at least two are needed")
    first, second = (encoder.encode([pair[side] for pair in pairs]) for side in (0, 1))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(axis=1) / lengths  # (n,)
    return float(spearmanr(cosines, scores).statistic), len(pairs)
