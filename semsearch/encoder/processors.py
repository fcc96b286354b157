"""The processors that this process may use."""

from __future__ import annotations

import os

_most: int | None = None


def processors() -> int:
    """How many there are."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, _most) if _most else there


def use_at_most(count: int) -> None:
    """Leave the others to other processes; what is begun from now on has no more threads or processes than these."""
    global _most
    _most = count
