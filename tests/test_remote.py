"""An index whose shards are asked from elsewhere, without a cluster: connections, what replaces them, and answers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sharding import QUERIES, write

from semsearch import Searcher
from semsearch.errors import IndexNotFoundError
from semsearch.indexer.sharded import ShardedIndexer

pytest.importorskip("ray")

from semsearch.cluster import remote
from semsearch.cluster.remote import RemoteIndex, RemoteShard
from semsearch.cluster.replica import ShardReplica, Version
from semsearch.cluster.rpc import Server

HOST = "127.0.0.1"


def echo(asked: Any) -> Any:
    return "echo", asked


@pytest.fixture
def server() -> Iterator[Server]:
    with closing(Server(HOST, echo)) as server:
        yield server


class Result:
    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self, timeout_s: float) -> Any:
        return self._value


class Handle:
    """Ray Serve's handle of a replica that is in this process."""

    def __init__(self, replica: ShardReplica) -> None:
        self._replica = replica

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._replica, name)
        return SimpleNamespace(remote=lambda *asked: Result(asyncio.run(method(*asked))))


class Counted(RemoteIndex):
    """Counts what is asked of each shard."""

    asked: Counter[tuple[int, str]]

    def ask(self, shard: RemoteShard, version: Version, question: str, asked: tuple[Any, ...]) -> Any:
        self.asked[shard.number, question] += 1
        return super().ask(shard, version, question, asked)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    (folder / "source").mkdir()
    for number in range(60):
        write(folder / "source", number)
    ShardedIndexer(folder / "index", shards=3).update(folder / "source")
    return folder / "index"


@pytest.fixture(scope="module")
def here(index: Path) -> Iterator[Searcher]:
    with Searcher(index) as searcher:
        yield searcher


@pytest.fixture
def far(index: Path) -> Iterator[tuple[Searcher, Counted]]:
    replicas = [ShardReplica(str(index), lambda: HOST) for _ in range(3)]
    remote_index = Counted(
        str(index), [RemoteShard(number, Handle(one)) for number, one in enumerate(replicas)], allow_partial=False
    )
    remote_index.asked = Counter()
    with closing(remote_index), Searcher(remote_index) as searcher:
        yield searcher, remote_index
    for one in replicas:
        one.__del__()


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize("per_document", [None, 1, 2])
@pytest.mark.parametrize("condition", [None, "path:docs/"])
def test_answers_are_those_of_the_same_shards_here(
    here: Searcher, far: tuple[Searcher, Counted], mode: str, per_document: int | None, condition: str | None
) -> None:
    options: Any = {"k": 15, "mode": mode, "per_document": per_document, "filter": condition}
    assert far[0].search_batch(QUERIES, **options) == here.search_batch(QUERIES, **options)


@pytest.mark.parametrize(
    ("mode", "questions"),
    [
        ("hybrid", ["look", "find", "candidates", "passages"]),
        ("dense", ["find", "candidates", "passages"]),
        ("lexical", ["look", "find", "candidates", "passages"]),
    ],
)
def test_a_shard_is_asked_few_questions(far: tuple[Searcher, Counted], mode: str, questions: list[str]) -> None:
    searcher, remote_index = far
    for query in ("river flood", "a tide in the harbour"):
        remote_index.asked.clear()
        assert searcher.search(query, 10, mode=mode)
        assert set(remote_index.asked.values()) == {1}
        assert {question for _, question in remote_index.asked} == {*questions}


def test_all_shards_are_asked_at_once(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(40):
        write(tmp_path / "source", number)
    ShardedIndexer(tmp_path / "index", shards=20).update(tmp_path / "source")
    replica = ShardReplica(str(tmp_path / "index"), lambda: HOST)
    shards = [RemoteShard(number, Handle(replica)) for number in range(20)]
    with closing(RemoteIndex(str(tmp_path / "index"), shards, allow_partial=False)) as index:
        collection = index.open()
        together = threading.Barrier(len(shards))
        assert sorted(collection._each(lambda part: together.wait(20))) == [*range(20)]
        collection.release()
    replica.__del__()


class Replicas:
    """What Ray Serve would be asked, and how often."""

    def __init__(self, *servers: Server | None) -> None:
        self.asked: list[str] = []
        self._servers = list(servers)

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *asked: Result(self._answer(name, asked)))

    def _answer(self, name: str, asked: tuple[Any, ...]) -> Any:
        self.asked.append(name)
        if name == "address":
            server = self._servers.pop(0) if len(self._servers) > 1 else self._servers[0]
            return server.address if server else None
        return "by Ray", asked


def test_a_shard_is_asked_by_a_connection(server: Server) -> None:
    replicas = Replicas(server)
    shard = RemoteShard(0, replicas)
    version: Any = "version"
    for number in range(5):
        assert shard.answer(version, "look", (number,)) == ("echo", ("version", "look", (number,)))
    assert replicas.asked == ["address"]
    shard.close()


def test_an_error_comes_back_as_it_is() -> None:
    error = IndexNotFoundError("there is none")
    version: Any = "version"
    with closing(Server(HOST, lambda asked: error)) as server:
        shard = RemoteShard(0, Replicas(server))
        for _ in range(2):
            with pytest.raises(IndexNotFoundError, match="there is none"):
                shard.answer(version, "look", ())
        shard.close()


def test_ray_serve_answers_where_there_is_no_connection() -> None:
    version: Any = "version"
    alone = Server(HOST, lambda asked: 1 // 0)
    gone = Server(HOST, echo)
    gone.close()
    for server in (None, alone, gone):
        replicas = Replicas(server)
        shard = RemoteShard(0, replicas)
        for _ in range(3):
            assert shard.answer(version, "look", (1,)) == ("by Ray", ("version", "look", (1,)))
        assert replicas.asked.count("ask") == 3
        shard.close()
    alone.close()


def test_another_replica_is_connected_to_when_one_is_lost(server: Server) -> None:
    version: Any = "version"
    lost = Server(HOST, lambda asked: asked[2] == (0,) or 1 // 0)
    replicas = Replicas(lost, server)
    shard = RemoteShard(0, replicas)
    assert shard.answer(version, "look", (0,)) is True
    assert shard.answer(version, "look", (1,))[0] == "by Ray"
    assert shard.answer(version, "look", (2,))[0] == "echo"
    assert replicas.asked == ["address", "ask", "address"]
    shard.close()
    lost.close()


def test_a_connection_is_not_used_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a replica that is there again would never be asked."""
    version: Any = "version"
    monkeypatch.setattr(remote, "_CONNECTION_SECONDS", 0.2)
    replicas = Replicas(server)
    shard = RemoteShard(0, replicas)
    shard.answer(version, "look", ())
    time.sleep(0.3)
    shard.answer(version, "look", ())
    assert replicas.asked == ["address", "address"]
    shard.close()
