"""Texts to token ids, by the `tokenizers` library."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence

from semsearch.encoder.models import ModelFiles

# A long text is tokenized in slabs of so many characters, cut at line ends, so that memory stays bounded.
_SLAB = 65_536


class Tokenizer:
    """A model's tokenizer, cutting texts at the model's `max_seq_length`."""

    def __init__(self, files: ModelFiles) -> None:
        """Set up for a model; its vocabulary is loaded when it is first needed."""
        self._files = files

    @cached_property
    def _whole(self) -> RustTokenizer:
        tokenizer = _load(self._files)
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _cut(self) -> RustTokenizer:
        tokenizer = _load(self._files)
        tokenizer.enable_truncation(self._files.fingerprint.max_seq_length)
        return tokenizer

    @property
    def special_tokens(self) -> int:
        """How many special tokens a text gets."""
        return int(self._whole.num_special_tokens_to_add(is_pair=False))

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text's tokens, special tokens included, at most `max_seq_length` of them."""
        return [encoding.ids for encoding in self._cut.encode_batch_fast([clean(text) for text in texts])]

    def token_spans(self, text: str) -> NDArray[np.int64]:
        """The character spans (n_tokens, 2) of a text's tokens, without special tokens, however long it is."""
        starts = [0]
        while len(text) - starts[-1] > _SLAB:
            line_end = text.rfind("\n", starts[-1] + 1, starts[-1] + _SLAB)
            starts.append(line_end if line_end > 0 else starts[-1] + _SLAB)
        slabs = [clean(text[a:b]) for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
        encodings = self._whole.encode_batch(slabs, add_special_tokens=False)
        spans = [
            np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) + start
            for encoding, start in zip(encodings, starts, strict=True)
        ]
        return np.concatenate(spans)


def clean(text: str) -> str:
    """The text with lone surrogates, which are no characters, replaced by U+FFFD each."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


def _load(files: ModelFiles) -> RustTokenizer:
    path = files.folder / "tokenizer.json"
    if path.exists():
        tokenizer = RustTokenizer.from_file(str(path))
    else:
        from semsearch.encoder.torch_engine import convert_tokenizer

        tokenizer = convert_tokenizer(files)
    tokenizer.no_padding()
    if files.do_lower_case:
        own = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = NormalizerSequence([Lowercase(), *own])
    return tokenizer
