"""Shards that the nodes of a Ray cluster build, each by itself."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import socket
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from semsearch import __version__
from semsearch.cluster.connection import Connection
from semsearch.cluster.objects import ObjectFolder
from semsearch.cluster.places import ObjectUpdate
from semsearch.cluster.workers import Workers
from semsearch.corpus.walk import Walk
from semsearch.encoder.processors import use_at_most
from semsearch.errors import ClusterError, IndexLockedError, IndexNotFoundError, SemsearchError
from semsearch.indexer.report import Progress
from semsearch.indexer.settings import Settings
from semsearch.indexer.sources import looks_unchanged
from semsearch.indexer.workers import Builder, Built, Job, largest_first
from semsearch.store.database import Database
from semsearch.store.manifest import FileRow
from semsearch.store.rest import REST
from semsearch.store.shards import FOLDER, PLAN, SHARDS, index_of

# So often a shard is tried anew after its node, or its process, has ended.
_RETRIES = 5
# Bytes of a datagram at most.
_DATAGRAM = 4096
# Seconds between two looks at how far the shards are, and between two things that a worker says of one.
_LOOK_SECONDS, _TELL_SECONDS = 0.3, 0.2
# Seconds for a process to let go of a shard whose node, or driver, has just been lost.
_LOCK_SECONDS = 60.0


def build_all(
    connection: Connection,
    workers: Workers,
    source: ObjectFolder | None,
    update: ObjectUpdate | None,
    jobs: Sequence[Job],
    _: int,
    progress: Callable[[int, Progress], None],
) -> list[Built]:
    """Bring shards up to date, as of `indexer.workers.build_all`, on a cluster.

    Args:
        connection: To the cluster.
        workers: What builds at once.
        source: Where the files are; None where every node finds them under the same path as this machine.
        update: That of an index of an object store; None where every node finds the index under the same path.
        jobs: What is to be done.
        progress: Is given a job's number and how far it is.

    Raises:
        SemsearchError: As of `Indexer.update`.
        ClusterError: A node does not find them, has another semsearch, or one after the other was lost; or the head.
    """
    task = ray.remote(max_retries=_RETRIES, **workers.resources)(_build)
    hearing = _Hearing()
    if update:
        update.begin()
    places = _Places(source, update.index if update else None, __version__, b"" if update else _manifest(jobs[0]))
    waiting = deque(largest_first(jobs))
    # What Ray knows of, it gives to a process that has just finished another, with its model loaded.
    at_once = workers.count if workers.are_fewer else len(jobs)
    under_way: dict[Any, int] = {}
    built: dict[int, Built] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < at_once:
                number = waiting.popleft()
                given = places, workers.processors, number, _anywhere(jobs[number]), hearing.address
                under_way[task.options(name=f"shard {number}").remote(*given)] = number
            done = ray.wait(list(under_way), timeout=_LOOK_SECONDS)[0]
            hearing.pass_on(progress)
            if not done:
                connection.see()
            for one in done:
                number = under_way.pop(one)
                built[number] = _built(one, jobs[number])
    finally:
        hearing.close()
        for one in under_way:
            with suppress(RayError, TypeError, ValueError):  # lest it hide what they are given up for
                ray.cancel(one, force=True)
    return [built[number] for number in range(len(jobs))]


def _built(done: Any, job: Job) -> Built:
    try:
        outcome = ray.get(done)
    except RayTaskError as error:
        cause = getattr(error.cause, "client_exc", error.cause)  # of Ray's own error, which tells its traceback
        raise ClusterError(
            f"the shard {str(job.folder)!r} cannot be built: {cause!r}; has every node the same semsearch?"
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


def _manifest(job: Job) -> bytes:
    """What says which shards there are, or are going to be."""
    index = index_of(job.folder)
    plan = index / PLAN
    return (plan if plan.exists() else index / SHARDS).read_bytes()


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a build reads and writes.

    Attributes:
        source, index: As of `build_all`; None where it is on a file system that the nodes share.
        version: Of semsearch, as the driver has it.
        manifest: As the driver sees it, where the index is on a shared file system.
    """

    source: ObjectFolder | None
    index: ObjectFolder | None
    version: str
    manifest: bytes

    def check(self, job: Job) -> None:
        """See that this node is fit for a job."""
        node = platform.node()
        if self.version != __version__:
            raise ClusterError(
                f"the node {node!r} has semsearch {__version__}, the command {self.version}; install the same on all"
            )
        missing = None
        if not self.source and not job.found.root.is_dir():
            missing = job.found.root
        if not self.index:
            try:
                same = _manifest(job) == self.manifest
            except OSError:
                same = False
            missing = missing if same else index_of(job.folder)
        if missing:
            raise ClusterError(
                f"the node {node!r} does not see {str(missing)!r} as this machine does; it must be on a file system "
                "that all nodes share, under the same path"
            )

    def build(self, job: Job, tell: Callable[[Progress], None]) -> Built:
        """Build a shard, in a folder of this node if it is in no shared one."""
        with tempfile.TemporaryDirectory(prefix="semsearch-") as name:
            local = replace(job, folder=Path(name, "shard")) if self.index else job
            if self.index:
                self.index.fetch_whole(f"{FOLDER}/{job.folder.name}", local.folder)
            before, known = _known(local)
            if self.source:
                local = replace(local, found=_fetched(self.source, job.found, known, Path(name, "files")))
            built = _built_when_free(local, tell)
            if self.index and built.generation not in (0, before):
                # What is there stays as it is for those who read it, and until the manifest names the other.
                new = uuid.uuid4().hex if before else job.folder.name
                shutil.rmtree(local.folder / REST, ignore_errors=True)
                self.index.put_whole(local.folder, f"{FOLDER}/{new}")
                built = replace(built, name=new)
            return built


