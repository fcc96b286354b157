"""Building and serving on several Ray nodes of this machine, some of which are killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import fsspec
import httpx
import pytest
from conftest import ROOT, Run
from ray_nodes import LOOPBACK, Nodes, nodes, own_network
from sharding import QUERIES, assert_same, write

from semsearch import Encoder, Hit, Indexer, Searcher
from semsearch.errors import ClusterError, StoreError
from semsearch.indexer.sharded import ShardedIndexer
from semsearch.store.database import Database
from semsearch.store.manifest import Head, Segment
from semsearch.store.shards import PLAN, read_shards, shard_path

pytestmark = [pytest.mark.slow, pytest.mark.alone]
pytest.importorskip("ray")

T = TypeVar("T")
PORT, STORE_PORT = 8901, 8902
URL = f"http://{LOOPBACK}:{PORT}"
STORE = {
    "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{STORE_PORT}",
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "a secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
SEMSEARCH, SLOW = ("-m", "semsearch"), (str(ROOT / "tests" / "cluster_command.py"),)
DOCUMENTS, PARTS = 360, 5
# Bytes of memory of a node that has room for one replica of a small shard and no second.
ROOM_FOR_ONE = 500 << 20


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[None]:
    try:
        with own_network():
            yield
    except PermissionError as error:
        pytest.skip(f"no network namespace can be made: {error}")


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short path, and none of the processes that were started with it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield Path(folder)
    deadline = time.monotonic() + 20
    while (left := [*processes_with(folder), *processes_with("ray::")]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


@pytest.fixture
def short() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def quiet() -> Iterator[Nodes]:
    """A head alone that knows the object store, for tests that kill nothing."""
    with short_folder() as folder, pytest.MonkeyPatch.context() as patch:
        for name, value in STORE.items():
            patch.setenv(name, value)
        with nodes(folder, 2) as ray:
            yield ray


def processes_with(text: str) -> list[str]:
    """The command lines of processes that have this in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "source"
    folder.mkdir()
    for number in range(DOCUMENTS):
        write(folder, number, PARTS)
    return folder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture(scope="module")
def one(source: Path, encoder: Encoder) -> Iterator[Searcher]:
    """The same documents in one index."""
    Indexer(source.parent / "one").update(source)
    with Searcher(source.parent / "one", model=encoder) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def indexes(source: Path) -> Path:
    return source.parent / "indexes"


def command(*arguments: object, program: tuple[str, ...] = SEMSEARCH) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )


def wait_for(true: Callable[[], T], seconds: float = 60) -> T:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def a_building_node(ray: Nodes, among: list[str], driver: subprocess.Popen[str]) -> str | None:
    assert driver.poll() is None, driver.communicate()
    return next((node for node in among if any("ray::shard" in name for name in names_of(ray.pids(node)))), None)


def committed(shard: Path) -> tuple[Head, list[Segment]]:
    """What a shard's commit says: the time it was made at, and the names of its files, which no other has."""
    with Database.open_for_reading(shard) as database:
        return database.head(), database.segments()


def finished_shards(index: Path) -> dict[str, tuple[Head, list[Segment]]]:
    """The shards of an index that have a commit, while it is built, and what it says."""
    finished = {}
    for name in [shard.name for shard in read_shards(index, PLAN).shards] if (index / PLAN).exists() else ():
        with suppress(StoreError):  # which is being made just now
            finished[name] = committed(shard_path(index, name))
    return finished


def places(searcher: Searcher) -> Counter[tuple[str, int, int]]:
    """Where all passages stand."""
    hits = searcher.search("river", len(searcher._snapshot) + 10, mode="dense", per_document=None)
    return Counter((hit.path, hit.char_start, hit.char_end) for hit in hits)


