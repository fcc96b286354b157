"""Every error that semsearch raises on purpose.

SemsearchError
├── InvalidInputError            an argument that cannot be used: k=0, an empty query (also a ValueError)
│   └── NoSuchPassageError       a hit's id or a place that the index does not have
├── CorpusError
│   ├── SourceNotFoundError      a path to index that is not there
│   ├── NothingToIndexError      a source without one readable document
│   └── UnreadableFileError      one file that cannot be read; a build skips it
├── ModelError
│   ├── ModelNotFoundError       no such folder, package, cache entry or hub repository
│   ├── UnsafeModelError         weights that are not safetensors, or a model that wants to run its own code
│   ├── UnsupportedModelError    a model that cannot be turned into one vector a text
│   └── ModelMismatchError       a model that is not the one the index was made with
├── ClusterError                 a Ray cluster that cannot be reached, or not be used as it is
└── StoreError
    ├── IndexNotFoundError       no index, or none of that name
    ├── AmbiguousIndexError      several indexes, and none was named
    ├── IndexConflictError       the name is taken by an index of another source
    ├── IndexLockedError         another process is writing the index
    ├── IndexFormatError         written by a newer semsearch
    ├── ShardUnavailableError    a shard of an index on a cluster that no machine answers for
    ├── DamagedIndexError        a part that is missing or not what was written
    └── StorageError             the disk refused: full, or no permission
"""

from __future__ import annotations

import errno

NO_SPACE = "; free some space and try again"
NOT_WRITABLE = "; choose a folder that you may write, or ask for the permission"
_REMEDIES = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EACCES: NOT_WRITABLE,
    errno.EPERM: NOT_WRITABLE,
    errno.EROFS: NOT_WRITABLE,
}


class SemsearchError(Exception):
    """Base of every error that semsearch raises on purpose."""


class InvalidInputError(SemsearchError, ValueError):
    """An argument that cannot be used."""


class NoSuchPassageError(InvalidInputError):
    """A hit's id or a place that the index does not have."""


class CorpusError(SemsearchError):
    """Something about the documents."""


class SourceNotFoundError(CorpusError):
    """A path to index that is not there."""


class NothingToIndexError(CorpusError):
    """A source without one readable document; `skipped` is what was left out of it."""

    def __init__(self, message: str, skipped: tuple[object, ...] = ()) -> None:
        """Say so."""
        super().__init__(message)
        self.skipped = skipped


class UnreadableFileError(CorpusError):
    """One file that cannot be read; its message is the reason alone, without the path."""


class ModelError(SemsearchError):
    """Something about the model."""


class ModelNotFoundError(ModelError):
    """No such folder, package, cache entry or hub repository."""


class UnsafeModelError(ModelError):
    """Weights that are not safetensors, or a model that wants to run its own code."""


class UnsupportedModelError(ModelError):
    """A model that cannot be turned into one vector a text."""


class ModelMismatchError(ModelError):
    """A model that is not the one the index was made with."""


class ClusterError(SemsearchError):
    """A Ray cluster that cannot be reached, or not be used as it is."""


class StoreError(SemsearchError):
    """Something about an index on disk."""


class IndexNotFoundError(StoreError):
    """No index, or none of that name."""


class AmbiguousIndexError(StoreError):
    """Several indexes, and none was named."""


class IndexConflictError(StoreError):
    """The name is taken by an index of another source."""


class IndexLockedError(StoreError):
    """Another process is writing the index."""


class IndexFormatError(StoreError):
    """An index written by a newer semsearch."""


class ShardUnavailableError(StoreError):
    """A shard of an index on a cluster that no machine answers for."""


class DamagedIndexError(StoreError):
    """A part of an index that is missing or not what was written."""


class StorageError(StoreError):
    """The disk refused: full, or no permission."""

    @classmethod
    def of(cls, what: str, error: OSError) -> StorageError:
        """The error of a call that the operating system refused, with what to do about it."""
        return cls(f"{what}: {error.strerror or error}{_REMEDIES.get(error.errno or 0, '')}")
