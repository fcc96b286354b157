"""The searchers behind the API, and the threads that they work in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from semsearch.errors import IndexNotFoundError, InvalidInputError
from semsearch.query.projection import Map
from semsearch.query.searcher import Searcher
from semsearch.server.batches import Batches
from semsearch.server.limits import BATCH, MAP_SECONDS, WORK_SECONDS
from semsearch.server.searching import Answers, BusyError, Searchers, Searching
from semsearch.store.catalog import IndexInfo

T = TypeVar("T")


class Service:
    """Indexes that are served; work runs in a few threads of its own."""

    def __init__(self, searchers: Searchers, searching: Searching | None = None, *, threads: int, waiting: int) -> None:
        """Serve indexes; all that is given is closed with it.

        Args:
            searchers: Those of the indexes.
            searching: What searches them; they themselves if there is nothing.
            threads: Requests that are worked on at once.
            waiting: Requests that may wait for that; more are refused.
        """
        self._searchers = searchers
        self._searching = searching or searchers
        self.can_rerank = searchers.can_rerank
        self._room = threads + waiting
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._batches: Batches[str, Any] = Batches(self._threads, min(threads, self._searching.at_once), BATCH)
        self.in_flight = 0
        # One at a time, beside the other work.
        self._map_maker = ThreadPoolExecutor(1, thread_name_prefix="map")
        self._maps: dict[str, Future[Map]] = {}

    def names(self) -> list[str]:
        """The names of the indexes that are served and there, sorted."""
        return self._searchers.names()

    def describe(self) -> list[IndexInfo]:
        """What each of them says of itself."""
        return self._searchers.describe()

    def name_of(self, name: str | None) -> str:
        """The name of an index; it may be left out if only one is served.

        Raises:
            IndexNotFoundError: There is none of that name.
            InvalidInputError: Several are served, and none was named.
        """
        names = self.names()
        if name is None and len(names) > 1:
            raise InvalidInputError(f"several indexes are served: {', '.join(names)}; name one as `index`")
        if name is None and names:
            name = names[0]
        if name not in names:
            known = f"there are: {', '.join(names)}" if names else "there are none"
            raise IndexNotFoundError(f"no index {name!r} is served; {known}" if name else "no index is served yet")
        return name

    def searcher(self, name: str | None) -> Searcher:
        """The searcher of an index, in this process.

        Raises:
            IndexNotFoundError, InvalidInputError: As of `name_of`.
            SemsearchError: It cannot be opened.
        """
        return self._searchers.get(self.name_of(name))

    def search(self, name: str, queries: Sequence[str], options: dict[str, Any]) -> Answers:
        """What an index has for queries, by whatever searches, as of `Searchers.search`."""
        return self._searching.search(name, queries, options)

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in a thread.

        Raises:
            BusyError: There is no room, or it took too long.
        """
        return await self._in_time(lambda: asyncio.get_running_loop().run_in_executor(self._threads, work))

    async def run_together(self, alike: Hashable, item: str, work: Callable[[Sequence[str]], Sequence[T]]) -> T:
        """As `run`, together with others that are alike: as `Batches.run`."""
        return await self._in_time(lambda: asyncio.ensure_future(self._batches.run(alike, item, work)))

    async def _in_time(self, start: Callable[[], asyncio.Future[T]]) -> T:
        if self.in_flight >= self._room:
            raise BusyError("too many requests are under way; try again in a moment")
        self.in_flight += 1
        under_way = start()
        # A thread cannot be stopped: who has stopped waiting for it still takes its room until it ends.
        under_way.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(under_way), WORK_SECONDS)
        except TimeoutError:
            raise BusyError(f"it took longer than {WORK_SECONDS:.0f} s; ask for less, or try again later") from None

    async def map(self, searcher: Searcher) -> Map | None:
        """The map of an index; None while it is being made, which takes longer than a request may."""
        making = self._maps.get(searcher.name)
        if making is None or making.done():
            making = self._maps[searcher.name] = self._map_maker.submit(searcher.map)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(making)), MAP_SECONDS)
        except TimeoutError:
            return None

    def _done(self, ended: asyncio.Future[Any]) -> None:
        self.in_flight -= 1
        if not ended.cancelled():
            ended.exception()  # whether or not somebody still waits for it

    def close(self) -> None:
        """End the threads, and close all that is open."""
        self._threads.shutdown(cancel_futures=True)
        self._map_maker.shutdown(cancel_futures=True)
        self._searching.close()
        self._searchers.close()
