"""What several threads ask for, worked on together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Request(Generic[T, R]):
    def __init__(self, items: Sequence[T]) -> None:
        self.items = items
        self.results: Sequence[R] | None = None
        self.error: BaseException | None = None


class Batching(Generic[T, R]):
    """Works for many threads, a batch at a time: what comes while one is worked on makes up the next."""

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        """Work by this function, which gives a result for each item, and is never called twice at once."""
        self._work = work
        self._condition = threading.Condition()
        self._waiting: list[_Request[T, R]] = []
        self._busy = False

    def __call__(self, items: Sequence[T]) -> Sequence[R]:
        """The results of these items, as the function gives them; its errors, too."""
        request = _Request[T, R](items)
        with self._condition:
            self._waiting.append(request)
            while self._busy and request.results is None and request.error is None:
                self._condition.wait()
            if request.results is None and request.error is None:
                batch, self._waiting, self._busy = self._waiting, [], True
            else:
                batch = []
        if batch:
            try:
                self._run(batch)
            finally:
                with self._condition:
                    self._busy = False
                    self._condition.notify_all()
        if request.results is None:
            raise request.error or RuntimeError("a batch ended without a result")
        return request.results

    def _run(self, batch: Sequence[_Request[T, R]]) -> None:
        try:
            results = self._work([item for request in batch for item in request.items])
        except BaseException as error:
            for request in batch:
                request.error = error
            if not isinstance(error, Exception):  # an interruption is this thread's own
                raise
            return
        start = 0
        for request in batch:
            request.results = results[start : start + len(request.items)]
            start += len(request.items)