def _known(job: Job) -> tuple[int, dict[str, FileRow]]:
    """The generation of a shard, 0 if it has none, and the files that it knows and trusts."""
    with suppress(IndexNotFoundError), Database.open_for_reading(job.folder) as database:
        head = database.head()
        alike = job.settings.reads_like(Settings.from_json(head.settings))
        return head.generation, {row.path: row for row in database.files()} if alike else {}
    return 0, {}


def _fetched(source: ObjectFolder, found: Walk, known: Mapping[str, FileRow], into: Path) -> Walk:
    """What was found, with those files in a folder of this machine that are not as the index knows them."""
    into.mkdir()
    changed = [one for one in found.files if one.name not in known or not looks_unchanged(one, known[one.name])]
    try:
        source.fetch([one.name for one in changed], into)
    except FileNotFoundError:  # one has gone since
        for one in changed:
            with suppress(FileNotFoundError):
                source.fetch([one.name], into)
    for one in changed:
        with suppress(FileNotFoundError):
            os.utime(into / one.name, ns=(one.mtime_ns, one.mtime_ns))
    return replace(found, root=into, files=[replace(one, path=into / one.name) for one in found.files])


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a driver hears how far shards are, and what shows that it is its own tasks that say so."""

    host: str
    port: int
    token: str

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


class _Hearing:
    """Hears how far shards are, by datagrams: one that is lost is not missed, and nothing waits for it."""

    def __init__(self) -> None:
        address = _Address(ray.util.get_node_ip_address(), 0, secrets.token_hex())
        self._socket = socket.socket(address.family, socket.SOCK_DGRAM)
        self._socket.bind((address.host, address.port))
        self._socket.setblocking(False)
        self.address = replace(address, port=self._socket.getsockname()[1])

    def pass_on(self, progress: Callable[[int, Progress], None]) -> None:
        """Pass on what came last of each shard."""
        said: dict[int, Progress] = {}
        with suppress(BlockingIOError):
            while True:
                with suppress(ValueError, TypeError):  # a stranger's
                    token, number, *values = json.loads(self._socket.recv(_DATAGRAM))
                    if token == self.address.token:
                        said[number] = Progress(*values)
        for number, one in said.items():
            progress(number, one)

    def close(self) -> None:
        self._socket.close()


# Of this process, in which one task follows the other.
_builder = Builder()


def _build(places: _Places, processors: int, number: int, job: Job, address: _Address) -> Built | SemsearchError:
    """Build a shard on a node."""
    use_at_most(processors, max(0, _processors_of_node() - processors))
    try:
        places.check(job)
        with _Telling(address, number) as telling:
            return places.build(job, telling.tell)
    except SemsearchError as error:
        return error


def _processors_of_node() -> int:
    """How many this node has for tasks, of all jobs."""
    here = ray.get_runtime_context().get_node_id()
    return next((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["NodeID"] == here), 0)


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
    """Tells a driver now and then how far a shard is, and at the end."""

    def __init__(self, address: _Address, number: int) -> None:
        self._address = address
        self._number = number
        self._socket = socket.socket(address.family, socket.SOCK_DGRAM)
        self._next = 0.0
        self._last: Progress | None = None

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last:
            self._send(self._last)
        self._socket.close()

    def tell(self, said: Progress) -> None:
        self._last = said
        if time.monotonic() >= self._next:
            self._send(said)
            self._next = time.monotonic() + _TELL_SECONDS

    def _send(self, said: Progress) -> None:
        content = json.dumps([self._address.token, self._number, *astuple(said)]).encode()
        with suppress(OSError):
            self._socket.sendto(content, (self._address.host, self._address.port))
