"""Parts: what an unfinished build has embedded so far, kept for the next one.

A part is a segment with a file beside it that says of which contents its vectors are. The segments of a committed
generation have no such file; a segment that has one and that no generation names is what a stopped build left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semsearch.errors import DamagedIndexError
from semsearch.store.ann import Vectors
from semsearch.store.catalog import PART
from semsearch.store.files import FileRecord, write_durably
from semsearch.store.manifest import Segment
from semsearch.store.segments import SegmentReader

_CONTENT_BYTES = 16


def content_of(embedded: str, lexical: str) -> bytes:
    """A hash of what is embedded for a passage and what words find it: equal ones have equal vectors and words."""
    digest = hashlib.blake2b(digest_size=_CONTENT_BYTES)
    for text in (embedded, lexical):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def mark_part(index: Path, segment: Segment, made_with: str, contents: list[bytes]) -> None:
    """Note beside a segment's file of which contents its vectors are.

    Args:
        index: The index folder.
        segment: Whose file is on disk.
        made_with: What decides the vectors, besides the contents.
        contents: As of `content_of`, one a vector.

    Raises:
        OSError: The disk refused.
    """
    about = {"made_with": made_with, "kind": segment.kind, "count": segment.count, "file": asdict(segment.file)}
    data = json.dumps(about).encode() + b"\n" + b"".join(contents)
    write_durably(_path(index, segment.uuid), lambda file: file.write(data + hashlib.sha256(data).digest()))


class Parts:
    """The vectors that stopped builds of an index left."""

    def __init__(self, index: Path, made_with: str, dim: int) -> None:
        """Take up what is whole and was made with the same; the rest is as if it were not there."""
        self._readers: list[SegmentReader] = []
        contents = [np.empty((0, 2), np.uint64)]
        for segment, some in _whole_parts(index, made_with):
            try:
                self._readers.append(SegmentReader(index, segment, dim, whole=True))
            except (DamagedIndexError, OSError):
                continue
            contents.append(some)
        self._contents = np.concatenate(contents)  # (n, 2)
        self._starts = np.cumsum([0, *(reader.segment.count for reader in self._readers)])
        self._order = np.argsort(self._contents[:, 0], kind="stable")
        self._sorted = self._contents[self._order, 0]

    def __len__(self) -> int:
        return len(self._contents)

    def find(self, content: bytes) -> Vectors | None:
        """The vector (dim,) of a content, if there is one."""
        high, low = np.frombuffer(content, np.uint64)
        at = int(np.searchsorted(self._sorted, high))
        while at < len(self._sorted) and self._sorted[at] == high:
            row = int(self._order[at])
            if self._contents[row, 1] == low:
                part = int(np.searchsorted(self._starts, row, "right")) - 1
                vector: Vectors = self._readers[part].vectors(np.array([row - self._starts[part]]))[0]
                return vector
            at += 1
        return None


def _whole_parts(index: Path, made_with: str) -> Iterator[tuple[Segment, NDArray[np.uint64]]]:
    for path in sorted((index / "segments").glob(f"*{PART}")):
        data = path.read_bytes()
        body, digest = data[:-32], data[-32:]
        if hashlib.sha256(body).digest() != digest:
            continue
        line, _, contents = body.partition(b"\n")
        about = json.loads(line)
        if about["made_with"] == made_with:
            record = FileRecord(**about["file"])
            segment = Segment(path.stem, about["kind"], about["count"], 1, None, None, record)
            yield segment, np.frombuffer(contents, np.uint64).reshape(-1, 2)


def _path(index: Path, segment_uuid: str) -> Path:
    return index / "segments" / f"{segment_uuid}{PART}"
