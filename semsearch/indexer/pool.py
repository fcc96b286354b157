"""Files read and cut in processes of their own, ahead of what is being embedded."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from semsearch.corpus.walk import SourceFile
from semsearch.errors import StorageError
from semsearch.indexer.worker import ENDS, MEMORY_LIMIT, receive, send

# Files that are given out ahead of the one whose documents are taken, how many bytes they have together if they are
# several, and documents of each that wait to be taken.
_FILES_AHEAD, _BYTES_AHEAD, _DOCUMENTS_AHEAD = 64, 8 * 2**20, 64
# A file may take so long without giving a document, and a second more for each MiB that it has.
_SECONDS = 20.0
_CHECK_SECONDS = 0.25
# Of the packages that the reading process needs, where they are; its own start leaves out the current folder.
_COMMAND = "import sys; sys.path[:] = {path!r}; from semsearch.indexer.worker import main; main()"
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class WorkerPool:
    """Some processes that read files; use it as a context manager, so that none is left behind."""

    def __init__(self, setup: dict[str, Any], processes: int) -> None:
        """Start the threads that look after the processes; each starts with its first file.

        Args:
            setup: As of `worker.setup_of`.
            processes: How many.
        """
        self._closed = threading.Event()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._workers = [_Worker(setup) for _ in range(processes)]
        self._threads = [threading.Thread(target=self._serve, args=(one,), daemon=True) for one in self._workers]
        for thread in (*self._threads, threading.Thread(target=self._watch, daemon=True)):
            thread.start()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they are at."""
        self._closed.set()
        for worker in self._workers:
            self._tasks.put(None)
            worker.end()
        for worker, thread in zip(self._workers, self._threads, strict=True):
            thread.join()
            worker.reap()

    def read(self, files: Iterable[SourceFile]) -> Iterator[tuple[SourceFile, list[Any]]]:
        """What there is to say of files, as `worker.answers_of` has it, in the files' order."""
        ahead: deque[_Task] = deque()
        coming = deque(files)
        size = 0
        while coming or ahead:
            while coming and len(ahead) < _FILES_AHEAD and (not ahead or size + coming[0].size <= _BYTES_AHEAD):
                ahead.append(_Task(coming.popleft()))
                self._tasks.put(ahead[-1])
                size += ahead[-1].file.size
            task = ahead.popleft()
            size -= task.file.size
            while True:
                answer = task.answers.get()
                if answer[0] == "failed":
                    raise StorageError("a process that reads files cannot be started; is there memory left for it?")
                yield task.file, answer
                if answer[0] in ENDS:
                    break

    def _serve(self, worker: _Worker) -> None:
        while (task := self._tasks.get()) and not self._closed.is_set():
            for answer in worker.read(task.file):
                while not self._closed.is_set():
                    try:
                        task.answers.put(answer, timeout=_CHECK_SECONDS)
                        break
                    except queue.Full:
                        continue

    def _watch(self) -> None:
        while not self._closed.wait(_CHECK_SECONDS):
            for worker in self._workers:
                worker.end_if_late()


class Readers:
    """Keeps the processes of one reading for the next, as each takes a second of a processor to start."""

    def __init__(self) -> None:
        """Have none yet."""
        self._kept: WorkerPool | None = None
        self._of: tuple[dict[str, Any], int] | None = None

    @contextmanager
    def pool(self, setup: dict[str, Any], processes: int) -> Iterator[WorkerPool]:
        """A pool, as of `WorkerPool`: the one that was kept, if it is of the same setup and number."""
        pool, self._kept = self._kept, None
        if pool and self._of != (setup, processes):
            pool.close()
            pool = None
        pool, self._of = pool or WorkerPool(setup, processes), (setup, processes)
        try:
            yield pool
        except BaseException:  # files of a reading that was broken off are still being read
            pool.close()
            raise
        self._kept = pool

    def close(self) -> None:
        """End the processes."""
        if self._kept:
            self._kept.close()
            self._kept = None


class _NotStartedError(Exception):
    """A process ended before it was ready."""


class _Task:
    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.answers: queue.Queue[list[Any]] = queue.Queue(_DOCUMENTS_AHEAD)


class _Worker:
    """One process, started anew when it has ended."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._deadline = float("inf")
        self._late = False

    def read(self, file: SourceFile) -> Iterator[list[Any]]:
        """The answers of the process, or one that says how it ended."""
        seconds = _SECONDS + file.size / 2**20
        if self._late:
            self.reap()  # which was killed with its last answer on its way
            self._late = False
        try:
            self._deadline = time.monotonic() + seconds
            process = self._running()
            send(cast(BinaryIO, process.stdin), [str(file.path), file.name, file.size, file.mtime_ns])
            while True:
                self._deadline = time.monotonic() + seconds
                answer, leaves = _checked(receive(cast(BinaryIO, process.stdout)))
                # While the answer waits to be taken, the process is not at fault.
                self._deadline = float("inf")
                if leaves:
                    self.reap()
                yield answer
                if answer[0] in ENDS:
                    return
        except _NotStartedError:
            self.reap()
            yield ["failed"]
        except (EOFError, OSError, ValueError):  # gone, or what it wrote makes no sense
            self.reap()
            if self._late:
                yield ["skipped", f"reading it takes longer than {seconds:.0f} s"]
            else:
                yield ["skipped", f"reading it crashed, or took more than {MEMORY_LIMIT / 2**30:g} GiB of memory"]
        finally:
            self._deadline = float("inf")

    def end_if_late(self) -> None:
        """Kill the process if its time is over."""
        if time.monotonic() > self._deadline:
            self._late = True
            self._kill()

    def end(self) -> None:
        """Kill the process for good."""
        with self._lock:
            self._closed = True
        self._kill()

    def reap(self) -> None:
        """Take leave of the process."""
        if process := self._process:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):  # of what was not sent yet
                    cast(BinaryIO, stream).close()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process and self._process.poll() is not None:
            self.reap()
        if self._process:
            return self._process
        try:
            with self._lock:
                if self._closed:
                    raise EOFError
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _COMMAND.format(path=[one for one in sys.path if one])],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **_ENVIRONMENT},
                )
            send(cast(BinaryIO, self._process.stdin), self._setup)
            receive(cast(BinaryIO, self._process.stdout))
        except (EOFError, OSError):
            raise _NotStartedError from None
        return self._process

    def _kill(self) -> None:
        if process := self._process:
            process.kill()


def _checked(received: object) -> tuple[list[Any], bool]:
    match received:
        case [[str(), *_] as answer, bool(leaves)]:
            return list(answer), leaves
    raise ValueError(f"no answer: {received!r:.80}")
