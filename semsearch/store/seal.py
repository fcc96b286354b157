"""The seal: what the manifest's own files must be, or that a writer is at work on them.

SQLite keeps no checksum of a database file, and a write-ahead log that lost its end is to SQLite a shorter history. The
seal tells both. It is replaced by "at work" before a writer touches the manifest, and by the files' hashes after the
writer has committed; a writer that was stopped in between leaves "at work", and the next one seals again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from semsearch.errors import DamagedIndexError
from semsearch.store.files import REMEDY, FileRecord, record_of, replace_durably

SEAL = "index.seal"


@dataclass(frozen=True, slots=True)
class Seal:
    """Of which generation the manifest is, and its files; None for the files while a writer is at work on it."""

    generation: int
    files: dict[str, FileRecord] | None

    def allows(self, generation: int) -> bool:
        """Whether a manifest may be of this generation under this seal."""
        return generation == self.generation or (self.files is None and generation == self.generation - 1)


def write_seal(index: Path, seal: Seal) -> None:
    """Put a seal in the place of the last one.

    Raises:
        OSError: The disk refused.
    """
    replace_durably(index / SEAL, _encoded(seal))


def read_seal(index: Path) -> Seal:
    """The seal of an index.

    Raises:
        DamagedIndexError: It is missing or not what was written.
    """
    path = index / SEAL
    try:
        data = path.read_bytes()
        content = json.loads(data.partition(b"\n")[0])
        files = content["files"]
        if files is not None:
            files = {name: FileRecord(**record) for name, record in files.items()}
        seal = Seal(content["generation"], files)
        sound = data == _encoded(seal)
    except FileNotFoundError:
        raise DamagedIndexError(f"damaged index: {path} is missing; {REMEDY}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise DamagedIndexError(f"damaged index: {path} is not what was written; {REMEDY}")
    return seal


def sealed_files(index: Path, database: str) -> dict[str, FileRecord]:
    """What the manifest's files are now: the database, and its log if that holds something."""
    names = [database]
    log = index / f"{database}-wal"
    if log.exists() and log.stat().st_size:
        names.append(log.name)
    return {name: record_of(index / name) for name in names}


def _encoded(seal: Seal) -> bytes:
    line = json.dumps(asdict(seal), sort_keys=True).encode() + b"\n"
    return line + hashlib.sha256(line).hexdigest().encode() + b"\n"
