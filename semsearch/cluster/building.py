"""Shards that the nodes of a Ray cluster build, each by itself."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from semsearch import __version__
from semsearch.encoder.processors import use_at_most
from semsearch.errors import ClusterError, IndexLockedError, SemsearchError
from semsearch.indexer.report import Progress
from semsearch.indexer.workers import Builder, Built, Job, largest_first
from semsearch.store.shards import PLAN, SHARDS, index_of

# So often a shard is tried anew after its node, or its process, has ended.
_RETRIES = 5
# Processors that one worker uses if nothing is said: with fewer there are more models in memory, with more its threads
# wait for each other.
_PROCESSORS = 4
# Seconds between two looks at how far the shards are, and between two things that a worker says of one.
_LOOK_SECONDS, _TELL_SECONDS = 0.3, 0.2
# Seconds for a process to let go of a shard whose node, or driver, has just been lost.
_LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Workers:
    """What builds at once.

    Attributes:
        count: How many workers.
        processors: How many each has.
        gpus: How many each has, 0 or 1.
    """

    count: int
    processors: int
    gpus: int


def workers_of(wanted: int | None, device: str) -> Workers:
    """The workers that the cluster has room for.

    Args:
        wanted: How many there are to be; None for one for each GPU, or if there is none, each four processors.
        device: As of `Encoder`. Where a node has a GPU, and it may be used, only such nodes build.

    Raises:
        ClusterError: It has no room for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes) if device in ("auto", "cuda") else 0
    processors = sorted(int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1)
    if not processors:
        raise ClusterError("no node of the Ray cluster has a processor for tasks; start one with: ray start --num-cpus")
    if gpus:
        return Workers(wanted or gpus, 1, 1)
    if wanted is None:
        each = min(_PROCESSORS, processors[0])
        return Workers(sum(there // each for there in processors), each, 0)
    fits = (each for each in range(processors[-1], 1, -1) if sum(there // each for there in processors) >= wanted)
    return Workers(wanted, next(fits, 1), 0)


def build_all(workers: Workers, jobs: Sequence[Job], _: int, progress: Callable[[int, Progress], None]) -> list[Built]:
    """Bring shards up to date, as of `indexer.workers.build_all`, on the cluster that is connected.

    Every node must find the index and the source under the same path as this machine.

    Raises:
        SemsearchError: As of `Indexer.update`.
        ClusterError: A node does not find them, has another semsearch, or one after the other was lost.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    reports = ray.remote(num_cpus=0, max_restarts=-1)(_Reports).options(scheduling_strategy=here).remote()
    options = {
        "num_cpus": workers.processors,
        "num_gpus": workers.gpus,
        "max_retries": _RETRIES,
        "scheduling_strategy": "SPREAD",
    }
    task = ray.remote(_build)
    seen = _Seen.of(jobs[0])
    under_way = {
        task.options(name=f"shard {number}", **options).remote(
            seen, workers.processors, number, _anywhere(jobs[number]), reports
        ): number
        for number in largest_first(jobs)
    }
    built: dict[int, Built] = {}
    try:
        while under_way:
            done = ray.wait(list(under_way), timeout=_LOOK_SECONDS)[0]
            _pass_on(reports, progress)
            for one in done:
                number = under_way.pop(one)
                built[number] = _built(one, jobs[number])
        _pass_on(reports, progress)
    finally:
        for one in under_way:
            ray.cancel(one, force=True)
        ray.kill(reports)
    return [built[number] for number in range(len(jobs))]


def _pass_on(reports: Any, progress: Callable[[int, Progress], None]) -> None:
    with suppress(RayError, GetTimeoutError):  # it was lost with its node, and is started anew
        for number, said in ray.get(reports.take.remote(), timeout=1.0).items():
            progress(number, said)


def _built(done: Any, job: Job) -> Built:
    try:
        outcome = ray.get(done)
    except RayTaskError as error:
        raise ClusterError(
            f"the shard {str(job.folder)!r} cannot be built: {error.cause!r}; has every node the same semsearch?"
        ) from error
    except RayError as error:
        told = " ".join(str(error).split())
        raise ClusterError(
            f"the shard {str(job.folder)!r} was begun {_RETRIES + 1} times, and each time its process or node was "
            f"lost; is there memory left? {told}"
        ) from error
    if isinstance(outcome, SemsearchError):
        raise outcome
    assert isinstance(outcome, Built)
    return outcome


def _anywhere(job: Job) -> Job:
    """A job whose paths do not depend on the current folder."""
    model = Path(job.model)
    return replace(job, folder=job.folder.resolve(), model=str(model.resolve()) if model.is_dir() else job.model)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a driver sees, and every node must see, too: the version of semsearch, and what the index's manifest is."""

    version: str
    manifest: bytes

    @classmethod
    def of(cls, job: Job) -> _Seen:
        index = index_of(job.folder)
        plan = index / PLAN
        return cls(__version__, (plan if plan.exists() else index / SHARDS).read_bytes())

    def check(self, job: Job) -> None:
        """See that this node is fit for a job."""
        name = platform.node()
        if self.version != __version__:
            raise ClusterError(
                f"the node {name!r} has semsearch {__version__}, the command {self.version}; install the same on all"
            )
        index = index_of(job.folder)
        try:
            same = _Seen.of(job) == self
        except OSError:
            same = False
        if not same or not job.found.root.is_dir():
            missing = index if not same else job.found.root
            raise ClusterError(
                f"the node {name!r} does not see {str(missing)!r} as this machine does; it must be on a file system "
                "that all nodes share, under the same path"
            )


class _Reports:
    """How far shards are, as whoever builds them says."""

    def __init__(self) -> None:
        self._said: dict[int, Progress] = {}

    def tell(self, number: int, said: Progress) -> None:
        self._said[number] = said

    def take(self) -> dict[int, Progress]:
        said, self._said = self._said, {}
        return said


# Of this process, in which one task follows the other.
_builder = Builder()


def _build(seen: _Seen, processors: int, number: int, job: Job, reports: Any) -> Built | SemsearchError:
    """Build a shard on a node."""
    use_at_most(processors)
    try:
        seen.check(job)
        with _Telling(reports, number) as telling:
            return _built_when_free(job, telling.tell)
    except SemsearchError as error:
        return error


def _built_when_free(job: Job, tell: Callable[[Progress], None]) -> Built:
    """Build it as soon as what was at it on a node, or for a driver, that has been lost is gone."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return _builder.build(job, tell)
        except IndexLockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)


class _Telling:
    """Tells now and then how far a shard is, and at the end."""

    def __init__(self, reports: Any, number: int) -> None:
        self._reports = reports
        self._number = number
        self._next = 0.0
        self._last: Progress | None = None

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last:
            self._reports.tell.remote(self._number, self._last)

    def tell(self, said: Progress) -> None:
        self._last = said
        if time.monotonic() >= self._next:
            self._reports.tell.remote(self._number, said)
            self._next = time.monotonic() + _TELL_SECONDS
