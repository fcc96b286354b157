"""The encoder: texts to vectors, by whatever engine runs the model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.models import DEFAULT_MODEL, Fingerprint, load_model_files
from semsearch.encoder.native_engine import NativeEngine
from semsearch.encoder.numpy_engine import NumpyEngine
from semsearch.encoder.tokenizer import Tokenizer
from semsearch.errors import InvalidInputError, ModelError, UnsupportedModelError

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32", "bfloat16", "int8")
DEVICES = ("auto", "cpu", "cuda", "mps")
# NumPy encodes so many tokens sooner than another engine is there.
_FEW_TOKENS = 2048
# So many texts are tokenized before they are encoded.
_FEW_TEXTS = 32
# Texts, and characters, that are tokenized and encoded together: enough to sort by length and to keep every
# processor busy, few enough for memory to stay small and for progress to be seen.
_WINDOW_TEXTS = 512
_WINDOW_CHARACTERS = 4_000_000
# What `auto` asks of the cosines to float32 before it takes int8, and the texts that it asks them of.
_MEAN_COSINE, _LEAST_COSINE = 0.9995, 0.998
_CALIBRATION = (
    "How do I stop a dripping tap?",
    "The committee met on 14 March and approved the budget for the coming year, after a long debate on travel costs.",
    "def area(radius: float) -> float:\n    return math.pi * radius ** 2",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen; it takes place in the chloroplasts.",
    "Die Würde des Menschen ist unantastbar. 汉字 🙂",
    "error: cannot open shared object file: No such file or directory (code 127)",
    "Yes.",
    "Patients given the higher dose recovered sooner, but the difference was within the margin of error (p = 0.21).",
)


class Engine(Protocol):
    """What runs a model."""

    @property
    def precision(self) -> str:
        """What it computes in."""

    def encode(self, token_ids: list[list[int]]) -> NDArray[np.float32]:
        """Vectors float32 (n, dim) of n texts given by their token ids, in their order."""


class Encoder:
    """A sentence encoder; its weights are loaded when they are first needed.

    Example:
        >>> Encoder().encode(["a text", "another"]).shape
        (2, 384)
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        max_seq_length: int | None = None,
        precision: str = "float32",
        device: str = "auto",
    ) -> None:
        """Find the model and read its configuration.

        Args:
            model: A folder, or a name on the Hugging Face hub.
            max_seq_length: Tokens of a text that count, special tokens included; by default the model's own.
            precision: What many texts are encoded in: "float32"; "bfloat16"; "int8", on an x86-64 CPU
                with AVX2; or "auto", the fastest of them here whose vectors are close to those of float32: a mean
                cosine of .9995 or more on some texts, and .998 of each. Few texts may be encoded in float32
                whatever it is.
            device: "cpu", "cuda", "mps", or "auto" for a GPU if there is one.

        Raises:
            InvalidInputError: No such precision or device.
            ModelNotFoundError: Nothing of that name; says what was tried.
            UnsafeModelError: No safetensors weights, or the model wants to run its own code.
            UnsupportedModelError: It is not an encoder that semsearch can use.
        """
        for name, value, known in (("precision", precision, PRECISIONS), ("device", device, DEVICES)):
            if value not in known:
                raise InvalidInputError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if precision == "int8" and device not in ("auto", "cpu"):
            raise InvalidInputError(f"precision int8 is for the CPU; got device {device!r}")
        self._files = load_model_files(model, max_seq_length=max_seq_length)
        self._asked_precision = precision
        self._device = device

    @property
    def fingerprint(self) -> Fingerprint:
        """What decides the vectors."""
        return self._files.fingerprint

    @property
    def precision(self) -> str:
        """What texts were encoded in so far: float32 before the first, and as long as they were few."""
        return self._bulk_engine.precision if "_bulk_engine" in self.__dict__ else "float32"

    @property
    def asked_precision(self) -> str:
        """The precision that was asked for."""
        return self._asked_precision

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.fingerprint.dim

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer."""
        return Tokenizer.of_model(self._files)

    @property
    def max_tokens(self) -> int:
        """Tokens of a document that count, special tokens and the document prompt not included."""
        prompt = len(self.tokenizer.token_spans(self.fingerprint.prompts["document"]))
        return self.fingerprint.max_seq_length - self.tokenizer.special_tokens - prompt

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, without a prompt.

        Args:
            texts: n texts; what exceeds `max_seq_length` tokens of one is cut off.

        Returns:
            Vectors, float32 (n, dim), not normalized; `[]` gives (0, dim).

        Raises:
            InvalidInputError: A bare string, or something that is no string among the texts.
            ModelError: The weights cannot be loaded, or a vector is not finite.
        """
        return self._encode_all("", texts)

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries with the model's own prompt for them; else as `encode`."""
        return self._encode_all(self.fingerprint.prompts["query"], texts)

    def encode_document(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents or passages with the model's own prompt for them; else as `encode`."""
        return self._encode_all(self.fingerprint.prompts["document"], texts)

    def encode_document_stream(self, texts: Iterable[str]) -> Iterator[NDArray[np.float32]]:
        """As `encode_document`, of any number of texts in little memory.

        The texts are taken and tokenized in a thread of their own, a few hundred ahead of what is being encoded.

        Yields:
            Vectors, float32 (some, dim), of the next texts.
        """
        return self._encode_stream(self.fingerprint.prompts["document"], texts)

    def _encode_all(self, prompt: str, texts: Sequence[str]) -> NDArray[np.float32]:
        if isinstance(texts, str):
            raise InvalidInputError("encode takes a list of texts, got one string; put it into a list")
        for text in texts:
            if not isinstance(text, str):
                raise InvalidInputError(f"a text must be a string, got {type(text).__name__}: {text!r:.80}")
        if 0 < len(texts) <= _FEW_TEXTS and sum(map(len, texts)) < _WINDOW_CHARACTERS:  # not worth a thread
            return self._encode_window(self.tokenizer.token_ids([prompt + text for text in texts]))
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        done = 0
        for some in self._encode_stream(prompt, texts):
            vectors[done : done + len(some)] = some
            done += len(some)
        return vectors

    def _encode_stream(self, prompt: str, texts: Iterable[str]) -> Iterator[NDArray[np.float32]]:
        windows = _windows(texts)

        def take() -> list[list[int]]:
            return self.tokenizer.token_ids([prompt + text for text in next(windows, [])])

        with ThreadPoolExecutor(1, thread_name_prefix="semsearch-tokenizer") as ahead:
            token_ids = take()
            while token_ids:
                upcoming: Future[list[list[int]]] = ahead.submit(take)
                yield self._encode_window(token_ids)
                token_ids = upcoming.result()

    def _encode_window(self, token_ids: list[list[int]]) -> NDArray[np.float32]:
        try:
            vectors = self._engine_for(sum(map(len, token_ids))).encode(token_ids)
        except IndexError as error:
            raise ModelError(
                f"{self.fingerprint.model}: the tokenizer gives ids that the weights lack, or more than there are "
                "positions; the model's files do not belong together"
            ) from error
        if vectors.shape[1] != self.dim or not np.isfinite(vectors).all():
            raise ModelError(
                f"{self.fingerprint.model} gave vectors of shape {vectors.shape} that should be finite and of "
                f"{self.dim} numbers; its weights or its config.json are broken"
            )
        return vectors

    def _engine_for(self, tokens: int) -> Engine:
        """The engine that is done first with so many tokens."""
        loaded = "torch" in sys.modules or "_bulk_engine" in self.__dict__
        if not loaded and tokens <= _FEW_TOKENS and self._device in ("auto", "cpu") and self._numpy_engine:
            return self._numpy_engine
        return self._bulk_engine

    @cached_property
    def _numpy_engine(self) -> NumpyEngine | None:
        try:
            return NumpyEngine(self._files)
        except UnsupportedModelError as reason:
            logger.info("encoding by torch: %s", reason)
            return None

    @cached_property
    def _bulk_engine(self) -> Engine:
        if self._asked_precision == "int8":
            return self._native_engine()
        on_cpu = self._device == "cpu" or (self._device == "auto" and not _may_have_gpu())
        if self._asked_precision == "auto" and on_cpu and (native := self._accurate_native_engine()):
            return native
        # torch and transformers take seconds to import, so they are imported only here, when they are needed.
        from semsearch.encoder.torch_engine import TorchEngine

        return TorchEngine(self._files, self._asked_precision, self._device)

    def _native_engine(self) -> NativeEngine:
        return NativeEngine(self._files, self.tokenizer.token_ids(list(_CALIBRATION)))

    def _accurate_native_engine(self) -> NativeEngine | None:
        """int8, if this machine has it and the model bears it."""
        try:
            native = self._native_engine()
        except UnsupportedModelError as reason:
            logger.info("encoding by torch: %s", reason)
            return None
        if native.cosines.mean() >= _MEAN_COSINE and native.cosines.min() >= _LEAST_COSINE:
            return native
        logger.info("encoding by torch: int8 has a mean cosine of %.5f to float32 here", native.cosines.mean())
        return None


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    window: list[str] = []
    characters = 0
    for text in texts:
        window.append(text)
        characters += len(text)
        if len(window) == _WINDOW_TEXTS or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def _may_have_gpu() -> bool:
    """Whether it is worth importing torch to ask it for a GPU."""
    return sys.platform != "linux" or any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