def test_a_killed_node_and_a_killed_driver(
    short: Path, source: Path, indexes: Path, one: Searcher, encoder: Encoder, run: Run
) -> None:
    with nodes(short, 1) as ray:
        others = [ray.add(1) for _ in range(3)]
        options = ("--indexes", indexes, "--name", "many", "--cluster", ray.address)

        # The driver is killed when some shards are finished, and some are not.
        driver = command("index", source, *options, "--shards", 8)
        wait_for(lambda: len(finished_shards(indexes / "many")) >= 2)
        driver.kill()
        driver.communicate()
        finished = finished_shards(indexes / "many")
        assert 2 <= len(finished) < 8
        assert not (indexes / "many" / "shards.json").exists()

        # A node is killed while it builds.
        driver = command("index", source, *options, "--shards", 8, "--json")
        killed = wait_for(lambda: a_building_node(ray, others, driver))
        ray.kill(killed)
        others.remove(killed)
        out, err = driver.communicate(timeout=120)
        assert driver.returncode == 0, err
        summary = json.loads(out)
        assert summary["passages"] == len(one._snapshot)
        # What was finished was not built twice.
        there = sum(head.passages for head, _ in finished.values())
        assert there
        assert summary["passages_embedded"] <= summary["passages"] - there
        assert {name: committed(shard_path(indexes / "many", name)) for name in finished} == finished

        with Searcher(indexes / "many", model=encoder) as searcher:
            assert places(searcher) == places(one)
            assert set(places(searcher).values()) == {1}
            for mode in ("hybrid", "dense"):
                options_of_search: dict[str, Any] = {"k": 25, "mode": mode}
                for query in QUERIES:
                    assert_same(searcher.search(query, **options_of_search), one.search(query, **options_of_search))

        # An update touches the shard of the file that has changed; without changes there is nothing to do.
        before = {shard.name: shard.generation for shard in read_shards(indexes / "many").shards}
        (source / "docs" / "1.md").write_text("The lighthouse keeper's log.\n")
        again = run("index", source, *options, "--json")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["passages_embedded"] == 1
        after = {shard.name: shard.generation for shard in read_shards(indexes / "many").shards}
        assert sum(after[name] != generation for name, generation in before.items()) == 1
        write(source, 1, PARTS)
        assert run("index", source, *options).returncode == 0

        # The head is killed; the old index answers on.
        driver = command("index", source, *options, "--rebuild", program=SLOW)
        wait_for(lambda: a_building_node(ray, others, driver))
        ray.kill("head")
        assert_lost_head(driver.communicate(timeout=60)[1], driver.returncode)
        with Searcher(indexes / "many", model=encoder) as searcher:
            assert places(searcher) == places(one)


def assert_lost_head(said: str, code: int) -> None:
    assert code == 3, said
    assert re.search(r"the head of the Ray cluster at \S+ has not answered for 3 s; start it", said)
    assert "Traceback" not in said


def names_of(pids: list[int]) -> list[str]:
    found = []
    for pid in pids:
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode())
        except OSError:
            continue
    return found


def is_replica(pid: int) -> bool:
    """Whether a process has a shard open."""
    return any("ServeReplica:semsearch:two-" in name for name in names_of([pid]))


