"""Rerankers: cross-encoders, which read a query and a text together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.models import load_model_files
from semsearch.errors import InvalidInputError


class Reranker:
    """A cross-encoder by a folder or a Hugging Face name, such as cross-encoder/ms-marco-MiniLM-L6-v2.

    It takes the time of a pass through the model for each text; torch is loaded with the first.
    """

    def __init__(self, model: str, *, device: str = "auto") -> None:
        """Find the model and read its configuration; its weights are loaded now, too.

        Args:
            model: A folder or a name, as of Encoder.
            device: As of Encoder.

        Raises:
            ModelError: It cannot be had, or is no cross-encoder that gives one score.
            InvalidInputError: No such device here.
        """
        files = load_model_files(model, pooled=False)
        from semsearch.encoder.torch_engine import CrossEncoderEngine

        self.model = files.fingerprint.model
        self._engine = CrossEncoderEngine(files, device)

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well each of n texts answers a query, float32 (n,) of 0 to 1: the sigmoid of the model's output.

        Raises:
            InvalidInputError: One string instead of several texts.
        """
        if isinstance(texts, str):
            raise InvalidInputError("scores takes a list of texts, got one string; put it into a list")
        return self._engine.scores(query, texts)
