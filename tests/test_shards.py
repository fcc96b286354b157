"""An index in shards against the same documents in one index."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import small_checkpoint
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import serving
from sharding import QUERIES, assert_same, write

from semsearch import Encoder, Indexer, Searcher
from semsearch.errors import (
    DamagedIndexError,
    IndexConflictError,
    IndexFormatError,
    ModelMismatchError,
    ModelNotFoundError,
    NothingToIndexError,
    StorageError,
)
from semsearch.indexer.report import Progress
from semsearch.indexer.sharded import ShardedIndexer, firsts
from semsearch.query.collection import Search
from semsearch.query.sharded import ShardedSnapshot
from semsearch.query.similar import similar
from semsearch.query.snapshot import Snapshot
from semsearch.store.shards import PLAN, SHARDS, read_shards, shard_path


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "source"
    folder.mkdir()
    for number in range(120):
        write(folder, number)
    return folder


@pytest.fixture(scope="module")
def one(source: Path, encoder: Encoder) -> Iterator[Searcher]:
    Indexer(source.parent / "one", precision="float32").update(source)
    with Searcher(source.parent / "one", model=encoder) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def index(source: Path) -> Path:
    ShardedIndexer(source.parent / "many", shards=5, precision="float32").update(source)
    return source.parent / "many"


@pytest.fixture(scope="module")
def many(index: Path, encoder: Encoder) -> Iterator[Searcher]:
    with Searcher(index, model=encoder) as searcher:
        yield searcher


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize("per_document", [None, 1, 2])
@pytest.mark.parametrize("condition", [None, "path:docs/", "type:txt and not path:notes/3*"])
def test_answers_are_those_of_one_index(
    one: Searcher, many: Searcher, mode: str, per_document: int | None, condition: str | None
) -> None:
    options = {"k": 25, "mode": mode, "per_document": per_document, "filter": condition}
    for found, expected in zip(
        many.search_batch(QUERIES, **options), one.search_batch(QUERIES, **options), strict=True
    ):  # type: ignore[arg-type]
        assert_same(found, expected)
    assert_same(many.search(QUERIES[0], **options), one.search(QUERIES[0], **options))  # type: ignore[arg-type]


def test_reading_on_and_more_like_this(one: Searcher, many: Searcher, index: Path) -> None:
    for hit in one.search("river flood", 8):
        target = f"{hit.path}:{hit.line_start}"
        own = many.search("river flood", 30)
        (same,) = [other for other in own if (other.path, other.line_start) == (hit.path, hit.line_start)]
        for wanted, other in ((str(same.id), str(hit.id)), (target, target), (hit.path, hit.path)):
            assert_same(many.similar(wanted, 5), one.similar(other, 5))
            found, expected = many.excerpt(wanted, 1), one.excerpt(other, 1)
            without = {"id": 0, "previous": None, "next": None}
            assert dataclasses.replace(found, **without) == dataclasses.replace(expected, **without)
            for number, there in ((found.previous, expected.previous), (found.next, expected.next)):
                assert (number is None) == (there is None)
                if number and there:
                    assert many.excerpt(number, 0).text == one.excerpt(there, 0).text
        assert_same(similar(index, target, 5), one.similar(target, 5))


@pytest.mark.parametrize("question", ["look", "find", "candidates", "document_vectors", "passages", "there", "sample"])
def test_all_shards_are_asked_at_once(
    question: str, many: Searcher, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = many._snapshot
    assert isinstance(collection, ShardedSnapshot)
    everything = many.search("river", 1000, mode="dense", per_document=None)
    ids = np.array([hit.id for hit in everything])
    documents = collection.candidates(ids).documents
    asked: dict[str, tuple[Any, ...]] = {
        "look": (["river"], None),
        "find": ([Search("river", None, 5, 0, None, False, 1.0, collection.look(["river"], None)[0].frequencies)],),
        "candidates": (ids,),
        "document_vectors": (documents.tolist(),),
        "passages": (ids.tolist(),),
        "there": (ids,),
        "sample": (np.arange(len(collection)),),
    }
    # None answers before the others are asked.
    all_asked = threading.Barrier(len(read_shards(index).shards), timeout=20)
    answer = getattr(Snapshot, question)

    def answers_when_all_are_asked(*given: Any) -> Any:
        all_asked.wait()
        return answer(*given)

    monkeypatch.setattr(Snapshot, question, answers_when_all_are_asked)
    getattr(collection, question)(*asked[question])
    assert not all_asked.broken


def test_facets_and_the_map(one: Searcher, many: Searcher, source: Path) -> None:
    narrowed: list[dict[str, Any]] = [{}, {"filter": "type:md"}, {"folder": "docs/"}, {"type": "txt"}]
    for options in narrowed:
        assert many.facets(**options) == one.facets(**options)
    found, expected = many.map(), one.map()
    assert found.passages == expected.passages
    assert found.folders == expected.folders
    assert found.folder_of.tolist() == expected.folder_of.tolist()
    for own, other in zip(found.ids.tolist(), expected.ids.tolist(), strict=True):
        assert many.excerpt(own, 0).text == one.excerpt(other, 0).text
    hit = many.search("rope", 1)[0]
    assert many.places([hit.id, 7 << 60]).keys() == {hit.id}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.integers(1, 70))
def test_files_are_divided_by_size(sizes: list[int], count: int) -> None:
    names = [f"{number:03}" for number in range(len(sizes))]
    starts = firsts(names, sizes, count)
    assert len(starts) == min(count, len(names))
    assert starts[0] == ""
    assert starts == sorted(set(starts))
    of_shards = [0] * len(starts)
    for name, size in zip(names, sizes, strict=True):
        of_shards[max(at for at, first in enumerate(starts) if first <= name)] += size + 1
    assert min(of_shards) > 0
    if count <= len(names) // 2 and max(sizes) < 2 * min(sizes):
        assert max(of_shards) <= (sum(sizes) + len(sizes)) / count + max(sizes) + 1


def generations(index: Path) -> list[int]:
    return [shard.generation for shard in read_shards(index).shards]


def test_an_update_touches_the_shards_of_what_changed(tmp_path: Path, source: Path, encoder: Encoder) -> None:
    folder = tmp_path / "source"
    shutil.copytree(source, folder)
    indexer = ShardedIndexer(tmp_path / "many", shards=4, precision="float32")
    first = indexer.update(folder)
    before = generations(indexer.path)
    again = indexer.update(folder)
    assert (again.generation, again.passages_embedded, again.files_unchanged) == (first.generation, 0, 120)
    assert generations(indexer.path) == before
    with Searcher(indexer.path, model=encoder) as searcher:
        (folder / "notes" / "0.txt").write_text("An anchor of iron.")
        (folder / "notes" / "3.md").unlink()
        (folder / "notes" / "zz.md").write_text("A sail of linen.")
        changed = indexer.update(folder)
        assert (changed.files_added, changed.files_changed, changed.files_removed) == (1, 1, 1)
        after, shards = generations(indexer.path), read_shards(indexer.path)
        touched = {shards.shard_of(name) for name in ("notes/0.txt", "notes/3.md", "notes/zz.md")}
        assert {at for at in range(4) if after[at] > before[at]} == touched
        assert len(touched) < 4
        for text, path in (("anchor", "notes/0.txt"), ("sail of linen", "notes/zz.md")):
            assert searcher.search(text, 1)[0].path == path
        Indexer(tmp_path / "one", precision="float32").update(folder)
        with Searcher(tmp_path / "one", model=encoder) as other:
            for query in QUERIES:  # BM25 remembers for a while what is gone
                assert_same(searcher.search(query, 20, mode="dense"), other.search(query, 20, mode="dense"))
    for path in (folder / "notes").iterdir():
        path.unlink()
    emptied = indexer.update(folder)
    assert emptied.files_removed == 40
    assert 0 in generations(indexer.path)
    assert len(list((indexer.path / "shards").iterdir())) == 4 - generations(indexer.path).count(0)
    with Searcher(indexer.path, model=encoder) as searcher:
        assert {hit.path.split("/")[0] for hit in searcher.search("anchor", 100)} == {"docs"}
    rebuilt = indexer.update(folder, rebuild=True)
    assert rebuilt.passages_embedded == rebuilt.passages == emptied.passages
    assert 0 not in generations(indexer.path)
    assert len(list((indexer.path / "shards").iterdir())) == 4


def test_where_nothing_can_be_read_the_index_stays(tmp_path: Path, source: Path, encoder: Encoder) -> None:
    folder = tmp_path / "source"
    shutil.copytree(source / "notes", folder)
    indexer = ShardedIndexer(tmp_path / "many", shards=3)
    before = indexer.update(folder)
    for path in folder.iterdir():
        path.write_text(" ")
    with pytest.raises(NothingToIndexError, match="skipped 0.txt"):
        indexer.update(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(NothingToIndexError):
        indexer.update(folder)
    with Searcher(indexer.path, model=encoder) as searcher:
        assert len(searcher.search("river", 1000, per_document=None)) > 0
        assert len(searcher._snapshot) == before.passages


@pytest.mark.parametrize("stop_at", [65, 20])
def test_what_was_stopped_goes_on(tmp_path: Path, source: Path, stop_at: int) -> None:
    class Stopped(Exception):
        pass

    indexer = ShardedIndexer(tmp_path / "many", shards=4, precision="float32")
    said: list[Progress] = []

    def stop(done: Progress) -> None:
        said.append(done)
        if done.files > stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        indexer.update(source, progress=stop)
    assert not (indexer.path / SHARDS).exists()
    names = [shard.name for shard in read_shards(indexer.path, PLAN).shards]
    assert said[-1].files_total == 120
    done = names[: 2 * (stop_at == 65)]  # of four shards; or it is the first one that was not finished
    finished = {name: (shard_path(indexer.path, name) / "index.db").stat().st_mtime_ns for name in done}
    # It goes on as it was begun, if anything was.
    summary = ShardedIndexer(indexer.path, precision=None if done else "float32").update(source)
    assert [shard.name for shard in read_shards(indexer.path).shards] == names
    for name, time in finished.items():
        assert (shard_path(indexer.path, name) / "index.db").stat().st_mtime_ns == time
    assert summary.precision == "float32"
    if done:
        assert 0 < summary.passages_embedded < 0.6 * summary.passages
        assert summary.files_unchanged >= 50
    assert summary.documents == 120
    assert not (indexer.path / PLAN).exists()


def builders() -> list[int]:
    """The processes that build."""
    children = [int(n) for n in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return [n for n in children if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]


def test_what_processes_fail_with_is_said(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFoundError, match="no/such"):
        ShardedIndexer(tmp_path / "many", shards=2, workers=2, model="no/such").update(source)
    monkeypatch.setattr("semsearch.indexer.workers._TRIES", 1)

    def kill(_: Progress) -> None:
        for number in builders():
            os.kill(number, signal.SIGKILL)

    with pytest.raises(StorageError, match="is there memory left"):
        ShardedIndexer(tmp_path / "many", shards=2, workers=2).update(source, progress=kill)
    assert not builders()


def test_processes_build_the_same_and_one_that_ends_is_not_missed(
    tmp_path: Path, source: Path, one: Searcher, encoder: Encoder
) -> None:
    killed: list[int] = []

    def kill_one(_: Progress) -> None:
        if not killed:
            killed.append(builders()[0])
            os.kill(killed[0], signal.SIGKILL)

    indexer = ShardedIndexer(tmp_path / "many", shards=6, workers=2, precision="float32")
    summary = indexer.update(source, progress=kill_one)
    assert killed
    assert summary.passages == len(one._snapshot)
    with Searcher(indexer.path, model=encoder) as searcher:
        for query in QUERIES:
            assert_same(searcher.search(query, 20), one.search(query, 20))


def test_what_cannot_be_is_said(tmp_path: Path, source: Path, encoder: Encoder) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NothingToIndexError):
        ShardedIndexer(tmp_path / "none").update(empty)
    indexer = ShardedIndexer(tmp_path / "many", shards=2)
    indexer.update(source / "notes")
    with pytest.raises(IndexConflictError, match="has 2 shards, not 3"):
        ShardedIndexer(indexer.path, shards=3).update(source / "notes")
    with pytest.raises(IndexConflictError, match="was made of"):
        indexer.update(source)
    with pytest.raises(IndexConflictError, match="is in shards"):
        Indexer(indexer.path).update(source / "notes")
    other = small_checkpoint(tmp_path / "model", "bert", positions=144)
    with pytest.raises(ModelMismatchError, match="leave --model out"):
        ShardedIndexer(indexer.path, model=str(other)).update(source / "notes")
    Indexer(tmp_path / "one").update(source / "notes")
    with pytest.raises(IndexConflictError, match="not in shards"):
        ShardedIndexer(tmp_path / "one").update(source / "notes")
    manifest = indexer.path / SHARDS
    sound = manifest.read_bytes()
    for at in range(0, len(sound), 7):
        manifest.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises((DamagedIndexError, IndexFormatError)):
            read_shards(indexer.path)
    content = json.loads(sound.partition(b"\n")[0])
    manifest.write_bytes(sound)
    shard = content["shards"][0]["name"]
    os.rename(shard_path(indexer.path, shard), tmp_path / "away")
    with pytest.raises(DamagedIndexError, match="is missing"):
        Searcher(indexer.path, model=encoder)


def test_from_the_command_line(run: Run, source: Path, tmp_path: Path) -> None:
    indexes = ("--indexes", str(tmp_path))
    made = run("index", source, "--name", "many", "--shards", "3", "--workers", "2", "--json", *indexes)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["files_added"] == 120
    again = run("index", source, "--name", "many", "--json", *indexes)
    assert json.loads(again.stdout)["passages_embedded"] == 0
    info = run("info", "many", "--json", *indexes)
    assert json.loads(info.stdout)["shards"] == 3
    assert json.loads(info.stdout)["documents"] == 120
    assert "many" in run("list", *indexes).stdout
    hits = json.loads(run("query", "river flood", "-i", "many", "--json", *indexes).stdout)["hits"]
    for shown in (str(hits[0]["id"]), f"{hits[0]['path']}:{hits[0]['line_start']}"):
        excerpt = run("show", shown, "-i", "many", "--json", *indexes)
        assert json.loads(excerpt.stdout)["text"] == hits[0]["text"], excerpt.stderr
    assert run("similar", hits[0]["path"], "-i", "many", *indexes).returncode == 0
    assert run("compact", "many", *indexes).returncode == 0
    assert json.loads(run("query", "river flood", "-i", "many", "--json", *indexes).stdout)["hits"][0]["text"]
    assert run("verify", "many", *indexes).returncode == 0
    assert run("verify", "many", "--deep", *indexes).returncode == 0
    refused = run("export", "many", tmp_path / "many.tar", *indexes)
    assert (refused.returncode, "is in shards" in refused.stderr) == (2, True), refused.stderr
    plan = run("index", source, "--name", "many", "--dry-run", "--json", *indexes)
    assert json.loads(plan.stdout)["files"] == 0, plan.stdout
    with serving(tmp_path) as server:
        found = server.get("/api/search", query="river flood", k=5).json()["hits"]
        assert [hit["path"] for hit in found] == [hit["path"] for hit in hits[:5]]
        assert server.get("/api/facets").json()["facets"]["documents"] == 120
        assert server.get("/api/indexes").json()["indexes"][0]["documents"] == 120
    for damaged in sorted((tmp_path / "many" / "shards").glob("*/rest/*/*.store"))[:1]:
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
        wrong = run("verify", "many", *indexes)
        assert (wrong.returncode, damaged.name in wrong.stderr) == (3, True), wrong.stderr
    assert run("delete", "many", "--yes", *indexes).returncode == 0
    assert not (tmp_path / "many").exists()
