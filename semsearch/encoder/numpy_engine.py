"""BERT and its kin in NumPy over memory-mapped safetensors: a first query needs no torch.

The forward pass is that of transformers' BertModel, DistilBertModel, RobertaModel, XLMRobertaModel and MPNetModel, in
float32, one text at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.checkpoint import Array, Checkpoint
from semsearch.encoder.models import ModelFiles
from semsearch.errors import UnsupportedModelError


class NumpyEngine:
    """A BERT-family transformer with its pooling, in float32."""

    precision = "float32"

    def __init__(self, files: ModelFiles, observe: Callable[[str, Array], None] | None = None) -> None:
        """Map the weights; they are read as they are used.

        Args:
            files: The model.
            observe: Is given the name and the result (tokens, hidden) of every normalization.

        Raises:
            UnsupportedModelError: An architecture, pooling or file that this engine does not cover.
        """
        self._model = Checkpoint(files)
        activation = _ACTIVATIONS.get(self._model.activation)
        if activation is None:
            raise UnsupportedModelError(f"{files.fingerprint.model}: not covered without torch")
        self._activation = activation
        self._observe = observe

    def encode(self, token_ids: list[list[int]]) -> Array:
        """Vectors float32 (n, dim) of n texts given by their token ids, in their order."""
        # What overflows shows in the result, which the caller checks.
        with np.errstate(all="ignore"):
            return np.stack([self._model.pool(self._forward(np.array(ids))) for ids in token_ids])

    def _forward(self, ids: NDArray[np.int64]) -> Array:
        hidden = self._model.words(ids) + self._model.positions()[self._model.position_ids(ids)]
        hidden = self._norm(hidden, "embeddings.LayerNorm")  # (tokens, hidden)
        bias = self._distance_bias(len(ids))  # (heads, tokens, tokens) or 0
        names = self._model.names
        for number in range(self._model.layers):
            layer = names.layer.format(number)
            attended = self._attend(hidden, layer, bias)
            hidden = self._norm(hidden + attended, layer + names.attended_norm)
            up = self._activation(self._linear(hidden, layer + names.up))  # (tokens, intermediate)
            hidden = self._norm(hidden + self._linear(up, layer + names.down), layer + names.down_norm)
        return hidden

    def _attend(self, hidden: Array, layer: str, bias: Array | float) -> Array:
        names = self._model.names
        query, key, value = (
            self._linear(hidden, layer + name).reshape(len(hidden), self._model.heads, -1).transpose(1, 0, 2)
            for name in (names.query, names.key, names.value)
        )  # (heads, tokens, hidden / heads) each
        scores = (
            query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(query.shape[2])) + bias
        )  # (heads, tokens, tokens)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        joined = (weights @ value).transpose(1, 0, 2).reshape(hidden.shape)  # (tokens, hidden)
        return self._linear(joined, layer + names.attended)

    def _linear(self, hidden: Array, name: str) -> Array:
        return hidden @ self._model.weight(name).T + self._model.bias(name)

    def _norm(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        scaled: Array = centred / np.sqrt(variance + np.float32(self._model.epsilon))
        normalized = scaled * self._model.weight(name) + self._model.bias(name)
        if self._observe:
            self._observe(name, normalized)
        return normalized

    def _distance_bias(self, tokens: int) -> Array | float:
        at = np.arange(tokens)
        bias = self._model.distance_bias((at[None, :] - at[:, None]).ravel())
        return 0.0 if bias is None else bias.reshape(-1, tokens, tokens)


def _gelu(x: Array) -> Array:
    """`x * (1 + erf(x / sqrt(2))) / 2` (Hendrycks and Gimpel 2016)."""
    return x * (1 + _erf(x * np.float32(math.sqrt(0.5)))) * np.float32(0.5)


def _erf(x: Array) -> Array:
    """Formula 7.1.26 of Abramowitz and Stegun, off by at most 1.5e-7."""
    absolute = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * absolute)
    return cast("Array", np.copysign(1 - np.polyval(_ERF, t) * np.exp(-absolute * absolute), x))


_ERF = np.array([1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0], dtype=np.float32)


def _gelu_tanh(x: Array) -> Array:
    """GELU by its approximation with tanh."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    return cast("Array", np.float32(0.5) * x * (1 + np.tanh(inner)))


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": _relu,
}