class Serving:
    """`semsearch serve` on a cluster."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr
        self.said += list(self.process.stderr)

    def wait(self) -> None:
        wait_for(lambda: self.is_serving() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said

    def is_serving(self) -> bool:
        try:
            return httpx.get(f"{URL}/readyz", timeout=30).status_code in (200, 503)
        except httpx.HTTPError:
            return False

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self._assert_ended(0)

    def is_lost(self) -> None:
        self._assert_ended(3)
        assert_lost_head("".join(self.said), 3)

    def _assert_ended(self, code: int) -> None:
        self._reading.join(60)
        assert self.process.wait(60) == code, self.said
        assert self.process.stdout
        self.process.stdout.close()


@contextmanager
def serving(
    ray: Nodes, indexes: object, *options: object, replicas: int, program: tuple[str, ...] = SLOW
) -> Iterator[Serving]:
    given = ("--indexes", indexes, "--cluster", ray.address, "--replicas", replicas, "--port", PORT)
    started = Serving(command("serve", "two", *given, *options, program=program))
    try:
        started.wait()
        yield started
        if started.process.returncode is None:
            started.end()
    finally:
        started.process.kill()
        started.process.communicate()


def ask(query: str, **options: Any) -> httpx.Response:
    """As the README tells clients: what a lost router leaves without an answer is asked for once more."""
    for last in (False, True):
        try:
            answer = httpx.get(f"{URL}/api/search", params={"query": query, **options}, timeout=40)
            if answer.status_code < 500 or answer.status_code == 503 or last:
                return answer
        except httpx.TransportError:
            if last:
                raise
        time.sleep(0.2)
    raise AssertionError


def is_whole(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and "missing_shards" not in answer.json()


def hits_of(answer: httpx.Response) -> list[Hit]:
    assert answer.status_code == 200, answer.text
    return [Hit(**{**hit, "matches": tuple(map(tuple, hit["matches"]))}) for hit in answer.json()["hits"]]


@pytest.fixture(scope="module")
def two(source: Path, indexes: Path, one: Searcher) -> Path:
    """An index in two shards."""
    ShardedIndexer(indexes / "two", shards=2).update(source)
    return indexes / "two"


def test_a_killed_replica_and_killed_nodes(short: Path, two: Path, one: Searcher) -> None:
    expected = {query: one.search(query, 10) for query in QUERIES}
    wrong: list[object] = []
    answered = Counter[int]()
    stop = threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            for query in QUERIES[number % 3 :: 2]:
                try:
                    assert_same(hits_of(ask(query, k=10)), expected[query])
                    answered[number] += 1
                except BaseException as error:
                    wrong.append(error)

    with nodes(short, 2, memory=ROOM_FOR_ONE) as ray:
        others = [ray.add(2) for _ in range(2)]
        with serving(ray, two.parent, replicas=2):
            clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
            for one_client in clients:
                one_client.start()
            try:
                wait_for(lambda: all(answered[number] > 5 for number in range(4)))
                replicas = {node: [pid for pid in ray.pids(node) if is_replica(pid)] for node in others}
                least, most = sorted(others, key=lambda node: len(replicas[node]))
                assert replicas[least]
                os.kill(replicas[least][0], signal.SIGKILL)
                before = answered.total()
                wait_for(lambda: answered.total() > before + 40)
                ray.kill(most)
                before = answered.total()
                wait_for(lambda: answered.total() > before + 60)
            finally:
                stop.set()
                for one_client in clients:
                    one_client.join()
            assert not wrong, wrong[:3]

            # What is left has room for one of the shards.
            ray.kill(least)
            refused = wait_for(lambda: answer if (answer := ask("river flood")).status_code == 503 else None)
            assert "no machine answers for the shard" in refused.json()["error"]["message"]
            assert refused.headers["retry-after"]
            ray.add(2)
            wait_for(lambda: ask("river flood").status_code == 200)
            assert_same(hits_of(ask("river flood", k=10)), expected["river flood"])


def test_a_shard_that_is_nowhere(short: Path, source: Path, two: Path, one: Searcher) -> None:
    expected = one.search("river flood", 10)
    with nodes(short, 2, memory=ROOM_FOR_ONE) as ray:
        node = ray.add(2, memory=ROOM_FOR_ONE)
        with serving(ray, two.parent, "--allow-partial", replicas=1) as served:
            wait_for(lambda: is_whole(ask("river flood")))
            assert_same(hits_of(ask("river flood", k=10)), expected)

            # All shards are made anew under other names, and the old ones removed.
            with ThreadPoolExecutor(1) as rebuilding:
                built = rebuilding.submit(ShardedIndexer(two).update, source, rebuild=True)
                while not built.done():
                    assert_same(hits_of(ask("river flood", k=10)), expected)
            for _ in range(15):
                assert_same(hits_of(ask("river flood", k=10)), expected)
                time.sleep(0.1)
            assert built.result().passages_embedded == len(one._snapshot)

            ray.kill(node)
            wait_for(lambda: "missing_shards" in ask("river flood").json())
            partial = ask("river flood", k=50)
            (missing,) = partial.json()["missing_shards"]
            first = read_shards(two).shards[1].first
            assert all((hit.path < first) == (missing == 1) for hit in hits_of(partial))
            assert hits_of(partial)
            ray.add(2, memory=ROOM_FOR_ONE)
            wait_for(lambda: is_whole(ask("river flood")))
            assert_same(hits_of(ask("river flood", k=10)), expected)

            ray.kill("head")
            served.is_lost()


@contextmanager
def object_store() -> Iterator[Any]:
    """A store of our own that speaks S3, empty but for a bucket."""
    options = ["-m", "moto.server", "-H", LOOPBACK, "-p", str(STORE_PORT)]
    process = subprocess.Popen([sys.executable, *options], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_open(STORE_PORT))
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.mkdir("bucket")
        yield store
    finally:
        process.kill()
        process.wait()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


# `semsearch` where Ray refuses to cancel a task.
_CANNOT_CANCEL = """
import sys
import semsearch.cluster.connection, semsearch.cli, ray

