"""Texts to token ids, by the `tokenizers` library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence

from semsearch.encoder.models import ModelFiles

# A long text is tokenized in slabs of so many characters, cut at line ends, so that memory stays bounded.
_SLAB = 65_536
# What Python takes for white space and BERT's tokenizers drop without splitting.
_DROPPED = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
# Whether each character, by its number, is white space; the last stands for all above, which are not.
_IS_SPACE = np.array([chr(number).isspace() for number in range(0x3002)])
# Words of more characters are looked into; in most texts they are few.
_LONG_WORD = 64
_CACHED_WORDS = 1_000_000


class Tokenizer:
    """A model's tokenizer, cutting texts at the model's `max_seq_length`."""

    def __init__(self, load: Callable[[], RustTokenizer], max_seq_length: int) -> None:
        """Set up for a model; its vocabulary is loaded when it is first needed."""
        self._load = load
        self.max_seq_length = max_seq_length
        self._tokens_of: dict[str, int] = {}

    @classmethod
    def of_model(cls, files: ModelFiles) -> Tokenizer:
        """The tokenizer of a model."""
        return cls(lambda: _load(files), files.fingerprint.max_seq_length)

    @classmethod
    def from_json(cls, text: str, max_seq_length: int) -> Tokenizer:
        """A tokenizer in another process, of what `to_json` gave in this one."""
        return cls(lambda: RustTokenizer.from_str(text), max_seq_length)

    def to_json(self) -> str:
        """All there is to it, but for `max_seq_length`."""
        return str(self._whole.to_str())

    @cached_property
    def _whole(self) -> RustTokenizer:
        tokenizer = self._load()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _cut(self) -> RustTokenizer:
        tokenizer = self._load()
        tokenizer.enable_truncation(self.max_seq_length)
        return tokenizer

    @property
    def special_tokens(self) -> int:
        """How many special tokens a text gets."""
        return int(self._whole.num_special_tokens_to_add(is_pair=False))

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text's tokens, special tokens included, at most `max_seq_length` of them."""
        return [encoding.ids for encoding in self._cut.encode_batch_fast([clean(text) for text in texts])]

    def token_starts(self, text: str) -> NDArray[np.int64]:
        """Where a text's tokens start, ascending (n_tokens,), without special tokens, however long it is.

        Of a short word that is several tokens all are said to start with it.
        """
        if not self._splits_at_spaces or _DROPPED.search(text):
            return self.token_spans(text)[:, 0]
        text = clean(text)
        characters = np.frombuffer(text.encode("utf-32-le"), "<u4")
        in_word = np.concatenate([[False], ~_IS_SPACE[np.minimum(characters, len(_IS_SPACE) - 1)], [False]])
        bounds = np.flatnonzero(in_word[1:] != in_word[:-1])
        starts, lengths = bounds[::2], bounds[1::2] - bounds[::2]
        long = np.flatnonzero(lengths > _LONG_WORD)
        if lengths[long].sum() > len(text) / 4:
            return self.token_spans(text)[:, 0]
        words = text.split()
        # A text has few different words, and counting a word's tokens takes much longer than looking them up.
        if len(self._tokens_of) > _CACHED_WORDS:
            self._tokens_of.clear()
        if new := [word for word in set(words).difference(self._tokens_of) if len(word) <= _LONG_WORD]:
            encodings = self._whole.encode_batch_fast(new, add_special_tokens=False)
            self._tokens_of.update(zip(new, map(len, encodings), strict=True))
        counts = np.array([self._tokens_of.get(word, 0) for word in words], np.int64)
        inner = [self.token_spans(words[number])[:, 0] + starts[number] for number in long]
        return np.sort(np.concatenate([np.repeat(starts, counts), *inner]))

    @cached_property
    def _splits_at_spaces(self) -> bool:
        """Whether a text's tokens are those of its words, one by one."""
        return (json.loads(self.to_json())["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"

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
