"""BERT and its kin in NumPy over memory-mapped safetensors: a first query needs no torch.

The forward pass is that of transformers' BertModel, DistilBertModel, RobertaModel, XLMRobertaModel and MPNetModel, in
float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.checkpoint import Array, Checkpoint
from semsearch.encoder.models import ModelFiles
from semsearch.errors import UnsupportedModelError

# Tokens, with what short texts are filled up by, that pass through together.
_TOKENS_TOGETHER = 512
# Of these, what an activation's many passes over them keep in a processor's cache.
_ROWS_AT_ONCE = 16


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
        self._calls = 0
        self._columns: dict[str, Array] = {}

    def encode(self, token_ids: list[list[int]]) -> Array:
        """Vectors float32 (n, dim) of n texts given by their token ids, in their order."""
        self._calls += 1
        # What overflows shows in the result, which the caller checks.
        with np.errstate(all="ignore"):
            hidden = [one for some in _together(token_ids) for one in self._forward([np.array(ids) for ids in some])]
            return np.stack([self._model.pool(one) for one in hidden])

    def _forward(self, texts: list[NDArray[np.int64]]) -> list[Array]:
        """The token vectors (tokens, hidden) of each text; the weights are read once for all of them."""
        layout = _Layout([len(ids) for ids in texts])
        positions = np.concatenate([self._model.position_ids(ids) for ids in texts])
        hidden = self._model.words(np.concatenate(texts)) + self._model.positions()[positions]
        hidden = self._norm(hidden, "embeddings.LayerNorm")  # (tokens of all texts, hidden)
        bias = self._distance_bias(layout.longest) + layout.mask  # (texts or 1, heads or 1, longest or 1, longest)
        names = self._model.names
        for number in range(self._model.layers):
            layer = names.layer.format(number)
            attended = self._attend(hidden, layer, layout, bias)
            hidden = self._norm(hidden + attended, layer + names.attended_norm)
            up = self._linear(hidden, layer + names.up)  # (tokens, intermediate)
            for start in range(0, len(up), _ROWS_AT_ONCE):
                up[start : start + _ROWS_AT_ONCE] = self._activation(up[start : start + _ROWS_AT_ONCE])
            hidden = self._norm(hidden + self._linear(up, layer + names.down), layer + names.down_norm)
        return np.split(hidden, layout.ends)

    def _attend(self, hidden: Array, layer: str, layout: _Layout, bias: Array) -> Array:
        names, heads = self._model.names, self._model.heads
        query, key, value = (
            layout.padded(self._linear(hidden, layer + name), heads) for name in (names.query, names.key, names.value)
        )  # (texts, heads, longest, hidden / heads) each
        scale = np.float32(math.sqrt(query.shape[3]))
        scores = query @ key.transpose(0, 1, 3, 2) / scale + bias  # (texts, heads, longest, longest)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return self._linear(layout.joined(weights @ value), layer + names.attended)

    def _linear(self, hidden: Array, name: str) -> Array:
        return hidden @ self._transposed(name) + self._model.bias(name)

    def _transposed(self, name: str) -> Array:
        """A weight (in, out). From the second call of `encode` on it lies in memory so, and few tokens take half as
        long; a first query has its answer before it would be copied."""
        if name not in self._columns:
            weight: Array = self._model.weight(name).T
            if self._calls < 2:
                return weight
            self._columns[name] = np.ascontiguousarray(weight)
        return self._columns[name]

    def _norm(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        scaled: Array = centred / np.sqrt(variance + np.float32(self._model.epsilon))
        normalized = scaled * self._model.weight(name) + self._model.bias(name)
        if self._observe:
            self._observe(name, normalized)
        return normalized

    def _distance_bias(self, tokens: int) -> Array | np.float32:
        at = np.arange(tokens)
        bias = self._model.distance_bias((at[None, :] - at[:, None]).ravel())
        return np.float32(0) if bias is None else bias.reshape(-1, tokens, tokens)


class _Layout:
    """Where the tokens of several texts are: one after the other, or each text in as many rows as the longest has."""

    def __init__(self, lengths: list[int]) -> None:
        self._texts, self.longest = len(lengths), max(lengths)
        # Where each text but the last ends.
        self.ends = np.cumsum(lengths)[:-1]
        there = np.arange(self.longest) < np.array(lengths)[:, None]  # (texts, longest)
        self._rows = np.flatnonzero(there)
        # What is added to a score, (texts, 1, 1, longest): no token attends to what is none.
        self.mask = np.where(there, np.float32(0), np.float32(-np.inf))[:, None, None, :]

    def padded(self, tokens: Array, heads: int) -> Array:
        """Vectors (tokens, hidden) as (texts, heads, longest, hidden / heads)."""
        if len(self._rows) < self._texts * self.longest:
            rows = np.zeros((self._texts * self.longest, tokens.shape[1]), np.float32)
            rows[self._rows] = tokens
            tokens = rows
        return tokens.reshape(self._texts, self.longest, heads, -1).transpose(0, 2, 1, 3)

    def joined(self, padded: Array) -> Array:
        """The other way."""
        return padded.transpose(0, 2, 1, 3).reshape(self._texts * self.longest, -1)[self._rows]


def _together(token_ids: list[list[int]]) -> Iterator[list[list[int]]]:
    """The texts, in their order, some at a time."""
    some: list[list[int]] = []
    for ids in token_ids:
        if some and (len(some) + 1) * max(map(len, [*some, ids])) > _TOKENS_TOGETHER:
            yield some
            some = []
        some.append(ids)
    if some:
        yield some


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
