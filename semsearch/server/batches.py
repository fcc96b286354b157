"""Requests that are alike, worked on together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Work in threads, of which few are at it at once: what comes meanwhile makes up the next batch.

    So nobody waits for others to come, and many take less time than one after the other would. All its methods are
    called by the event loop's thread.
    """

    def __init__(self, executor: Executor, at_once: int, most: int) -> None:
        """Make it.

        Args:
            executor: The threads.
            at_once: Batches that are worked on at once.
            most: Items of a batch.
        """
        self._executor = executor
        self._at_once = at_once
        self._most = most
        self._running = 0
        # By what makes them alike, those that came first before others: how they are worked on, and the items.
        self._waiting: dict[Hashable, tuple[Callable[[Sequence[T]], Sequence[R]], list[_Item[T, R]]]] = {}

    async def run(self, alike: Hashable, item: T, work: Callable[[Sequence[T]], Sequence[R]]) -> R:
        """The result of one item; its own error if it has one.

        Args:
            alike: What it has in common with others, so that they may be worked on together.
            item: What differs.
            work: Gives the results of several items.
        """
        waiting = _Item[T, R](item)
        self._waiting.setdefault(alike, (work, []))[1].append(waiting)
        self._start()
        return await waiting.result

    def _start(self) -> None:
        while self._waiting and self._running < self._at_once:
            alike = next(iter(self._waiting))
            work, items = self._waiting.pop(alike)
            batch, rest = items[: self._most], items[self._most :]
            if rest:  # after the others
                self._waiting[alike] = work, rest
            batch = [item for item in batch if not item.result.done()]  # nobody waits for those any more
            if batch:
                self._running += 1
                task = asyncio.get_running_loop().run_in_executor(self._executor, _outcomes, work, batch)
                task.add_done_callback(lambda done, batch=batch: self._done(batch, done))  # type: ignore[misc]

    def _done(self, batch: Sequence[_Item[T, R]], done: asyncio.Future[list[Any]]) -> None:
        self._running -= 1
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        outcomes = done.result() if error is None else [error] * len(batch)
        for item, outcome in zip(batch, outcomes, strict=True):
            if item.result.done():
                continue
            if isinstance(outcome, BaseException):
                item.result.set_exception(outcome)
            else:
                item.result.set_result(outcome)
        self._start()


class _Item(Generic[T, R]):
    def __init__(self, value: T) -> None:
        self.value = value
        self.result: asyncio.Future[R] = asyncio.get_running_loop().create_future()


def _outcomes(work: Callable[[Sequence[T]], Sequence[R]], batch: Sequence[_Item[T, R]]) -> list[R | Exception]:
    """Results, or where one has none, its error, which is not that of the others."""
    try:
        return [*work([item.value for item in batch])]
    except Exception as error:
        if len(batch) == 1:
            return [error]
        return [outcome for item in batch for outcome in _outcomes(work, [item])]
