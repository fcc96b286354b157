"""The processors that this process may use."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count as counting

_most: int | None = None
_idle = 0
_everywhere: set[int] = set()


def processors() -> int:
    """How many there are."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, _most) if _most else there


def use_at_most(count: int, idle: int = 0) -> None:
    """Leave the others to other processes; what is begun from now on has no more threads or processes than these.

    Args:
        count: How many to use.
        idle: How many of the others `threads` may use as well, while nothing else wants them.
    """
    global _most, _idle
    _most, _idle = count, idle


def keep_to(own: set[int]) -> None:
    """Use no other processors than these, but by `threads`, while nothing else wants them, those there were before."""
    global _everywhere
    _everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, own)
    use_at_most(len(own), len(_everywhere) - len(own))


def threads(name: str) -> ThreadPoolExecutor:
    """A thread for each processor, and as many again at most that run where one of the others would be idle.

    So processes that share a machine each keep to their own processors while all are at work, and the last of them is
    not alone with its own.
    """
    own, numbers = processors(), counting()

    def start() -> None:
        if next(numbers) >= own:
            with suppress(OSError):  # of a sandbox: then it takes turns with the others
                _run_where_idle()

    idle = min(_idle, own) if hasattr(os, "SCHED_IDLE") else 0
    return ThreadPoolExecutor(own + idle, thread_name_prefix=name, initializer=start)


def _run_where_idle() -> None:
    if _everywhere:
        os.sched_setaffinity(0, _everywhere)
    # A thread of this kind makes way at once for any other.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
