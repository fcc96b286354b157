"""The processes of a Ray cluster that build shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from semsearch.errors import ClusterError

# Processors that one worker uses if nothing is said: with fewer there are more models in memory, with more its threads
# wait for each other.
_PROCESSORS = 4


@dataclass(frozen=True, slots=True)
class Workers:
    """What builds at once.

    Attributes:
        count: How many workers.
        are_fewer: Whether the cluster has room for more.
        processors: How many each has.
        gpus: How many each has, 0 or 1.
    """

    count: int
    are_fewer: bool
    processors: int
    gpus: int

    @property
    def resources(self) -> dict[str, Any]:
        """What Ray is asked for where one of them is to run."""
        return {"num_cpus": self.processors, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD"}


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
        return Workers(wanted or gpus, (wanted or gpus) < gpus, 1, 1)
    if wanted is None:
        each = min(_PROCESSORS, processors[0])
        return Workers(sum(there // each for there in processors), False, each, 0)
    room = {each: sum(there // each for there in processors) for each in range(processors[-1], 0, -1)}
    each = next((each for each, count in room.items() if count >= wanted), 1)
    return Workers(wanted, wanted < room[each], each, 0)


def start(workers: Workers) -> None:
    """Have processes started, and have them load what builds, while the driver does so itself."""
    task = ray.remote(max_retries=0, **workers.resources)(_load)
    for _ in range(workers.count):
        task.remote()


def _load() -> None:
    import semsearch.cluster.building  # noqa: F401
