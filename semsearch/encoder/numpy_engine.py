"""BERT and its kin in NumPy over memory-mapped safetensors: a first query needs no torch.

The forward pass is that of transformers' BertModel, DistilBertModel, RobertaModel, XLMRobertaModel and MPNetModel, in
float32, one text at a time.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.models import ModelFiles
from semsearch.errors import UnsupportedModelError

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Names:
    """What an architecture calls the weights of a layer."""

    layer: str
    query: str
    key: str
    value: str
    attended: str
    attended_norm: str
    up: str
    down: str
    down_norm: str


_BERT = _Names(
    "encoder.layer.{}.",
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_MPNET = _Names(
    "encoder.layer.{}.",
    "attention.attn.q",
    "attention.attn.k",
    "attention.attn.v",
    "attention.attn.o",
    "attention.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_DISTILBERT = _Names(
    "transformer.layer.{}.",
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
)
_ARCHITECTURES = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "mpnet": _MPNET,
    "distilbert": _DISTILBERT,
}
# These count positions from the padding token's id on.
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


class NumpyEngine:
    """A BERT-family transformer with mean or CLS pooling, in float32."""

    def __init__(self, files: ModelFiles) -> None:
        """Map the weights; they are read as they are used.

        Raises:
            UnsupportedModelError: An architecture, pooling or file that this engine does not cover.
        """
        config = files.config
        self._config = config
        self._kind = str(config.get("model_type"))
        self._pooling = files.fingerprint.pooling
        names = _ARCHITECTURES.get(self._kind)
        activation = _ACTIVATIONS.get(str(config.get("hidden_act") or config.get("activation") or "gelu"))
        if names is None or activation is None or not set(self._pooling) <= {"mean", "cls"}:
            raise UnsupportedModelError(f"{files.fingerprint.model}: not covered without torch")
        if config.get("position_embedding_type") not in (None, "absolute") or config.get("is_decoder"):
            raise UnsupportedModelError(f"{files.fingerprint.model}: not covered without torch")
        self._names, self._activation = names, activation
        self._heads = int(config.get("num_attention_heads") or config.get("n_heads") or 12)
        self._layers = int(config.get("num_hidden_layers") or config.get("n_layers") or 12)
        self._epsilon = np.float32(config.get("layer_norm_eps") or 1e-12)
        self._weights = _Weights(sorted(files.folder.glob("model*.safetensors")))
        for number in range(self._layers):
            for part in astuple(names)[1:]:
                self._weights.check(f"{names.layer.format(number)}{part}.weight")
                self._weights.check(f"{names.layer.format(number)}{part}.bias")

    def encode(self, token_ids: list[list[int]]) -> Array:
        """Vectors float32 (n, dim) of n texts given by their token ids, in their order."""
        # What overflows shows in the result, which the caller checks.
        with np.errstate(all="ignore"):
            return np.stack([self._pool(self._forward(np.array(ids))) for ids in token_ids])

    def _pool(self, hidden: Array) -> Array:
        pooled = [hidden.mean(0) if mode == "mean" else hidden[0] for mode in self._pooling]
        return np.concatenate(pooled)  # (dim,)

    def _forward(self, ids: NDArray[np.int64]) -> Array:
        hidden = self._embed(ids)  # (tokens, hidden)
        bias = self._position_bias(len(ids))  # (heads, tokens, tokens) or 0
        names = self._names
        for number in range(self._layers):
            layer = names.layer.format(number)
            attended = self._attend(hidden, layer, bias)
            hidden = self._norm(hidden + attended, layer + names.attended_norm)
            up = self._activation(self._linear(hidden, layer + names.up))  # (tokens, intermediate)
            hidden = self._norm(hidden + self._linear(up, layer + names.down), layer + names.down_norm)
        return hidden

    def _embed(self, ids: NDArray[np.int64]) -> Array:
        positions = np.arange(len(ids))
        if self._kind in _OFFSET_POSITIONS:
            padding = 1 if self._kind == "mpnet" else int(self._config.get("pad_token_id", 1))
            counted = ids != padding
            positions = np.cumsum(counted) * counted + padding
        embedded = self._weights.rows("embeddings.word_embeddings.weight", ids)
        embedded = embedded + self._weights.rows("embeddings.position_embeddings.weight", positions)
        if "embeddings.token_type_embeddings.weight" in self._weights:
            embedded = embedded + self._weights.rows("embeddings.token_type_embeddings.weight", np.zeros(1, np.int64))
        return self._norm(embedded, "embeddings.LayerNorm")

    def _attend(self, hidden: Array, layer: str, bias: Array | float) -> Array:
        query, key, value = (
            self._linear(hidden, layer + name).reshape(len(hidden), self._heads, -1).transpose(1, 0, 2)
            for name in (self._names.query, self._names.key, self._names.value)
        )  # (heads, tokens, hidden / heads) each
        scores = (
            query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(query.shape[2])) + bias
        )  # (heads, tokens, tokens)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        joined = (weights @ value).transpose(1, 0, 2).reshape(hidden.shape)  # (tokens, hidden)
        return self._linear(joined, layer + self._names.attended)

    def _linear(self, hidden: Array, name: str) -> Array:
        return hidden @ self._weights.whole(f"{name}.weight").T + self._weights.whole(f"{name}.bias")

    def _norm(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        scaled: Array = centred / np.sqrt(variance + self._epsilon)
        return scaled * self._weights.whole(f"{name}.weight") + self._weights.whole(f"{name}.bias")

    def _position_bias(self, tokens: int) -> Array | float:
        """MPNet's relative positions, in buckets as T5's (Raffel et al. 2020, section 2.1): half of them a side, of
        which half are one distance each and the others grow with its logarithm up to 128."""
        if self._kind != "mpnet":
            return 0.0
        table = self._weights.whole("encoder.relative_attention_bias.weight")  # (buckets, heads)
        side = len(table) // 2
        exact = side // 2
        at = np.arange(tokens)
        ahead = at[None, :] - at[:, None]  # (tokens, tokens)
        distance = np.abs(ahead)
        grown = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / np.float32(math.log(128 / exact))
        far = np.minimum(exact + (grown * (side - exact)).astype(np.int64), side - 1)
        buckets = np.where(distance < exact, distance, far) + side * (ahead > 0)
        return cast("Array", table[buckets].transpose(2, 0, 1))


class _Weights:
    """The tensors of safetensors files (https://github.com/huggingface/safetensors#format), memory-mapped."""

    def __init__(self, paths: list[Path]) -> None:
        self._tensors: dict[str, NDArray[Any]] = {}
        self._kinds: dict[str, str] = {}
        self._whole: dict[str, Array] = {}
        for path in paths:
            self._map(path)
        word = "embeddings.word_embeddings.weight"
        name = next((name for name in self._tensors if name.endswith(word)), "")
        # A checkpoint of a model with a head on top has its name before each tensor: `bert.embeddings...`.
        self._prefix = name.removesuffix(word)
        self.check(word)

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    def check(self, name: str) -> None:
        """Refuse a model that lacks a tensor."""
        if name not in self:
            raise UnsupportedModelError(f"the weights lack {name}: not covered without torch")

    def rows(self, name: str, rows: NDArray[np.int64]) -> Array:
        """Some rows of a tensor, as float32."""
        name = self._prefix + name
        return _to_float32(self._tensors[name][rows], self._kinds[name])

    def whole(self, name: str) -> Array:
        """A tensor, as float32."""
        if name not in self._whole:
            self.check(name)
            full = self._prefix + name
            self._whole[name] = _to_float32(self._tensors[full], self._kinds[full])
        return self._whole[name]

    def _map(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            start = 8 + int.from_bytes(mapped[:8], "little")
            header: dict[str, Any] = json.loads(mapped[8:start])
            header.pop("__metadata__", None)
            for name, tensor in header.items():
                kind, shape, (begin, end) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
                if kind in _DTYPES:
                    flat = np.frombuffer(mapped, np.uint8, end - begin, start + begin).view(_DTYPES[kind])
                    self._tensors[name] = flat.reshape(shape)
                    self._kinds[name] = kind
        except (ValueError, KeyError, TypeError) as error:
            raise UnsupportedModelError(f"{path.name} is not a safetensors file: {error}") from error


_DTYPES: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def _to_float32(values: NDArray[Any], kind: str) -> Array:
    if kind == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


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
