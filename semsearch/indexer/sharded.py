"""The indexer of an index in shards."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from semsearch.corpus.selection import WalkOptions
from semsearch.corpus.walk import Walk, walk
from semsearch.encoder.encoder import Encoder
from semsearch.encoder.models import DEFAULT_MODEL
from semsearch.errors import IndexConflictError, InvalidInputError
from semsearch.indexer.indexer import Indexer, nothing
from semsearch.indexer.plan import Plan, plan_of
from semsearch.indexer.report import IndexSummary, Progress
from semsearch.indexer.settings import Settings
from semsearch.indexer.sources import Changes, compare
from semsearch.indexer.workers import Built, Job, build_all, built_in, part_of
from semsearch.store.catalog import write_lock
from semsearch.store.database import DATABASE, Database
from semsearch.store.lexical_writer import write_rest
from semsearch.store.manifest import FileRow
from semsearch.store.rest import REST, Statistics
from semsearch.store.shards import (
    FOLDER,
    PLAN,
    Made,
    Shard,
    Shards,
    folders_of,
    is_in_shards,
    read_shards,
    shard_path,
    write_shards,
)
from semsearch.types import Document

# Jobs, how many workers, and what is told a job's number and how far it is.
Build = Callable[[Sequence[Job], int, Callable[[int, Progress], None]], list[Built]]
Sources = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class ShardedIndexer:
    """The one writer of an index in shards, which are built by several processes."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        shards: int | None = None,
        workers: int = 1,
        model: str | None = None,
        precision: str | None = None,
        device: str = "auto",
        index_type: str | None = None,
        settings: Settings | None = None,
        build: Build = build_all,
    ) -> None:
        """Set up; nothing is read or written yet.

        Args:
            path: The index folder, made if it is not there.
            shards: How many shards a new index has, or fewer if there are fewer files; None for as many as it had, if
                it is made anew, else as there are workers.
            workers: How many processes build them.
            model: As of `Indexer`, by name.
            precision: As of `Indexer`.
            device: As of `Indexer`.
            index_type: As of `Indexer`, for each shard by itself.
            settings: As of `Indexer`.
            build: What builds the shards: as `indexer.workers.build_all`, on this machine.

        Raises:
            InvalidInputError: There are to be no shards or no workers.
        """
        for name, value in (("shards", workers if shards is None else shards), ("workers", workers)):
            if value < 1:
                raise InvalidInputError(f"{name} must be at least 1, got {value}")
        self._path = Path(path)
        self._shards = shards
        self._workers = workers
        self._model = model
        self._precision = precision
        self._device = device
        self._index_type = index_type
        self._settings = settings or Settings()
        self._build = build

    @property
    def path(self) -> Path:
        """The index folder."""
        return self._path

    def find(self, source: Sources) -> Walk:
        """As of `Indexer`."""
        return walk(_paths(source), self._settings_over(self._made()).walk_options)

    def plan(self, source: Sources, *, timed: bool = True) -> Plan:
        """As of `Indexer`."""
        made = self._made()
        settings = self._settings_over(made)
        found, changes, known = walk(_paths(source), settings.walk_options), Changes(), dict[str, FileRow]()
        for folder in folders_of(self._path) if is_in_shards(self._path) else ():
            with Database.open_for_reading(folder) as database:
                known |= {row.path: row for row in database.files()}
        trust = made is not None and settings.reads_like(Settings.from_json(made.settings))
        compare(found.files, known, changes, trust=trust)
        job = self._job(Shard("", "", 0, None), found, self._made_now(made, settings), settings)
        encoder = Encoder(job.model, precision=job.precision, device=job.device) if timed else None
        return plan_of(found, changes, encoder, settings)

    def compact(self) -> None:
        """As of `Indexer`, each shard by itself.

        Raises:
            IndexNotFoundError: No index in shards is there.
            StoreError: As of `update`.
        """
        read_shards(self._path)
        with write_lock(self._path):
            old, built = read_shards(self._path), []
            for shard in old.shards:
                folder = shard_path(self._path, shard.name)
                if shard.generation:
                    Indexer(folder).compact()
                built.append(built_in(folder) if shard.generation else Built(0, "", "", Statistics(0, 0), None, 0, ()))
            self._sweep(self._commit(old, built, old))

    def update(
        self,
        source: Sources | Callable[[WalkOptions], Walk],
        *,
        rebuild: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> IndexSummary:
        """Bring an index up to date with folders and files, as `Indexer.update` does, but each shard in a commit.

        A new index is there when all of its shards are. What was stopped goes on where it was: shards that were
        finished are not built again, and of the others what was embedded is not embedded again. Files stay in the shard
        that their name belongs to; with rebuild they are divided anew.

        Args:
            source: Folders and files, or what finds the files that are wanted.
            rebuild: As of `Indexer.update`.
            progress: As of `Indexer.update`.

        Raises:
            NothingToIndexError: No document could be read; what is there stays.
            IndexConflictError: The index was made of another source, has another number of shards, or none.
            StorageError: A process that built a shard ended again and again.
            SemsearchError: As of `Indexer.update`.
        """
        started = time.monotonic()
        if (self._path / DATABASE).exists():
            raise IndexConflictError(
                f"the index {self._path.name!r} is not in shards; choose another name with --name, or delete it first"
            )
        with write_lock(self._path):
            old = read_shards(self._path) if is_in_shards(self._path) else None
            made = None if rebuild else self._made()
            settings = self._settings_over(made)
            options = settings.walk_options
            found = source(options) if callable(source) else walk(_paths(source), options)
            if made and self._model:  # lest a shard without a file yet be made with another
                Indexer(self._path, model=self._model, device=self._device).encoder_for(made)
            made = self._made_now(made, settings)
            plan = self._plan(old, found, made, rebuild=rebuild)
            jobs = [self._job(shard, own, made, settings) for shard, own in _divided(plan, found)]
            built = self._build(jobs, self._workers, _adding(progress, jobs))
            if not any(one.generation for one in built):
                raise nothing(found.name, [skipped for one in built for skipped in one.skipped])
            fingerprint = next((one.fingerprint for one in built if one.generation), None)
            shards = self._commit(replace(plan, made=replace(made, fingerprint=fingerprint)), built, old)
            self._sweep(shards)
            return self._summary(shards, built, started)

    def _settings_over(self, made: Made | None) -> Settings:
        return self._settings.over(Settings.from_json(made.settings)) if made else self._settings

    def _made(self) -> Made | None:
        """How the index is made that is there, or of which a shard was begun, for which the model was loaded."""
        if is_in_shards(self._path):
            return read_shards(self._path).made
        if (self._path / PLAN).exists():
            plan = read_shards(self._path, PLAN)
            if any(shard_path(self._path, shard.name).exists() for shard in plan.shards):
                return plan.made
        return None

    def _made_now(self, made: Made | None, settings: Settings) -> Made:
        """How it is to be made from now on."""
        return Made(
            self._model or (made.model if made else DEFAULT_MODEL),
            made.fingerprint if made else None,
            self._precision or (made.asked_precision if made else "auto"),
            self._index_type or (made.index_type if made else "auto"),
            settings.to_json(),
        )

    def _plan(self, old: Shards | None, found: Walk, made: Made, *, rebuild: bool) -> Shards:
        """The shards that are to be built: those that are there, those of a build that was stopped, or new ones."""
        wanted = self._shards or (len(old.shards) if old else self._workers)
        root = found.name
        if old and not rebuild:
            if old.root != root:
                raise IndexConflictError(
                    f"the index {self._path.name!r} was made of {old.root!r}, not of {root!r}; choose another name "
                    "with --name, or put this in its place with --rebuild"
                )
            if self._shards not in (None, len(old.shards)):
                raise IndexConflictError(
                    f"the index {self._path.name!r} has {len(old.shards)} shards, not {self._shards}; leave --shards "
                    "out, or make the index anew with --rebuild"
                )
            return old
        if not rebuild and (self._path / PLAN).exists():
            plan = read_shards(self._path, PLAN)
            if plan.root == root and self._shards in (None, len(plan.shards)):
                return plan
        starts = firsts([one.name for one in found.files], [one.size for one in found.files], wanted)
        plan = Shards(0, root, made, tuple(Shard(uuid.uuid4().hex, first, 0, None) for first in starts))
        write_shards(self._path, plan, PLAN)
        return plan

    def _job(self, shard: Shard, found: Walk, made: Made, settings: Settings) -> Job:
        folder = shard_path(self._path, shard.name)
        return Job(folder, found, made.model, made.asked_precision, self._device, made.index_type, settings)

    def _commit(self, plan: Shards, built: Sequence[Built], old: Shards | None) -> Shards:
        everything = Statistics(
            sum(one.statistics.passages for one in built), sum(one.statistics.words for one in built)
        )
        shards = tuple(self._built(shard, one, everything) for shard, one in zip(plan.shards, built, strict=True))
        if old and (shards, plan.made) == (old.shards, old.made):
            return old
        new = replace(plan, shards=shards, generation=(old.generation if old else 0) + 1)
        write_shards(self._path, new)
        return new

    def _built(self, shard: Shard, built: Built, everything: Statistics) -> Shard:
        shard = replace(shard, name=built.name or shard.name)
        if not built.generation:
            return replace(shard, generation=0, rest=None)
        rest = shard.rest
        if rest is None or rest.all != everything or shard.generation != built.generation:
            folder = shard_path(self._path, shard.name)
            rest = write_rest(folder, built.language, built.statistics, everything)
        return replace(shard, generation=built.generation, rest=rest)

    def _sweep(self, shards: Shards) -> None:
        """Remove what is of no shard any more, and the plan, which is carried out."""
        (self._path / PLAN).unlink(missing_ok=True)
        names = {shard.name: shard.rest for shard in shards.shards}
        for folder in (self._path / FOLDER).iterdir():
            rest = names.get(folder.name)
            if rest is None:
                shutil.rmtree(folder)
                continue
            for other in (folder / REST).glob("*"):
                if other.name != rest.uuid:
                    shutil.rmtree(other)

    def _summary(self, shards: Shards, built: Sequence[Built], started: float) -> IndexSummary:
        summaries = [one.summary for one in built if one.summary]
        total = {
            name: sum(getattr(one, name) for one in summaries)
            for name in (
                "files_indexed",
                "files_added",
                "files_changed",
                "files_unchanged",
                "documents",
                "passages",
                "passages_embedded",
            )
        }
        skipped = sorted((one for some in built for one in some.skipped), key=lambda one: one.path)
        files_skipped = sum(not one.path.endswith("/") for one in skipped)
        return IndexSummary(
            index=self._path.name,
            path=str(self._path),
            model=summaries[0].model,
            precision=summaries[0].precision,
            generation=shards.generation,
            files_found=total["files_indexed"] + files_skipped,
            files_skipped=files_skipped,
            files_removed=sum(one.files_removed for one in summaries) + sum(one.removed for one in built),
            took_ms=round((time.monotonic() - started) * 1000),
            skipped=tuple(skipped),
            **total,
        )


def firsts(names: Sequence[str], sizes: Sequence[int], count: int) -> list[str]:
    """The first name of each of so many shards, or of as many as there are names, of about the same size each.

    Args:
        names: Of the files, ascending.
        sizes: Of each, in bytes.
        count: Shards that are wanted, at least 1.
    """
    count = min(count, max(1, len(names)))
    ends = np.cumsum([size + 1 for size in sizes])
    number = np.arange(1, count)
    cuts = np.searchsorted(ends, ends[-1] * number / count) + 1 if len(names) else number
    # Each shard has a name at least.
    cuts = np.maximum.accumulate(np.maximum(cuts, number) - number) + number
    cuts = np.minimum(cuts, len(names) - count + number)
    return ["", *(names[cut] for cut in cuts.tolist())]


def _paths(source: Sources) -> list[Path]:
    given = [source] if isinstance(source, str | os.PathLike | Document) else list(source)
    for one in given:
        if not isinstance(one, str | os.PathLike):
            raise InvalidInputError(f"an index in shards is made of files, got {type(one).__name__}: {one!r:.80}")
    return [Path(one) for one in given]


def _divided(plan: Shards, found: Walk) -> list[tuple[Shard, Walk]]:
    ends = [*(one.first for one in plan.shards[1:]), None]
    return [(shard, part_of(found, shard.first, end)) for shard, end in zip(plan.shards, ends, strict=True)]


def _adding(progress: Callable[[Progress], None] | None, jobs: Sequence[Job]) -> Callable[[int, Progress], None]:
    """Tells how far all jobs are together."""
    files = sum(len(job.found.files) for job in jobs)
    size = sum(file.size for job in jobs for file in job.found.files)
    done: dict[int, Progress] = {}

    def add(number: int, one: Progress) -> None:
        done[number] = one
        if progress:
            progress(
                Progress(
                    sum(other.files for other in done.values()),
                    files,
                    sum(other.bytes for other in done.values()),
                    size,
                    sum(other.passages for other in done.values()),
                )
            )

    return add
