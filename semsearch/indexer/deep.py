"""Checking vectors by what they were made of."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semsearch.corpus.walk import SourceFile
from semsearch.encoder.encoder import Encoder
from semsearch.encoder.models import Fingerprint
from semsearch.errors import ModelMismatchError
from semsearch.indexer.settings import Settings
from semsearch.indexer.sources import Read, Reading
from semsearch.store.database import Database
from semsearch.store.manifest import FileRow
from semsearch.store.segments import VectorReader, normalize
from semsearch.store.shards import folders_of

# Cosine to a vector made anew: what int8 and another processor's rounding leave, and no more.
_LEAST_COSINE = 0.99


@dataclass(frozen=True, slots=True)
class DeepCheck:
    """How many passages were embedded anew, the least cosine to what is stored, and the files of those too far off."""

    passages: int
    least_cosine: float
    differing: tuple[str, ...]


def verify_deep(index: Path, *, model: str | None = None, passages: int = 500) -> DeepCheck:
    """Embed some passages anew, of files that are as they were indexed, and compare the vectors.

    Args:
        index: The index folder, sound as far as `store.verify` tells.
        model: Where the index's model is now, if not where it was.
        passages: About how many, of files that are drawn at random.

    Raises:
        ModelError: The model cannot be had, or is another.
        StoreError: The index cannot be read.
    """
    folders = folders_of(index)
    checks = [_verify(folder, model, -(-passages // len(folders))) for folder in folders]
    return DeepCheck(
        sum(one.passages for one in checks),
        min(one.least_cosine for one in checks),
        tuple(path for one in checks for path in one.differing),
    )


def _verify(index: Path, model: str | None, passages: int) -> DeepCheck:
    database = Database.open_for_reading(index)
    try:
        head = database.head()
        made_with = Fingerprint.from_json(head.fingerprint)
        encoder = Encoder(model or made_with.model, precision=head.precision)
        if differences := made_with.differences(encoder.fingerprint):
            raise ModelMismatchError(f"{encoder.fingerprint.model!r} differs in {', '.join(differences)}")
        vectors = VectorReader(index, database.segments(), made_with.dim)
        files = [row for row in database.files() if not row.given]
        random.shuffle(files)
        chosen, stored = _chosen(database, Path(head.root), files, passages)
        reading = Reading(encoder, Settings.from_json(head.settings))
        checked, least, differing = 0, 1.0, set()
        for item in reading.read(chosen):
            # A file that has changed since tells nothing.
            if not isinstance(item, Read) or item.file.sha256 != stored[item.file.path].sha256:
                continue
            again = {one.content: one for one in item.passages}
            ids = database.passage_ids(stored[item.file.path].id)
            pairs = [(number, again[content]) for number, content in ids if content in again]
            if pairs:
                fresh = normalize(encoder.encode_document([one.text for _, one in pairs]))
                cosines = (vectors.vectors(np.array([number for number, _ in pairs])) * fresh).sum(1)
                checked, least = checked + len(pairs), min(least, float(cosines.min()))
                if not (cosines >= _LEAST_COSINE).all():
                    differing.add(item.file.path)
        return DeepCheck(checked, least, tuple(sorted(differing)))
    finally:
        database.close()


def _chosen(
    database: Database, root: Path, files: Iterable[FileRow], passages: int
) -> tuple[list[SourceFile], dict[str, FileRow]]:
    """Files that are there, with about so many passages together, and what the index knows of them."""
    chosen, stored = [], {}
    for row in files:
        if passages <= 0:
            break
        path = root / row.path
        try:
            status = path.stat()
        except OSError:
            continue
        chosen.append(SourceFile(path, row.path, status.st_size, status.st_mtime_ns))
        stored[row.path] = row
        passages -= len(database.passage_ids(row.id))
    return chosen, stored
