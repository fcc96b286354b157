"""BERT and its kin in int8, by the C code in `native/`."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.checkpoint import Array, Checkpoint
from semsearch.encoder.models import ModelFiles
from semsearch.encoder.native_library import load_library
from semsearch.encoder.numpy_engine import NumpyEngine
from semsearch.encoder.processors import threads
from semsearch.errors import UnsupportedModelError

# As in native/forward.c.
_GROUP, _EXACT, _LANES = 64, 4, 16
# Tokens that a thread works on at a time: what it has of them in memory should stay in its core's cache.
_UNIT_TOKENS = 288

_Pointer = ctypes.c_void_p


class _Matrix(ctypes.Structure):
    _fields_ = [(name, _Pointer) for name in ("weights", "scales", "sums", "bias", "exact", "exact_weights", "kept")]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Matrix) for name in ("query_key_value", "attended", "up", "down")),
        *((name, _Pointer) for name in ("attended_scale", "attended_shift", "down_scale", "down_shift")),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("hidden", "intermediate", "heads", "layers", "max_tokens")),
        ("epsilon", ctypes.c_float),
        *((name, _Pointer) for name in ("words", "positions", "embedding_scale", "embedding_shift", "distances")),
        ("layer", ctypes.POINTER(_Layer)),
    ]


class NativeEngine:
    """A BERT-family transformer with its pooling, in int8, a thread a processor."""

    precision = "int8"

    def __init__(self, files: ModelFiles, calibration: list[list[int]]) -> None:
        """Load the library, making it if need be, and quantize the weights.

        Args:
            files: The model.
            calibration: Token ids of some texts, by which the columns are found that int8 would spoil.

        Raises:
            UnsupportedModelError: A model, processor or machine that this engine does not cover.
        """
        self._checkpoint = Checkpoint(files)
        self._kept: list[NDArray[Any]] = []  # what the library has pointers to
        self._vocabulary = self._positions = 0
        library = load_library()
        self._functions, self._longest_sum = library.functions, library.instructions.longest_sum
        peaks: dict[str, Array] = {}  # of each normalization's results, (hidden,)

        def observe(name: str, normalized: Array) -> None:
            peaks[name] = np.maximum(peaks.get(name, np.float32(0)), np.abs(normalized).max(0))

        exact = NumpyEngine(files, observe).encode(calibration)
        self._model = self._quantize(files.fingerprint.max_seq_length, peaks)
        self._threads = threads("semsearch-encoder")
        self._scratch = threading.local()
        vectors = self.encode(calibration)
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(exact, axis=1)
        # How near the calibration texts are to float32, (n,).
        self.cosines: Array = (vectors * exact).sum(1) / norms

    def encode(self, token_ids: list[list[int]]) -> Array:
        """Vectors float32 (n, dim) of n texts given by their token ids, in their order."""
        return np.concatenate(list(self._threads.map(self._encode_unit, _units(token_ids))))

    def _encode_unit(self, token_ids: Sequence[list[int]]) -> Array:
        texts = [np.array(ids, dtype=np.int64) for ids in token_ids]
        starts = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        ids = np.concatenate(texts).astype(np.int32)
        positions = np.concatenate([self._checkpoint.position_ids(text) for text in texts]).astype(np.int32)
        if ids.min() < 0 or ids.max() >= self._vocabulary or positions.max() >= self._positions:
            raise IndexError("a token or position that the weights lack")
        tokens, longest = int(starts[-1]), max(map(len, texts))
        scratch = self._aligned_scratch(self._functions.semsearch_scratch(ctypes.byref(self._model), tokens, longest))
        self._functions.semsearch_forward(
            ctypes.byref(self._model),
            ids.ctypes.data,
            positions.ctypes.data,
            starts.ctypes.data,
            len(texts),
            longest,
            scratch.ctypes.data,
        )
        hidden = scratch[: tokens * self._model.hidden * 4].view(np.float32).reshape(tokens, -1)  # (tokens, hidden)
        return np.stack([self._checkpoint.pool(text) for text in np.split(hidden, starts[1:-1])])  # (n, dim)

    def _aligned_scratch(self, size: int) -> NDArray[np.uint8]:
        """This thread's scratch, at least so many bytes, aligned to 64."""
        held: NDArray[np.uint8] | None = getattr(self._scratch, "bytes", None)
        if held is None or len(held) < size:
            whole = np.empty(size + 64, np.uint8)
            held = self._scratch.bytes = whole[-whole.ctypes.data % 64 :]
        return held

    def _quantize(self, max_tokens: int, peaks: Mapping[str, Array]) -> _Model:
        checkpoint = self._checkpoint
        words = checkpoint.weight("embeddings.word_embeddings")
        positions = checkpoint.positions()
        hidden = words.shape[1]
        size = hidden // checkpoint.heads
        first = checkpoint.names.layer.format(0)
        intermediate = len(checkpoint.bias(first + checkpoint.names.up))
        if hidden % _GROUP or intermediate % _GROUP or size not in (32, 64) or checkpoint.activation != "gelu":
            raise UnsupportedModelError(
                f"int8 takes models with GELU, heads of 32 or 64 and widths in multiples of {_GROUP}; this one has "
                f"{checkpoint.activation}, heads of {size} and widths {hidden} and {intermediate}"
            )
        self._vocabulary, self._positions = len(words), len(positions)
        distances = checkpoint.distance_bias(np.arange(1 - max_tokens, max_tokens))
        layers = (_Layer * checkpoint.layers)(
            *(self._layer(number, size, peaks) for number in range(checkpoint.layers))
        )
        return _Model(
            hidden,
            intermediate,
            checkpoint.heads,
            checkpoint.layers,
            max_tokens,
            checkpoint.epsilon,
            self._keep(words),
            self._keep(positions),
            self._keep(checkpoint.weight("embeddings.LayerNorm")),
            self._keep(checkpoint.bias("embeddings.LayerNorm")),
            # What is read beyond the last distance is not used.
            None if distances is None else self._keep(np.pad(distances.ravel(), (0, _LANES))),
            layers,
        )

    def _layer(self, number: int, head_size: int, peaks: Mapping[str, Array]) -> _Layer:
        checkpoint, names = self._checkpoint, self._checkpoint.names
        layer = names.layer.format(number)
        before = names.layer.format(number - 1) + names.down_norm if number else "embeddings.LayerNorm"
        scale = np.float32(1 / math.sqrt(head_size))
        projections = [layer + names.query, layer + names.key, layer + names.value]
        weights = [checkpoint.weight(name) for name in projections]
        biases = [checkpoint.bias(name) for name in projections]
        weights[0], biases[0] = weights[0] * scale, biases[0] * scale
        return _Layer(
            self._matrix(np.concatenate(weights), np.concatenate(biases), peaks[before]),
            self._matrix(checkpoint.weight(layer + names.attended), checkpoint.bias(layer + names.attended)),
            self._matrix(
                checkpoint.weight(layer + names.up),
                checkpoint.bias(layer + names.up),
                peaks[layer + names.attended_norm],
            ),
            self._matrix(checkpoint.weight(layer + names.down), checkpoint.bias(layer + names.down)),
            *(
                self._keep(part)
                for name in (names.attended_norm, names.down_norm)
                for part in (checkpoint.weight(layer + name), checkpoint.bias(layer + name))
            ),
        )

    def _matrix(self, weight: Array, bias: Array, peaks: Array | None = None) -> _Matrix:
        """Quantize a weight (outputs, inputs) and lay it out in panels, as native/forward.c says.

        Where the inputs' largest values `peaks` (inputs,) are given, the largest of them are multiplied exactly.
        """
        outputs, inputs = weight.shape
        exact: list[int | None] = [None] * 3
        if peaks is not None:
            columns = np.argsort(-peaks, kind="stable")[:_EXACT]
            kept = np.ones(inputs, np.float32)
            kept[columns] = 0
            panels_of_exact = weight[:, columns].reshape(-1, _GROUP, _EXACT).transpose(0, 2, 1)
            exact = [self._keep(columns.astype(np.int32)), self._keep(panels_of_exact), self._keep(kept)]
            weight = weight * kept
        numbers, scales = quantize_weight(weight, self._longest_sum)
        sums = scales * numbers.sum(2, dtype=np.int32)

        def panels(values: Array) -> int:
            return self._keep(values.reshape(-1, _GROUP, inputs // _GROUP).transpose(0, 2, 1))

        packed = numbers.reshape(outputs // _GROUP, _GROUP, inputs // 4, 4).transpose(0, 2, 1, 3)
        return _Matrix(self._keep(packed), panels(scales), panels(sums.astype(np.float32)), self._keep(bias), *exact)

    def _keep(self, values: NDArray[Any]) -> int:
        """The address of an array, which is kept for as long as the engine."""
        self._kept.append(np.ascontiguousarray(values))
        return self._kept[-1].ctypes.data


def quantize_weight(weight: Array, longest_sum: int | None = None) -> tuple[NDArray[np.int8], Array]:
    """Quantize a weight in groups of 64 inputs.

    Args:
        weight: (outputs, inputs).
        longest_sum: As of `native_library.Instructions`: what the numbers of one sign may add up to among eight. Of 16
            in a row these are the first or the second pair of each four.

    Returns:
        Numbers int8 (outputs, inputs / 64, 64), each -127..127, and the scales (outputs, inputs / 64) of their groups.
    """
    groups = weight.reshape(len(weight), -1, _GROUP)
    scales = np.abs(groups).max(2) / 127  # (outputs, groups)
    divisors = np.where(scales > 0, scales, 1)
    if longest_sum is not None:
        positive = _sums_of_eight(np.maximum(groups, 0))
        sums = np.maximum(positive, positive - _sums_of_eight(groups)).max(2)  # (outputs, groups)
        # Rounding adds a half to each of the eight at most.
        wider = np.maximum(1, sums / divisors / np.float32(longest_sum - 4))
        scales, divisors = scales * wider, divisors * wider
    return np.rint(groups / divisors[:, :, None]).astype(np.int8), scales


def _sums_of_eight(groups: Array) -> Array:
    """The sums (outputs, groups, 8) of those that are added up in 16 bits, of (outputs, groups, 64)."""
    pairs = (groups[:, :, 0::2] + groups[:, :, 1::2]).reshape(*groups.shape[:2], -1, 4, 2)
    # Added slice by slice, which is many times faster than a sum over a short axis.
    fours: Array = pairs[:, :, :, 0] + pairs[:, :, :, 1] + pairs[:, :, :, 2] + pairs[:, :, :, 3]
    return fours.reshape(*groups.shape[:2], -1)


def _units(token_ids: Sequence[list[int]]) -> Iterator[Sequence[list[int]]]:
    """Texts in pieces of about `_UNIT_TOKENS` tokens."""
    first = tokens = 0
    for number, ids in enumerate(token_ids):
        if number > first and tokens + len(ids) > _UNIT_TOKENS:
            yield token_ids[first:number]
            first, tokens = number, 0
        tokens += len(ids)
    yield token_ids[first:]
