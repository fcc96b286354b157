"""The manifest of an index in shards, each of which is an index by itself.

    indexes/NAME/
      shards.json      which shards there are; that it is put in the place of the last one is the commit
      shards/<name>/   an index of the files whose names lie from its first, in the order of characters, to the next
                       shard's first

So the passages, in the order of the shards and of their ids, are in the order of an index that is not in shards.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from semsearch.errors import DamagedIndexError, IndexFormatError, IndexNotFoundError
from semsearch.store.files import REMEDY, FileRecord, replace_durably
from semsearch.store.rest import Rest, Statistics

SHARDS = "shards.json"
# The shards of a build that is not finished.
PLAN = "shards.plan"
FOLDER = "shards"
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard.

    Attributes:
        name: Of its folder.
        first: The name from which on files are its own.
        generation: Its own, or a later one; 0 where it has no file, and is no index.
        rest: What stands in it for the others; None if it has no file.
    """

    name: str
    first: str
    generation: int
    rest: Rest | None


@dataclass(frozen=True, slots=True)
class Made:
    """How the shards of an index are made, all of them alike.

    Attributes:
        model: The model's name.
        fingerprint: As of `Head`; None as long as no shard is finished.
        asked_precision, index_type, settings: As of `Head`.
    """

    model: str
    fingerprint: str | None
    asked_precision: str
    index_type: str
    settings: str


@dataclass(frozen=True, slots=True)
class Shards:
    """All shards of an index, in the order of their files' names, which are relative to `root`."""

    generation: int
    root: str
    made: Made
    shards: tuple[Shard, ...]

    def shard_of(self, name: str) -> int:
        """The number of the shard that a file of this name is in."""
        return bisect_right([one.first for one in self.shards[1:]], name)


def is_in_shards(index: Path) -> bool:
    """Whether this is the folder of an index in shards."""
    return (index / SHARDS).is_file()


def shard_path(index: Path, name: str) -> Path:
    """The folder of a shard."""
    return index / FOLDER / name


def index_of(shard: Path) -> Path:
    """The folder of the index that a shard's folder is in."""
    return shard.parent.parent


def folders_of(index: Path) -> list[Path]:
    """The folders of an index's shards that have files; of one that is not in shards, its own.

    Raises:
        IndexFormatError, DamagedIndexError: As of `read_shards`.
    """
    if not is_in_shards(index):
        return [index]
    return [shard_path(index, shard.name) for shard in read_shards(index).shards if shard.generation]


def write_shards(index: Path, shards: Shards, name: str = SHARDS) -> None:
    """Commit; or with the name PLAN note what is going to be built.

    Raises:
        OSError: The disk refused.
    """
    replace_durably(index / name, _encoded(asdict(shards)))


def read_shards(index: Path, name: str = SHARDS) -> Shards:
    """What was committed last; or of the name PLAN what was going to be built.

    Raises:
        IndexNotFoundError: No index in shards is there.
        IndexFormatError: It was written by another version of semsearch.
        DamagedIndexError: It is not what was written.
    """
    try:
        data = (index / name).read_bytes()
    except FileNotFoundError:
        raise IndexNotFoundError(f"no index at {str(index)!r}; make one with: semsearch index FOLDER") from None
    return shards_of(data, f"{index}/{name}")


def shards_of(data: bytes, path: str) -> Shards:
    """What the content of a manifest says.

    Args:
        data: The content.
        path: Where it is from.

    Raises:
        IndexFormatError, DamagedIndexError: As of `read_shards`.
    """
    try:
        content = json.loads(data.partition(b"\n")[0])
        version = content.pop("format")
        sound = isinstance(version, int) and data == _encoded(content, version)
        if sound and version != _FORMAT:
            raise IndexFormatError(
                f"the shards of {path!r} have format {version}, this semsearch reads format {_FORMAT}; "
                f"upgrade semsearch, or {REMEDY}"
            )
        if sound:
            shards = tuple(_shard(one) for one in content["shards"])
            return Shards(content["generation"], content["root"], Made(**content["made"]), shards)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise DamagedIndexError(f"damaged index: {path} is not what was written; {REMEDY}")


def _shard(content: dict[str, Any]) -> Shard:
    rest = content["rest"]
    if rest is not None:
        files = {name: FileRecord(**record) for name, record in rest["files"].items()}
        rest = Rest(rest["uuid"], files, rest["passages"], Statistics(**rest["all"]))
    return Shard(content["name"], content["first"], content["generation"], rest)


def _encoded(content: dict[str, Any], version: int = _FORMAT) -> bytes:
    line = json.dumps({**content, "format": version}, sort_keys=True).encode() + b"\n"
    return line + hashlib.sha256(line).hexdigest().encode() + b"\n"
