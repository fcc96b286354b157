"""How an index reads its source: what is taken, how records are read, how documents are cut."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from semsearch.corpus.chunking import CHUNK_TOKENS, OVERLAP
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.selection import WalkOptions
from semsearch.store.analysis import check_language


@dataclass(frozen=True, slots=True)
class Settings:
    """What an index remembers of how it is made; None for what it has already, or for the default.

    Attributes:
        chunk_tokens: Tokens of a passage at most, its title and headings included.
        overlap: Tokens at most that a passage repeats of the one before, where the cut falls within prose.
        text_field, title_field, id_field: As of ReadOptions.
        max_file_size: As of ReadOptions; 0 for what is usual in a file's format.
        include, exclude, hidden, ignore_files: As of WalkOptions.
        language: What the words of lexical search are stemmed by, as of `analysis.LANGUAGES`.
    """

    chunk_tokens: int | None = None
    overlap: int | None = None
    text_field: str | None = None
    title_field: str | None = None
    id_field: str | None = None
    max_file_size: int | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    hidden: bool | None = None
    ignore_files: bool | None = None
    language: str | None = None

    def __post_init__(self) -> None:
        """Refuse a language without a stemmer."""
        if self.language is not None:
            check_language(self.language)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """What `to_json` gave."""
        values: dict[str, Any] = json.loads(text)
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**(values | lists))

    def to_json(self) -> str:
        """What was set, as JSON."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None}, sort_keys=True)

    def over(self, other: Settings) -> Settings:
        """These settings, and the other's where these have none."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: value for name, value in values.items() if value is not None})

    def reads_like(self, other: Settings) -> bool:
        """Whether a file that was read by the other's settings gives the same passages by these."""
        return (self.read_options, self._cutting) == (other.read_options, other._cutting)

    @property
    def _cutting(self) -> tuple[int, int]:
        chunk = CHUNK_TOKENS if self.chunk_tokens is None else self.chunk_tokens
        # By default less is repeated of passages that are shorter.
        overlap = min(OVERLAP, chunk // 8) if self.overlap is None else self.overlap
        return chunk, overlap

    @property
    def cutting(self) -> dict[str, int]:
        """As a Chunker takes them."""
        return dict(zip(("chunk_tokens", "overlap"), self._cutting, strict=True))

    @property
    def read_options(self) -> ReadOptions:
        """How files are read."""
        return ReadOptions(
            self.text_field or "", self.title_field or "", self.id_field or "", self.max_file_size or None
        )

    @property
    def walk_options(self) -> WalkOptions:
        """Which files are taken."""
        return WalkOptions(
            self.include or (),
            self.exclude or (),
            ignore_files=True if self.ignore_files is None else self.ignore_files,
            hidden=bool(self.hidden),
        )
