"""Requests that are alike are worked on together, and each has its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from semsearch.server.batches import Batches


def doubled(batch: Sequence[int]) -> list[int]:
    if 13 in batch:
        raise ValueError("unlucky")
    return [2 * item for item in batch]


def test_what_comes_meanwhile_is_the_next_batch() -> None:
    seen: list[list[int]] = []
    go = threading.Event()

    def work(batch: Sequence[int]) -> list[int]:
        seen.append(list(batch))
        assert go.wait(10)
        return doubled(batch)

    async def ask() -> None:
        with ThreadPoolExecutor(4) as threads:
            batches: Batches[int, int] = Batches(threads, 1, 3)
            asked = [asyncio.ensure_future(batches.run("alike", number, work)) for number in range(6)]
            other = asyncio.ensure_future(batches.run("other", 100, work))
            while not seen:
                await asyncio.sleep(0.001)
            asked[2].cancel()
            await asyncio.sleep(0)
            go.set()
            assert await asyncio.gather(*asked[:2], *asked[3:]) == [0, 2, 6, 8, 10]
            assert await other == 200

    asyncio.run(ask())
    # The first does not wait for others; those who have gone are passed over; no more than three; each kind in turn.
    assert seen == [[0], [1, 3], [100], [4, 5]]


def test_an_error_is_that_of_its_own_item() -> None:
    async def ask() -> None:
        with ThreadPoolExecutor(1) as threads:
            batches: Batches[int, int] = Batches(threads, 1, 10)
            asked = [batches.run("alike", number, doubled) for number in (1, 13, 2, 3)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert [str(one) for one in found] == ["2", "unlucky", "4", "6"]
            with pytest.raises(ValueError, match="unlucky"):
                await batches.run("alike", 13, doubled)
            assert await batches.run("alike", 5, doubled) == 10, "it goes on"

    asyncio.run(ask())


def test_no_more_batches_at_once_than_may_be() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(batch: Sequence[int]) -> list[int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1
        return doubled(batch)

    async def ask() -> None:
        with ThreadPoolExecutor(8) as threads:
            batches: Batches[int, int] = Batches(threads, 2, 2)
            asked = [batches.run(number % 3, number + 100, work) for number in range(40)]
            assert await asyncio.gather(*asked) == [2 * (number + 100) for number in range(40)]

    asyncio.run(ask())
    assert most == 2
