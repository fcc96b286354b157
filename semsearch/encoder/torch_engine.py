"""The model run by torch and transformers. They are imported here and in `pooling`, nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer

from semsearch.encoder.models import ModelFiles
from semsearch.encoder.pooling import pool
from semsearch.errors import InvalidInputError, UnsupportedModelError

logger = logging.getLogger(__name__)

# Tokens of a batch, padding included.
_BATCH_TOKENS = 4096
# Pairs of a query and a text that are scored together.
_PAIRS = 16
# A batch ends where a text would be padded by more than a tenth.
_PADDING = 0.1


class TorchEngine:
    """A transformer with its pooling, on the CPU or a GPU."""

    def __init__(self, files: ModelFiles, precision: str = "float32", device: str = "auto") -> None:
        """Load the weights.

        Args:
            files: The model.
            precision: Of weights and activations: "float32", "bfloat16", or "auto" for 16 bits where the device has
                instructions for them. Pooling is in float32 always.
            device: "cpu", "cuda", "mps", or "auto" for a GPU if there is one.

        Raises:
            InvalidInputError: No such device here.
            UnsupportedModelError: transformers has no such architecture, or the weights do not fit it.
        """
        self._device = _find_device(device)
        self.precision = _fastest_precision(self._device) if precision == "auto" else precision
        self._pooling = files.fingerprint.pooling
        self._padding_id = int(files.config.get("pad_token_id") or 0)
        self._model = _load(transformers.AutoModel, files, self.precision, self._device)

    def encode(self, token_ids: list[list[int]]) -> NDArray[np.float32]:
        """Vectors float32 (n, dim) of n texts given by their token ids, in their order."""
        vectors: NDArray[np.float32] | None = None
        with torch.inference_mode():
            for rows in _batches([len(ids) for ids in token_ids]):
                pooled = self._forward([token_ids[row] for row in rows])  # (len(rows), dim)
                if vectors is None:
                    vectors = np.empty((len(token_ids), pooled.shape[1]), dtype=np.float32)
                vectors[rows] = pooled
        return cast("NDArray[np.float32]", vectors)

    def _forward(self, batch: list[list[int]]) -> NDArray[np.float32]:
        longest = max(map(len, batch))
        padded = [row + [self._padding_id] * (longest - len(row)) for row in batch]
        ids = torch.tensor(padded, device=self._device)  # (n, tokens)
        lengths = torch.tensor([len(row) for row in batch], device=self._device)  # (n,)
        mask = (torch.arange(longest, device=self._device) < lengths[:, None]).long()  # (n, tokens)
        # Without a mask attention is faster, and where nothing is padded there is nothing to mask.
        needed = mask if len(batch[-1]) < longest else None
        hidden = self._model(input_ids=ids, attention_mask=needed).last_hidden_state  # (n, tokens, hidden)
        return cast("NDArray[np.float32]", pool(hidden.float(), mask, self._pooling).cpu().numpy())


class CrossEncoderEngine:
    """A transformer that reads a query and a text together and gives one score."""

    def __init__(self, files: ModelFiles, device: str = "auto") -> None:
        """Load the weights, in float32; errors as of TorchEngine, and UnsupportedModelError for any other model."""
        name = files.fingerprint.model
        if not any(one.endswith("ForSequenceClassification") for one in files.config.get("architectures") or ()):
            raise UnsupportedModelError(
                f"{name}: it is no cross-encoder: config.json names no architecture for sequence classification"
            )
        self._device = _find_device(device)
        self._max_length = files.fingerprint.max_seq_length
        self._model = _load(transformers.AutoModelForSequenceClassification, files, "float32", self._device)
        if self._model.config.num_labels != 1:
            raise UnsupportedModelError(
                f"{name}: it tells {self._model.config.num_labels} classes apart; a cross-encoder gives one score"
            )
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                str(files.folder), trust_remote_code=False, local_files_only=True
            )
        except (ValueError, OSError) as error:
            raise UnsupportedModelError(f"{name}: transformers cannot load its tokenizer: {error}") from error

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """The sigmoids of the model's outputs, float32 (n,), for a query with each of n texts."""
        scores = np.empty(len(texts), np.float32)
        # Texts of a length together, so that little is padded.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with torch.inference_mode():
            for start in range(0, len(order), _PAIRS):
                rows = order[start : start + _PAIRS]
                batch = self._tokenizer(
                    [query] * len(rows),
                    [texts[row] for row in rows],
                    padding=True,
                    truncation="longest_first",
                    max_length=self._max_length,
                    return_tensors="pt",
                ).to(self._device)
                logits = self._model(**batch).logits[:, 0]  # (rows,)
                scores[rows] = torch.sigmoid(logits.float()).cpu().numpy()
        return scores


def _load(kind: Any, files: ModelFiles, precision: str, device: str) -> Any:
    # transformers draws bars and reports unused pooler weights; neither is the user's business.
    transformers.utils.logging.disable_progress_bar()
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        model = kind.from_pretrained(
            str(files.folder),
            dtype=getattr(torch, precision),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        return model.eval().to(device)
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedModelError(f"{files.fingerprint.model}: transformers cannot load it: {reason}") from error
    finally:
        transformers.utils.logging.set_verbosity(verbosity)


def convert_tokenizer(files: ModelFiles) -> RustTokenizer:
    """The tokenizer of a model that comes without tokenizer.json, made from its vocabulary by transformers."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(files.folder), trust_remote_code=False, local_files_only=True
        )
        return cast("RustTokenizer", tokenizer.backend_tokenizer)
    except (ValueError, OSError, AttributeError) as error:
        raise UnsupportedModelError(
            f"{files.fingerprint.model}: transformers cannot load its tokenizer: {error}"
        ) from error


def _find_device(asked: str) -> str:
    """The device asked for, if it is there; of "auto" the first of cuda, mps and cpu."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(device for device in there if there[device])
    if not there[asked]:
        raise InvalidInputError(
            f"device {asked!r}: torch finds none here; use {', '.join(d for d in there if there[d])}"
        )
    return asked


def _fastest_precision(device: str) -> str:
    """16 bits where the device multiplies them by itself: on a CPU without AVX512-BF16 or AMX float32 is faster."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device == "mps":
        return "float16"
    # torch has no public question for it.
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bfloat16" if any(ask is not None and ask() for ask in asked) else "float32"


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Rows in the order of their lengths, in batches of `_BATCH_TOKENS` with hardly any padding."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        longest = lengths[rows[0]] if rows else lengths[row]
        if rows and ((len(rows) + 1) * longest > _BATCH_TOKENS or longest - lengths[row] > _PADDING * longest + 1):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