def cancel(*_, **__):
    print("cancel was called", file=sys.__stdout__)
    raise TypeError("it cannot be cancelled")

ray.cancel = cancel
semsearch.cli.main()
"""


def test_a_node_without_semsearch(short: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "semsearch").mkdir()
    (tmp_path / "semsearch" / "__init__.py").write_text("raise ImportError('there is none')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with nodes(short, 2) as ray:
        monkeypatch.undo()
        asked = ("index", str(source), "--indexes", str(tmp_path), "--workers", "2", "--cluster", ray.address)
        told = [
            subprocess.run([sys.executable, *program, *asked], cwd=source, capture_output=True, text=True, timeout=60)
            for program in (("-m", "semsearch"), ("-c", _CANNOT_CANCEL))
        ]
    for failed in told:
        assert failed.returncode == 3, failed.stderr
        assert "ImportError('there is none'); has every node the same semsearch?" in failed.stderr
        assert "Traceback" not in failed.stderr
    assert "cancel was called" in told[1].stdout


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What listens in place of a head to which Ray would connect."""
    import ray

    with socket.create_server((LOOPBACK, 0)) as listening:
        known = SimpleNamespace(gcs_address=f"{LOOPBACK}:{listening.getsockname()[1]}")
        for name, value in (("init", None), ("shutdown", None), ("get_runtime_context", known)):
            monkeypatch.setattr(ray, name, lambda *_, value=value, **__: value)
        yield listening


@pytest.mark.usefixtures("head")
def test_what_ray_itself_fails_of_is_told_in_a_line() -> None:
    import ray

    from semsearch.cluster.connection import OWN, connected

    with (
        pytest.raises(ClusterError, match=r"^the Ray cluster at 'auto' failed: System error: no leader is known$"),
        connected(OWN),
    ):
        raise ray.exceptions.RaySystemError("no leader\nis known")


