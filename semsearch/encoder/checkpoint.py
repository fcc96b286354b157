"""A checkpoint of BERT or its kin: its tensors, memory-mapped, under one set of names whatever the architecture."""

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
class Names:
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


_BERT = Names(
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
_MPNET = Names(
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
_DISTILBERT = Names(
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

# Of token vectors (tokens, hidden): one vector (hidden,).
_POOLING: Mapping[str, Callable[[Array], Array]] = {
    "mean": lambda hidden: cast("Array", hidden.mean(0)),
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: cast("Array", hidden.max(0)),
}


class Checkpoint:
    """BERT, DistilBERT, RoBERTa, XLM-R, CamemBERT or MPNet with mean, CLS or max pooling."""

    def __init__(self, files: ModelFiles) -> None:
        """Map the weights; they are read as they are used.

        Raises:
            UnsupportedModelError: An architecture, pooling or file that is not covered.
        """
        config = files.config
        self._kind = str(config.get("model_type"))
        self._pooling = files.fingerprint.pooling
        names = _ARCHITECTURES.get(self._kind)
        known = config.get("position_embedding_type") in (None, "absolute") and not config.get("is_decoder")
        if names is None or not known or not set(self._pooling) <= _POOLING.keys():
            raise UnsupportedModelError(f"{files.fingerprint.model}: not covered without torch")
        self.names = names
        self.heads = int(config.get("num_attention_heads") or config.get("n_heads") or 12)
        self.layers = int(config.get("num_hidden_layers") or config.get("n_layers") or 12)
        self.epsilon = float(config.get("layer_norm_eps") or 1e-12)
        self.activation = str(config.get("hidden_act") or config.get("activation") or "gelu")
        self._padding_id = 1 if self._kind == "mpnet" else int(config.get("pad_token_id", 1))
        self._weights = Weights(sorted(files.folder.glob("model*.safetensors")))
        for number in range(self.layers):
            for part in astuple(names)[1:]:
                for kind in ("weight", "bias"):
                    self._weights.check(f"{names.layer.format(number)}{part}.{kind}")

    def weight(self, name: str) -> Array:
        """A weight, (outputs, inputs) of a linear layer and (hidden,) of a normalization."""
        return self._weights.whole(f"{name}.weight")

    def bias(self, name: str) -> Array:
        """A bias, (outputs,)."""
        return self._weights.whole(f"{name}.bias")

    def words(self, ids: NDArray[np.int64]) -> Array:
        """Embeddings (n, hidden) of token ids (n,)."""
        return self._weights.rows("embeddings.word_embeddings.weight", ids)

    def positions(self) -> Array:
        """Embeddings (positions, hidden) of positions, that of the only type of token added."""
        positions = self.weight("embeddings.position_embeddings")
        types = "embeddings.token_type_embeddings"
        return positions + self.weight(types)[0] if f"{types}.weight" in self._weights else positions

    def position_ids(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The position (n,) of each token of a text (n,)."""
        if self._kind not in _OFFSET_POSITIONS:
            return np.arange(len(ids))
        counted = ids != self._padding_id
        return cast("NDArray[np.int64]", np.cumsum(counted) * counted + self._padding_id)

    def distance_bias(self, distances: NDArray[np.int64]) -> Array | None:
        """What is added to a score for the key's place less the query's, (heads, n) of distances (n,); None if nothing.

        MPNet's: a number a head and bucket, in buckets as T5's (Raffel et al. 2020, section 2.1): half of them a
        side, of which half are one distance each and the others grow with its logarithm up to 128.
        """
        if self._kind != "mpnet":
            return None
        table = self.weight("encoder.relative_attention_bias")  # (buckets, heads)
        side = len(table) // 2
        exact = side // 2
        distance = np.abs(distances)
        grown = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / np.float32(math.log(128 / exact))
        far = np.minimum(exact + (grown * (side - exact)).astype(np.int64), side - 1)
        buckets = np.where(distance < exact, distance, far) + side * (distances > 0)
        return cast("Array", table[buckets].T)

    def pool(self, hidden: Array) -> Array:
        """One vector (dim,) of a text's token vectors (tokens, hidden)."""
        return np.concatenate([_POOLING[mode](hidden) for mode in self._pooling])


class Weights:
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
