"""What several threads have open at once, and what was made of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Shared:
    """Something open, which is closed when the last one has given it up. Threads may share it."""

    def __init__(self) -> None:
        """Have it open, for one."""
        self._users = 1
        self._lock = threading.Lock()
        # What was made of it, by what made it.
        self._made: dict[object, Any] = {}
        self._made_locks: dict[object, threading.Lock] = {}

    def kept(self, make: Callable[[Any], T]) -> T:
        """What this makes of it, made once."""
        with self._lock:
            making = self._made_locks.setdefault(make, threading.Lock())
        with making:
            if make not in self._made:
                self._made[make] = make(self)
            made: T = self._made[make]
            return made

    def acquire(self) -> bool:
        """Have it stay open until it is released once more; False if it is closed already."""
        with self._lock:
            self._users += bool(self._users)
            return bool(self._users)

    def release(self) -> None:
        """Give it up; the last one to do so closes it."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self._close()

    def _close(self) -> None:
        raise NotImplementedError
