"""The encoder: texts to vectors, by whatever engine runs the model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.models import DEFAULT_MODEL, Fingerprint, load_model_files
from semsearch.encoder.numpy_engine import NumpyEngine
from semsearch.encoder.tokenizer import Tokenizer
from semsearch.errors import InvalidInputError, ModelError, UnsupportedModelError

if TYPE_CHECKING:
    from semsearch.encoder.torch_engine import TorchEngine

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32", "bfloat16")
# NumPy encodes so many tokens sooner than torch is imported.
_FEW_TOKENS = 2048


class Engine(Protocol):
    """What runs a model."""

    def encode(self, token_ids: list[list[int]]) -> NDArray[np.float32]:
        """Vectors float32 (n, dim) of n texts given by their token ids, in their order."""


class Encoder:
    """A sentence encoder; its weights are loaded when they are first needed.

    Example:
        >>> Encoder().encode(["a text", "another"]).shape
        (2, 384)
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, *, max_seq_length: int | None = None, precision: str = "float32"
    ) -> None:
        """Find the model and read its configuration.

        Args:
            model: A folder, or a name on the Hugging Face hub.
            max_seq_length: Tokens of a text that count, special tokens included; by default the model's own.
            precision: What many texts are encoded in: "float32"; "bfloat16"; or "auto", the faster of them on this
                CPU. Few texts may be encoded in float32 whatever it is.

        Raises:
            InvalidInputError: No such precision.
            ModelNotFoundError: Nothing of that name; says what was tried.
            UnsafeModelError: No safetensors weights, or the model wants to run its own code.
            UnsupportedModelError: It is not an encoder that semsearch can use.
        """
        if precision not in PRECISIONS:
            raise InvalidInputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self._files = load_model_files(model, max_seq_length=max_seq_length)
        self._asked_precision = precision

    @property
    def fingerprint(self) -> Fingerprint:
        """What decides the vectors."""
        return self._files.fingerprint

    @property
    def precision(self) -> str:
        """What texts were encoded in so far, "float32" or "bfloat16"; float32 before the first."""
        return self._torch_engine.precision if "_torch_engine" in self.__dict__ else "float32"

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.fingerprint.dim

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer."""
        return Tokenizer(self._files)

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
        if isinstance(texts, str):
            raise InvalidInputError("encode takes a list of texts, got one string; put it into a list")
        for text in texts:
            if not isinstance(text, str):
                raise InvalidInputError(f"a text must be a string, got {type(text).__name__}: {text!r:.80}")
        if not len(texts):
            return np.empty((0, self.dim), dtype=np.float32)
        token_ids = self.tokenizer.token_ids(list(texts))
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

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries with the model's own prompt for them; else as `encode`."""
        return self._encode_prompted("query", texts)

    def encode_document(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents or passages with the model's own prompt for them; else as `encode`."""
        return self._encode_prompted("document", texts)

    def _encode_prompted(self, role: str, texts: Sequence[str]) -> NDArray[np.float32]:
        prompt = self.fingerprint.prompts[role]
        if prompt and not isinstance(texts, str):
            texts = [prompt + text if isinstance(text, str) else text for text in texts]
        return self.encode(texts)

    def _engine_for(self, tokens: int) -> Engine:
        """The engine that is done first with so many tokens."""
        if "torch" not in sys.modules and tokens <= _FEW_TOKENS and self._numpy_engine is not None:
            return self._numpy_engine
        return self._torch_engine

    @cached_property
    def _numpy_engine(self) -> NumpyEngine | None:
        try:
            return NumpyEngine(self._files)
        except UnsupportedModelError as reason:
            logger.info("encoding by torch: %s", reason)
            return None

    @cached_property
    def _torch_engine(self) -> TorchEngine:
        # torch and transformers take seconds to import, so they are imported only here, when they are needed.
        from semsearch.encoder.torch_engine import TorchEngine

        return TorchEngine(self._files, self._asked_precision)
