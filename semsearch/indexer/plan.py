"""What an update would do, before it does anything."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from semsearch.corpus.formats import format_of
from semsearch.corpus.walk import SourceFile, Walk
from semsearch.encoder.encoder import Encoder
from semsearch.errors import UnreadableFileError
from semsearch.indexer.settings import Settings
from semsearch.indexer.sources import Changes, Read, Reading

# Files of a format that are read, and passages that are embedded, to estimate the time; and seconds after which it has
# been enough.
_SAMPLE_FILES, _SAMPLE_PASSAGES, _SAMPLE_SECONDS = 5, 256, 5.0
_SAMPLE_BYTES = 2**20
_OTHER = "not readable here"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an update would do.

    Attributes:
        root: The folder that paths are relative to.
        files: How many it would read; `bytes` is how large they are.
        unchanged: How many it would leave as they are.
        removed: How many the index has and the source has no more.
        formats: Of each format that would be read, the files and their bytes; the largest first.
        skipped: How many files and folders are left out, by the reason.
        seconds: How long it takes, about; None if that was not asked or cannot be told.
    """

    root: str
    files: int
    bytes: int
    unchanged: int
    removed: int
    formats: dict[str, tuple[int, int]]
    skipped: dict[str, int]
    seconds: float | None


def plan_of(found: Walk, changes: Changes, encoder: Encoder | None, settings: Settings) -> Plan:
    """What an update would do with what was found, and how long it would take where an encoder is given."""
    skipped = Counter(one.reason.split(":")[0] for one in found.skipped)
    readable: dict[str, list[SourceFile]] = {}
    for file in changes.fresh:
        try:
            known = format_of(file.name)
        except UnreadableFileError as reason:
            skipped[str(reason)] += 1
            continue
        if file.size > known.size_limit(settings.read_options):
            skipped["too large"] += 1
        else:
            readable.setdefault(known.name, []).append(file)
    sizes = {name: sum(file.size for file in files) for name, files in readable.items()}
    formats = {name: (len(readable[name]), sizes[name]) for name in sorted(sizes, key=lambda name: -sizes[name])}
    return Plan(
        root=str(found.root),
        files=sum(count for count, _ in formats.values()),
        bytes=sum(sizes.values()),
        unchanged=changes.unchanged,
        removed=len(changes.gone) - changes.changed,
        formats=formats,
        skipped=dict(sorted(skipped.items(), key=lambda pair: -pair[1])),
        seconds=_seconds(readable, sizes, Reading(encoder, settings), encoder) if encoder and readable else None,
    )


def _seconds(
    readable: dict[str, list[SourceFile]], sizes: dict[str, int], reading: Reading, encoder: Encoder
) -> float | None:
    """By a few files of each format: what they give to embed, and how long that takes."""
    texts: list[str] = []
    characters: dict[str, tuple[int, int]] = {}
    deadline = time.monotonic() + _SAMPLE_SECONDS
    for name, files in readable.items():
        given, read = _sample(files, reading)
        if read:
            characters[name] = sum(map(len, given)), read
            texts += given
        if time.monotonic() > deadline:
            break
    if not texts:
        return None
    per_byte = sum(chars for chars, _ in characters.values()) / sum(read for _, read in characters.values())
    total = sum(
        size * (characters[name][0] / characters[name][1] if name in characters else per_byte)
        for name, size in sizes.items()
    )
    texts = random.Random(0).sample(texts, min(len(texts), _SAMPLE_PASSAGES))
    encoder.encode_document(texts[:8])  # the weights are loaded with the first
    started = time.monotonic()
    encoder.encode_document(texts)
    return total * (time.monotonic() - started) / sum(map(len, texts))


def _sample(files: Sequence[SourceFile], reading: Reading) -> tuple[list[str], int]:
    """What some files give to embed, and their bytes."""
    small = [file for file in files if file.size <= _SAMPLE_BYTES] or [min(files, key=lambda file: file.size)]
    chosen = random.Random(0).sample(small, min(len(small), _SAMPLE_FILES))
    texts = [one.text for item in reading.read(chosen) if isinstance(item, Read) for one in item.passages]
    return texts, sum(file.size for file in chosen)
