"""Ray nodes on the loopback address, started and killed as a test says; a process of its own, which it talks to."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# A dead node is found in 1.4 s instead of 15.
FAST = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "500",
}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "error"}
LOOPBACK = "127.0.0.1"
MEMORY = 4 << 30
# Of Linux: a flag of `unshare` and `setns`, a request of `ioctl`, and a flag of a network interface.
_NEW_NETWORK, _SET_FLAGS, _UP = 0x40000000, 0x8914, 1


class Nodes:
    """A head and other nodes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._ask("head")

    def add(self, processors: int, memory: int = MEMORY) -> str:
        """Start a node; its id."""
        return str(self._ask("add", processors, memory))

    def pids(self, node: str) -> list[int]:
        """The processes of a node, its workers among them."""
        return list(self._ask("pids", node))

    def kill(self, node: str) -> None:
        """Kill a node as a power failure would, with all its processes at once."""
        self._ask("kill", node)

    def _ask(self, *asked: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def own_network() -> Iterator[None]:
    """Be in a network with a loopback address alone, as Ray asks addresses outside which cloud it is in.

    It holds for this thread, and what it starts.

    Raises:
        PermissionError: It may not be made.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before:
        if libc.unshare(_NEW_NETWORK):
            raise PermissionError(os.strerror(ctypes.get_errno()))
        try:
            with socket.socket() as any_socket:
                fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))
            yield
        finally:
            assert not libc.setns(before.fileno(), _NEW_NETWORK)


@contextmanager
def nodes(folder: Path, processors: int, memory: int = MEMORY) -> Iterator[Nodes]:
    """A cluster of a head alone, whose own files are in this folder; all its processes have ended afterwards.

    Args:
        folder: Sockets are in it, so that its path is to be short.
        processors: That the head has for tasks.
        memory: Bytes that it has for them.
    """
    (folder / "ray").mkdir(exist_ok=True)  # Ray does not make it, and writes there which cluster it started last
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder), str(processors), str(memory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **FAST, **QUIET, "RAY_TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        yield Nodes(process)
    finally:
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        try:
            process.wait(60)
        finally:
            process.stdout.close()
            for pid in children_of(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait()


def children_of(parent: int) -> list[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found, new = [], [parent]
    while new:
        new = [child for one in new for child in children.get(one, ())]
        found += new
    return found


def _main(folder: str, processors: int, memory: int) -> None:
    from ray.cluster_utils import Cluster

    ours = os.dup(1)
    os.dup2(2, 1)  # what Ray prints is no answer
    own = {"node_ip_address": LOOPBACK, "include_dashboard": False, "object_store_memory": 80 << 20}
    cluster = Cluster(
        initialize_head=True, head_node_args={**own, "num_cpus": processors, "memory": memory, "temp_dir": folder}
    )
    started = {"head": cluster.head_node}

    def pids(node: Any) -> list[int]:
        own = [one.process.pid for kind in node.all_processes.values() for one in kind]
        return [*own, *(child for pid in own for child in children_of(pid))]

    def kill(node: Any) -> None:
        for pid in pids(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    for line in sys.stdin:
        asked, *values = json.loads(line)
        answer: Any = None
        if asked == "head":
            answer = cluster.address
        elif asked == "add":
            node = cluster.add_node(**own, num_cpus=values[0], memory=values[1])
            started[node.node_id] = node
            answer = node.node_id
        elif asked == "pids":
            answer = pids(started[values[0]])
        elif asked == "kill":
            kill(started.pop(values[0]))
        os.write(ours, json.dumps(answer).encode() + b"\n")
    if "head" not in started:  # the others would end in a minute or two
        for node in started.values():
            kill(node)
    cluster.shutdown()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
