"""Run a job again and again, each time with a fault at another of the calls by which it changes a folder.

The faults are made by `faults.c`, a library that a *host* process is started with. The host runs some setup once, with
all the slow imports, and then forks a child for each run of the job:

    with Host(library(tmp_path), "import os\\ndef job(path): os.mkdir(path)") as host:
        calls = host.run(folder, path=folder / "a").calls
        for at in range(1, calls + 1):
            outcome = host.run(folder, at, Mode.KILL_BEFORE, path=folder / str(at))

Calls that count are those that may change what is on disk below the folder, among them the opening of a file that is
made or cut off by it, and every fsync. Each has a number, from 1; a job that does the same in another order, as threads
or a set of strings may, numbers them otherwise.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any

# Libraries that would start threads in the host, or after the fork in vain.
_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
}
STICKY = 1  # a bit of the seed of ENOSPC and EIO: every later call fails as well
SHORT_FIRST = 2  # another of ENOSPC: if the call is a write, it still writes half


class Mode(IntEnum):
    """What happens at a call.

    COUNT: nothing. KILL_BEFORE, KILL_AFTER: the process is killed, by SIGKILL. POWER: the power fails; the call itself
    was done in half of the cases, what is not synced is lost in part, as the seed has it. At a number beyond the last
    call, it fails when the job has returned. ENOSPC: a call that takes space fails; EIO: any call fails; once, or with
    STICKY in the seed, from there on. SHORT: a write of several bytes writes half of them.
    """

    COUNT = 0
    KILL_BEFORE = 1
    KILL_AFTER = 2
    POWER = 3
    ENOSPC = 4
    EIO = 5
    SHORT = 6


@dataclass(frozen=True)
class Outcome:
    """What became of a run: `status` is the exit code (1 after an exception), the negative signal, or "hang"."""

    status: int | str
    value: Any  # what the job returned, or None
    error: str  # an exception's type and message, or ""
    stderr: str
    calls: int
    trace: tuple[str, ...]  # a line for each counted call, as "rename a -> b"


def library(tmp: Path) -> Path:
    """The compiled faults.c, in the folder `tmp` unless it is there already; skips the test where it cannot be used."""
    import pytest

    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("faults are made for Linux on x86-64")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("faults need a C compiler")
    source = Path(__file__).with_name("faults.c")
    path = tmp / f"faults-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-fvisibility=hidden", "-Wl,-z,now"]
        subprocess.run([compiler, *flags, "-o", partial, source], check=True)
        partial.replace(path)
    with Host(path, "def job(): pass") as host:
        outcome = host.run(tmp)
    if outcome.status != 0:
        pytest.skip(f"the calls of a process cannot be caught here: {outcome.error}")
    return path


class Host:
    """A process that runs a job with faults; to be closed, or used as a context manager.

    Args:
        library: What `library` returned.
        setup: Python source that defines `job(**kwargs)`, whose arguments and value go through JSON. It must start no
            threads, as the job runs in a fork of the process: import faiss, torch and the like, but compute with them
            in the job alone. The job's process ends without closing what the job left open.
        env: Environment variables to set besides those that keep libraries from starting threads.
        timeout: Seconds after which a run is a hang.
    """

    def __init__(
        self, library: Path, setup: str, *, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> None:
        self._timeout = timeout
        answers, answering = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(answering)],
            env={**os.environ, **_ENVIRONMENT, **(env or {}), "LD_PRELOAD": str(library)},
            stdin=subprocess.PIPE,
            pass_fds=[answering],
        )
        os.close(answering)
        self._answers = os.fdopen(answers, "rb")
        try:
            self._ask({"setup": setup})
        except BaseException:
            self.close()
            raise

    def run(
        self, folder: Path | None = None, at: int = 0, mode: Mode = Mode.COUNT, seed: int = 0, **kwargs: Any
    ) -> Outcome:
        """Run `job(**kwargs)` in a process of its own, with a fault at the call number `at` that changes `folder`.

        The folder must exist. The names of the job's arguments must differ from those of this method.
        """
        request = {"folder": folder, "at": at, "mode": mode, "seed": seed, "timeout": self._timeout, "kwargs": kwargs}
        answer = self._ask(request)
        return Outcome(**{**answer, "trace": tuple(answer["trace"])})

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        self._answers.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request, default=str).encode() + b"\n")
        self._process.stdin.flush()
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"the host died: {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer


# What follows runs in the host and in its children.


def _load() -> ctypes.CDLL:
    faults = ctypes.CDLL(None)
    faults.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_uint]
    faults.faults_count.restype = ctypes.c_long
    faults.faults_trace.restype = ctypes.c_char_p
    return faults


def _serve(answering: int) -> None:
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what a job prints is no answer
    faults = _load()
    namespace: dict[str, Any] = {"__name__": "setup"}
    for line in requests:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if "setup" in request:
                exec(compile(request["setup"], "<setup>", "exec"), namespace)
                answer = {}
            else:
                answer = _run(faults, namespace["job"], request)
            if len(os.listdir("/proc/self/task")) > 1:
                answer = {"failed": "the setup started threads, which would be missing after a fork"}
        except BaseException:
            answer = {"failed": traceback.format_exc()}
        with os.fdopen(os.dup(answering), "wb") as pipe:
            pipe.write(json.dumps(answer).encode() + b"\n")


def _run(faults: ctypes.CDLL, job: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    faults.faults_reset()
    stderr = os.memfd_create("stderr")
    results, writing = os.pipe()
    child = os.fork()
    if not child:
        _be_child(faults, job, request, writing, stderr)
    os.close(writing)
    status, result = _wait(child, results, request["timeout"])
    os.close(results)
    if request["folder"]:
        shutil.rmtree(os.path.realpath(request["folder"]) + ".faults", ignore_errors=True)
    with os.fdopen(stderr, "rb") as file:
        file.seek(0)
        text = file.read().decode(errors="replace")
    calls = {"calls": faults.faults_count(), "trace": faults.faults_trace().decode(errors="replace").splitlines()}
    return {"value": None, "error": "", **result, "status": status, "stderr": text, **calls}


def _wait(child: int, results: int, timeout: float) -> tuple[int | str, dict[str, Any]]:
    """How a child ended and what it sent, if it sent all of it."""
    deadline = time.monotonic() + timeout
    os.set_blocking(results, False)
    ended = os.pidfd_open(child)
    sent = b""
    alive = True
    while alive and (left := deadline - time.monotonic()) > 0:
        ready = select.select([results, ended], [], [], left)[0]
        alive = ended not in ready
        while ready and (block := _read(results)):
            sent += block
        if results in ready and alive:  # at its end, too, a pipe is ready
            select.select([ended], [], [], 0.001)
    os.close(ended)
    os.killpg(child, signal.SIGKILL)  # what it started, too
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    result = json.loads(sent) if sent.endswith(b"\n") else {}
    return ("hang" if alive else status), result


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""


def _be_child(faults: ctypes.CDLL, job: Callable[..., Any], request: dict[str, Any], writing: int, stderr: int) -> None:
    status = 1
    try:
        os.setpgid(0, 0)
        os.dup2(stderr, 1)
        os.dup2(stderr, 2)
        result = _do(faults, job, request)
        status = int("error" in result)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(result).encode() + b"\n")
        if request["folder"] and request["mode"] == Mode.POWER and not status:
            faults.faults_power()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _do(faults: ctypes.CDLL, job: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        if request["folder"]:
            folder = os.fsencode(request["folder"])
            failed = faults.faults_arm(folder, request["at"], request["mode"], request["seed"])
            if failed:
                raise OSError(-failed, os.strerror(-failed), request["folder"])
        value = job(**request["kwargs"])
        faults.faults_disarm()
        return {"value": value}
    except BaseException as error:
        faults.faults_disarm()
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