def test_a_head_that_is_gone_for_a_while_is_not_given_up(head: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    from semsearch.cluster import connection

    monkeypatch.setattr(connection, "_LOOK_SECONDS", 0.0)
    address = head.getsockname()
    with connection.connected(connection.OWN) as connected:
        connected.see()
        head.close()
        connected.see()
        monkeypatch.setattr(connection, "_GONE_SECONDS", 0.2)
        seen = time.monotonic()
        with socket.create_server(address):
            connected.see()
        with pytest.raises(ClusterError, match=rf"the head of the Ray cluster at {LOOPBACK}:{address[1]} has not"):
            wait_for(connected.see)
        assert connected.is_lost
        assert time.monotonic() > seen + 0.2


def test_a_cluster_that_only_loopback_reaches(quiet: Nodes) -> None:
    joining = (
        "import sys\n"
        "from ray._private import services\n"
        # As on a machine in a network; only the first loopback address has the cluster.
        "services.node_ip_address_from_perspective = lambda address=None: '127.0.0.2'\n"
        "from semsearch.cluster.connection import connected, ray\n"
        "with connected(sys.argv[1]):\n"
        "    nodes = len(ray.nodes())\n"
        "print(nodes)\n"
    )
    command = [sys.executable, "-c", joining, quiet.address]
    joined = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert joined.returncode == 0, joined.stderr
    assert joined.stdout.split() == ["1"]


def test_what_cannot_be_is_said(quiet: Nodes, source: Path, tmp_path: Path, two: Path, run: Run) -> None:
    indexes = ("--indexes", tmp_path)
    for address, told in (
        ("nowhere", "HOST:PORT"),
        (f"{LOOPBACK}:1", "no Ray cluster answers"),
    ):
        for asked in (("index", source, *indexes), ("serve", "two", "--indexes", two.parent)):
            failed = run(*asked, "--cluster", address)
            assert failed.returncode == 3, failed
            assert told in failed.stderr
            assert "Traceback" not in failed.stderr
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^semsearch (.*) --cluster 10\.0\.0\.1:6379$", readme, re.MULTILINE)
    assert len(commands) == 2
    for given in commands:  # they are understood, to where the cluster is looked for
        (tmp_path / "docs").mkdir(exist_ok=True)
        paths = given.replace("/shared/indexes", str(two.parent)).replace("/shared", str(tmp_path))
        options = shlex.split(paths.replace("serve docs", "serve two"))
        failed = run(*options, "--cluster", f"{LOOPBACK}:1", SEMSEARCH_API_KEY="KEY")
        assert "no Ray cluster answers" in failed.stderr
    assert run("serve", "two", "--indexes", two.parent, "--replicas", "2").returncode == 2
    assert run("serve", "two", "--indexes", two.parent, "--cluster", "auto", "--processes", "2").returncode == 2
    failed = run("serve", "two", "--indexes", two.parent, "--cluster", quiet.address)
    assert failed.returncode == 2
    assert "2 replicas need as many nodes" in failed.stderr
    Indexer(tmp_path / "plain").update(source / "notes")
    failed = run("serve", "plain", *indexes, "--cluster", quiet.address, "--replicas", "1")
    assert failed.returncode == 2
    assert "is not in shards" in failed.stderr
    failed = run("index", source, *indexes, "--name", "other", "--model", "no/such", "--cluster", quiet.address)
    assert failed.returncode == 3
    assert "no/such" in failed.stderr


def test_an_object_store(quiet: Nodes, source: Path, one: Searcher, run: Run) -> None:
    with object_store() as store:
        for path in source.rglob("*.*"):
            store.pipe_file(f"bucket/texts/{path.relative_to(source).as_posix()}", path.read_bytes())
        store.pipe_file("bucket/texts/.semsearchignore", b"secret.md\n")
        store.pipe_file("bucket/texts/docs/secret.md", b"The river is at the secret mill.")
        store.pipe_file("bucket/texts/docs/a//b.md", b"No file can have this name.")
        indexes = "s3://bucket/indexes"
        command_line = ("index", "s3://bucket/texts", "--indexes", indexes, "--name", "two", "--shards", "2")
        command_line += ("--cluster", quiet.address, "--json")
        made = run(*command_line)
        assert made.returncode == 0, made.stderr
        first = json.loads(made.stdout)
        assert first["documents"] == DOCUMENTS
        assert first["passages"] == len(one._snapshot)
        assert first["path"] == f"{indexes}/two"
        reasons = {skipped["path"]: skipped["reason"] for skipped in first["skipped"]}
        assert reasons["docs/secret.md"] == "ignored by .semsearchignore"
        assert reasons["docs/a//b.md"] == "not the name of a file"
        time.sleep(2.1)  # what was written in the tick of the clock in which it was read is read again
        before = json.loads(run(*command_line).stdout)
        assert before["passages_embedded"] == 0
        with serving(quiet, indexes, replicas=1, program=SEMSEARCH) as started:
            wait_for(lambda: ask("river flood").status_code == 200)
            for query in QUERIES:
                assert_same(hits_of(ask(query, k=10)), one.search(query, 10))
            store.pipe_file("bucket/texts/docs/new.md", b"The lighthouse keeper's log.")
            changed = json.loads(run(*command_line).stdout)
            assert changed["passages_embedded"] == 1
            assert changed["generation"] == before["generation"] + 1
            wait_for(lambda: [hit.path for hit in hits_of(ask("lighthouse", k=1))] == ["docs/new.md"])
        said = [line for line in started.said if "network_util" not in line]  # it finds no network but loopback
        assert said == [f"serving two at {URL} of each node; Ctrl-C ends it\n"]
        # Of the shard that changed what was there before goes with the next commit.
        store.rm("bucket/texts/docs/new.md")
        assert json.loads(run(*command_line).stdout)["files_removed"] == 1
        store.invalidate_cache()
        assert len(store.ls("bucket/indexes/two/shards")) == 3
        failed = run("index", "s3://bucket/nothing", *command_line[2:])
        assert failed.returncode == 3
        assert "no object in 's3://bucket/nothing'" in failed.stderr
        assert "needs --cluster" in run("index", "s3://bucket/texts").stderr
        assert "is a URL" in run("query", "river", "--indexes", indexes).stderr
