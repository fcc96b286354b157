"""What the manifest says: its rows, and the sums by which a damaged one is told."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from semsearch.store.files import FileRecord
from semsearch.types import Passage

_UNENCODABLE = re.compile("[%\udc80-\udcff]")
_ESCAPE = re.compile(rb"%([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment: a file of vectors, and which passages they are of.

    Attributes:
        uuid: Its file's name.
        kind: "flat", or what FAISS calls the index that is searched first.
        count: Vectors in the file.
        first_passage_id: Of vector 0; ids ascend with the vectors.
        ids: None where vector i is passage `first_passage_id + i`; else what is added to `first_passage_id` for each
            vector, uint32 (count,), little-endian.
        dead: None, or a bit for each vector, the lowest of a byte first: 1 where its passage is gone.
        file: What the file must be.
        front: What it must begin with: all that FAISS takes apart when it opens it; None where that is a plain header.
    """

    uuid: str
    kind: str
    count: int
    first_passage_id: int
    ids: bytes | None
    dead: bytes | None
    file: FileRecord
    front: FileRecord | None = None

    @property
    def last_passage_id(self) -> int:
        """The id of the last vector's passage."""
        return self.first_passage_id + (int.from_bytes(self.ids[-4:], "little") if self.ids else self.count - 1)

    @property
    def live(self) -> int:
        """Vectors whose passages are there."""
        return self.count - (int.from_bytes(self.dead, "little").bit_count() if self.dead else 0)


@dataclass(frozen=True, slots=True)
class Lexical:
    """A lexical index: the folder that it is in, what words are stemmed by, and what its files must be."""

    uuid: str
    language: str
    files: Mapping[str, FileRecord]


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a generation as a whole; of each commit there is one.

    Attributes:
        settings: How files are read and cut, as JSON.
        rows_gone: Passages that were removed since the database was last written without holes.
        lexical: Its lexical index; None only before the commit that makes it.
    """

    generation: int
    fingerprint: str
    asked_precision: str
    precision: str
    root: str
    built: str
    files: int
    documents: int
    passages: int
    index_type: str
    settings: str
    rows_gone: int
    lexical: Lexical | None

    def to_json(self) -> str:
        """As JSON, for storing."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Head:
        """What `to_json` gave."""
        values = json.loads(text)
        if lexical := values.pop("lexical"):
            lexical["files"] = {name: FileRecord(**record) for name, record in lexical["files"].items()}
        return cls(**values, lexical=Lexical(**lexical) if lexical else None)


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file that was read, or a document that was given without one.

    Attributes:
        path: Bytes of it that are not UTF-8 are lone surrogates, as Python has them.
        seen_ns: When it was read, in nanoseconds since the epoch.
        sha256: Of its content.
        given: Whether it is a document that was given: no file stands behind it.
    """

    id: int
    path: str
    size: int
    mtime_ns: int
    seen_ns: int
    sha256: str
    given: bool

    def values(self) -> tuple[int | str, ...]:
        """Its columns, but for the check."""
        return self.id, stored_path(self.path), self.size, self.mtime_ns, self.seen_ns, self.sha256, int(self.given)

    @classmethod
    def of(cls, values: Sequence[Any]) -> FileRow:
        """What was stored as these values."""
        number, path, size, mtime_ns, seen_ns, sha256, given = values
        return cls(number, path_of(path), size, mtime_ns, seen_ns, sha256, bool(given))


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage with what is known of its document."""

    document_id: int
    file: FileRow
    title: str
    metadata: dict[str, Any]
    passage: Passage


def stored_path(path: str) -> str:
    """A path as the database has it, which can only hold UTF-8.

    One with other bytes is stored with a slash in front, which no relative path has, those bytes as `%E9` and the
    percent sign itself as `%25`.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return "/" + _UNENCODABLE.sub(lambda match: f"%{os.fsencode(match[0])[0]:02X}", path)
    return path


def path_of(stored: str) -> str:
    """The path that is stored so."""
    if not stored.startswith("/"):
        return stored
    parts = _ESCAPE.split(stored[1:].encode())
    parts[1::2] = [bytes([int(code, 16)]) for code in parts[1::2]]
    return os.fsdecode(b"".join(parts))


def stored_ids(ids: Iterable[int]) -> str:
    """Passage ids as a document's row has them: those that follow each other as the first and how many, `7 9+3`."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][0] + runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return " ".join(f"{first}+{count}" if count > 1 else f"{first}" for first, count in runs)


def runs_of(stored: str) -> list[range]:
    """The ids, ascending, that are stored so."""
    runs = []
    for run in stored.split():
        first, _, count = run.partition("+")
        runs.append(range(int(first), int(first) + int(count or 1)))
    return runs


def row_check(values: Sequence[Any]) -> int:
    """64 bits that stand beside a row's values and tell when one of them is damaged: BLAKE2b of their repr()."""
    # In ASCII, as what other characters are escaped in a repr() differs between versions of Unicode.
    digest = hashlib.blake2b(f"{tuple(values)!a}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def head_digest(head: str, segments: Sequence[Segment]) -> str:
    """SHA-256 of a head as JSON and of all of its segments' rows: none can be changed or lost unnoticed."""
    digest = hashlib.sha256(head.encode())
    for one in segments:
        blobs = [None if blob is None else hashlib.sha256(blob).hexdigest() for blob in (one.ids, one.dead)]
        digest.update(f"{(one.uuid, one.kind, one.count, one.first_passage_id, blobs, one.file, one.front)!a}".encode())
    return digest.hexdigest()
