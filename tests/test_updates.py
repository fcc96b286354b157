"""Updates in place, against an index made from nothing of the same files."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import small_checkpoint
from conftest import CORPUS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semsearch import Document, Encoder, Indexer, IndexSummary, Searcher
from semsearch.corpus.walk import Skipped, SourceFile
from semsearch.errors import (
    DamagedIndexError,
    IndexConflictError,
    IndexLockedError,
    IndexNotFoundError,
    InvalidInputError,
    ModelMismatchError,
    NothingToIndexError,
)
from semsearch.indexer import update as update_module
from semsearch.indexer.sources import Item, Read, Reading
from semsearch.store import compaction
from semsearch.store.files import FileRecord
from semsearch.store.manifest import Segment
from semsearch.store.verify import verify
from semsearch.store.writer import open_writer

Hits = dict[tuple[str, int, str], float]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"), "bert")


@pytest.fixture(scope="session")
def encoder(model: Path) -> Encoder:
    return Encoder(str(model))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve files in two folders."""
    for folder in ("home", "garden"):
        for path in sorted((CORPUS / folder).iterdir())[:6]:
            target = tmp_path / "notes" / folder / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            age(target)
    return tmp_path / "notes"


def age(path: Path) -> None:
    """Let a file be some time old, so that its time can be trusted."""
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))


def all_hits(index: Path, encoder: Encoder, query: str = "water", mode: str = "dense") -> Hits:
    """Every passage with its score."""
    with Searcher(index, model=encoder) as searcher:
        hits = searcher.search(query, k=10_000, mode=mode, per_document=None)
    found = {(hit.path, hit.char_start, hit.text): hit.score for hit in hits}
    assert len(found) == len(hits)
    return found


def same(some: Hits, others: Hits) -> None:
    assert some.keys() == others.keys()
    np.testing.assert_allclose([some[key] for key in some], [others[key] for key in some], atol=1e-5)


def as_made_anew(index: Path, source: Path, encoder: Encoder) -> None:
    """The index is sound, and what it would be if it had been made of these files just now."""
    assert list(verify(index)) == []
    fresh = index.with_name("fresh")
    Indexer(fresh, model=encoder).update(source)
    same(all_hits(index, encoder), all_hits(fresh, encoder))
    # By words it is so once nothing is left of what is gone, whose words still count until then.
    compacted = Path(shutil.copytree(index, index.with_name("compacted")))
    Indexer(compacted, model=encoder).compact()
    for mode in ("lexical", "hybrid"):
        same(all_hits(compacted, encoder, mode=mode), all_hits(fresh, encoder, mode=mode))
    shutil.rmtree(compacted)
    shutil.rmtree(fresh)


def counts(summary: IndexSummary) -> tuple[int, int, int, int]:
    return summary.files_added, summary.files_changed, summary.files_removed, summary.files_unchanged


def test_nothing_changed_is_nothing_done(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    indexer = Indexer(tmp_path / "index", model=encoder)
    first = indexer.update(source)
    assert counts(first) == (12, 0, 0, 0)
    assert (first.passages_embedded, first.generation) == (first.passages, 1)
    before = {path: path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file()}
    again = indexer.update(source)
    assert counts(again) == (0, 0, 0, 12)
    assert (again.passages_embedded, again.generation, again.passages) == (0, 1, first.passages)
    assert before == {path: path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file()}


def test_an_unchanged_file_costs_a_stat(
    source: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexer = Indexer(tmp_path / "index", model=encoder)
    indexer.update(source)

    def opened(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("semsearch.indexer.sources.digest_of", opened)
    monkeypatch.setattr("semsearch.indexer.worker.read", opened)
    assert counts(indexer.update(source)) == (0, 0, 0, 12)


def test_an_edit_embeds_what_it_changed(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    long = source / "long.md"
    paragraphs = [f"## Part {i}\n\n" + f"The {i}th gardener waters {i} beds of roses. " for i in range(40)]
    long.write_text("\n\n".join(paragraphs))
    indexer = Indexer(tmp_path / "index", model=encoder)
    first = indexer.update(source)
    paragraphs[20] = paragraphs[20].replace("roses", "tulips")
    long.write_text("\n\n".join(paragraphs))
    summary = indexer.update(source)
    assert counts(summary) == (0, 1, 0, 12)
    assert 1 <= summary.passages_embedded <= 2
    assert summary.passages == first.passages
    as_made_anew(tmp_path / "index", source, encoder)
    before = {text for *_, text in all_hits(tmp_path / "index", encoder)}
    long.write_text("\n\n".join([f"Line {i} on top." for i in range(10)] + paragraphs))
    moved_down = indexer.update(source)
    fresh = {text for *_, text in all_hits(tmp_path / "index", encoder)} - before
    assert moved_down.passages_embedded == len(fresh) < 20
    as_made_anew(tmp_path / "index", source, encoder)
    long.write_text(paragraphs[3])
    assert indexer.update(source).passages_embedded <= 1
    as_made_anew(tmp_path / "index", source, encoder)


def test_moving_embeds_nothing(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    indexer = Indexer(tmp_path / "index", model=encoder)
    indexer.update(source)
    segments = sorted((tmp_path / "index" / "segments").iterdir())
    (source / "home").rename(source / "house")
    summary = indexer.update(source)
    assert counts(summary) == (6, 0, 6, 6)
    assert summary.passages_embedded == 0
    assert sorted((tmp_path / "index" / "segments").iterdir()) == segments, "vectors are not even copied"
    as_made_anew(tmp_path / "index", source, encoder)


def test_a_new_time_alone_is_no_change(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    indexer = Indexer(tmp_path / "index", model=encoder)
    indexer.update(source)
    for path in source.rglob("*.*"):
        path.touch()
    summary = indexer.update(source)
    assert counts(summary) == (0, 0, 0, 12)
    assert summary.passages_embedded == 0


def test_a_change_that_size_and_time_do_not_show(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    note = source / "note.txt"
    note.write_text("about apples")
    now = time.time_ns()
    os.utime(note, ns=(now, now))
    indexer = Indexer(tmp_path / "index", model=encoder)
    indexer.update(source)
    note.write_text("about orange")
    os.utime(note, ns=(now, now))
    assert counts(indexer.update(source)) == (0, 1, 0, 12)
    as_made_anew(tmp_path / "index", source, encoder)


def test_deleted_files_are_never_hit_and_leave_the_disk(tmp_path: Path, encoder: Encoder) -> None:
    source = tmp_path / "notes"
    source.mkdir()
    for number in range(200):
        text = "\n\n".join(
            f"The {number}th walk, part {part}, led past the lake and the mill. " * 6 for part in range(4)
        )
        (source / f"{number}.txt").write_text(text)
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    indexer.update(source)
    before = sum(path.stat().st_size for path in index.rglob("*"))
    for number in range(0, 200, 2):
        (source / f"{number}.txt").unlink()
    assert counts(indexer.update(source)) == (0, 0, 100, 100)
    assert {int(path.split(".")[0]) % 2 for path, *_ in all_hits(index, encoder)} == {1}
    assert sum(path.stat().st_size for path in index.rglob("*")) <= 0.6 * before
    as_made_anew(index, source, encoder)


def test_a_few_deleted_rows_are_passed_over(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    indexer.update(source)
    gone = next(iter(sorted((source / "home").iterdir())))
    gone.unlink()
    indexer.update(source)
    database = sqlite3.connect(index / "index.db")
    assert [row[0] is None for row in database.execute("SELECT dead FROM segments")] == [False]
    database.close()
    assert not any(path == f"home/{gone.name}" for path, *_ in all_hits(index, encoder))
    as_made_anew(index, source, encoder)
    indexer.compact()
    database = sqlite3.connect(index / "index.db")
    assert database.execute("SELECT dead FROM segments").fetchall() == [(None,)]
    database.close()
    as_made_anew(index, source, encoder)


NAMES = st.sampled_from(["a.txt", "b.md", "sub/a.txt", "sub/deep/c.txt"])
TEXTS = st.lists(st.sampled_from(["apples and pears", "# Walks", "the sea at night", "tax forms " * 30]), max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, TEXTS),
        st.tuples(st.just("delete"), NAMES, st.just([])),
        st.tuples(st.just("move"), NAMES, st.lists(NAMES, min_size=1, max_size=1)),
        st.tuples(st.sampled_from(["update", "compact", "rebuild"]), st.just(""), st.just([])),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_history_ends_as_made_anew(
    steps: list[tuple[str, str, list[str]]], tmp_path_factory: pytest.TempPathFactory, encoder: Encoder
) -> None:
    folder = tmp_path_factory.mktemp("history")
    source, index = folder / "notes", folder / "index"
    source.mkdir()
    (source / "always.txt").write_text("this one stays")
    indexer = Indexer(index, model=encoder)
    indexer.update(source)
    for kind, name, rest in [*steps, ("update", "", [])]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "write":
            path.write_text("\n\n".join(rest))
        elif kind == "delete":
            path.unlink(missing_ok=True)
        elif kind == "move" and path.exists():
            (source / rest[0]).parent.mkdir(parents=True, exist_ok=True)
            path.rename(source / rest[0])
        elif kind in ("update", "rebuild"):
            indexer.update(source, rebuild=kind == "rebuild")
        elif kind == "compact":
            indexer.compact()
    as_made_anew(index, source, encoder)
    shutil.rmtree(folder)


def test_a_rebuild_embeds_all_and_may_change_the_model(
    source: Path, tmp_path: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    index = tmp_path / "index"
    first = Indexer(index, model=encoder).update(source)
    other = Encoder(str(small_checkpoint(tmp_path_factory.mktemp("other"), "roberta")))
    with pytest.raises(ModelMismatchError, match="--rebuild"):
        Indexer(index, model=other).update(source)
    with Searcher(index, model=encoder) as old:
        summary = Indexer(index, model=other).update(source, rebuild=True)
        assert summary.passages_embedded == summary.passages
        assert counts(summary) == (0, 12, 0, 0)
        with pytest.raises(ModelMismatchError, match="with another weights"):
            old.search("water")  # which was given the model
    as_made_anew(index, source, other)
    database = sqlite3.connect(index / "index.db")
    assert database.execute("SELECT min(id) FROM passages").fetchone()[0] > first.passages, "no id is used twice"
    database.close()


def test_a_rebuild_takes_the_place_of_a_damaged_index_and_of_another_source(
    source: Path, tmp_path: Path, encoder: Encoder
) -> None:
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    indexer.update(source)
    with pytest.raises(IndexConflictError, match="--rebuild"):
        indexer.update(source / "home")
    indexer.update(source / "home", rebuild=True)
    as_made_anew(index, source / "home", encoder)
    for name in ("index.db", "index.seal"):
        (index / name).write_bytes(b"x" * 5000)
        with pytest.raises(DamagedIndexError, match=name.replace(".", r"\.")):
            indexer.update(source / "home")
        indexer.update(source / "home", rebuild=True)
        as_made_anew(index, source / "home", encoder)


def test_the_index_knows_its_own_model(source: Path, tmp_path: Path, encoder: Encoder, model: Path) -> None:
    Indexer(tmp_path / "index", model=str(model), precision="float32").update(source)
    (source / "more.txt").write_text("more words")
    summary = Indexer(tmp_path / "index").update(source)
    assert (summary.model, summary.precision, summary.passages_embedded) == (str(model), "float32", 1)


def test_documents_are_added_replaced_and_removed(tmp_path: Path, encoder: Encoder) -> None:
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    documents = [Document(f"tickets/{i}", f"ticket {i} is about printer {i}", f"Ticket {i}") for i in range(5)]
    summary = indexer.update(iter(documents))
    assert counts(summary) == (5, 0, 0, 0)
    assert counts(indexer.update(documents)) == (0, 0, 0, 5)
    changed = dataclasses.replace(documents[2], text="ticket 2 is closed", metadata={"state": "closed"})
    assert counts(indexer.update(changed)) == (0, 1, 0, 0)
    with Searcher(index, model=encoder) as searcher:
        hits = {hit.path: hit for hit in searcher.search("ticket", k=9)}
    assert len(hits) == 5
    assert (hits["tickets/2"].text, hits["tickets/2"].metadata) == ("ticket 2 is closed", {"state": "closed"})
    assert indexer.remove("tickets/4") == 1
    with pytest.raises(InvalidInputError, match=r"tickets/4.*nothing was removed"):
        indexer.remove(["tickets/1", "tickets/4"])
    assert indexer.update([documents[4]]).files_added == 1, "deleted, and added again"
    assert list(verify(index)) == []
    assert indexer.remove(["tickets/"]) == 5
    assert list(verify(index)) == []
    assert all_hits(index, encoder) == {}


def test_documents_and_a_folder_live_in_one_index(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    indexer.update(source)
    indexer.update(Document("remark", "a remark on water", "Remark"))
    assert counts(indexer.update(source)) == (0, 0, 0, 12)
    assert any(path == "remark" for path, *_ in all_hits(index, encoder))
    gone = indexer.remove("home/")
    assert gone == 6
    assert counts(indexer.update(source)) == (6, 0, 0, 6), "what the folder still holds comes back"


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ([Document("a", "text", "A"), "b.txt"], "after a Document"),
        ([Document("a", "text", "A"), Document("a", "more", "A")], "two documents have the path 'a'"),
        ([Document("", "text", "A")], "path must be relative"),
        ([Document("/etc/x", "text", "A")], "path must be relative"),
        ([Document("a", "text", "A", {"x": {1, 2}})], "not JSON"),
        ([Document("a", "\ud800", "A")], "surrogate"),
        ([Document("a", 7, "A")], "text of the document 'a' is no string"),  # type: ignore[arg-type]
        ([7], "must be another|path or a Document"),
        (7, "path or a Document"),
    ],
)
def test_documents_that_cannot_be_taken(tmp_path: Path, encoder: Encoder, sources: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        Indexer(tmp_path / "index", model=encoder).update(sources)
    assert not (tmp_path / "index").exists()


def test_no_source_and_no_text(tmp_path: Path, encoder: Encoder) -> None:
    indexer = Indexer(tmp_path / "index", model=encoder)
    with pytest.raises(NothingToIndexError, match="no source"):
        indexer.update([])
    with pytest.raises(NothingToIndexError, match="a: empty"):
        indexer.update(Document("a", "  ", ""))
    with pytest.raises(IndexNotFoundError):
        indexer.remove("a")
    with pytest.raises(IndexNotFoundError):
        indexer.compact()
    assert not (tmp_path / "index").exists()


def test_a_handle_from_before_others_wrote(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    one, other = Indexer(tmp_path / "index", model=encoder), Indexer(tmp_path / "index", model=encoder)
    one.update(source)
    (source / "first.txt").write_text("the first addition")
    other.update(source)
    (source / "second.txt").write_text("the second addition")
    assert counts(one.update(source)) == (1, 0, 0, 13)
    as_made_anew(tmp_path / "index", source, encoder)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, encoder: Encoder) -> list[str]:
    """Every text that is embedded, in small steps."""
    texts: list[str] = []
    stream = encoder.encode_document_stream

    def noted(some: Any) -> Any:
        some = list(some)
        texts.extend(some)
        return stream(some)

    monkeypatch.setattr(encoder, "encode_document_stream", noted)
    monkeypatch.setattr(update_module, "_AHEAD", 8)
    monkeypatch.setattr(update_module, "PART_ROWS", 16)
    return texts


def stop_after(passages: int) -> Callable[[Any], None]:
    def report(progress: Any) -> None:
        if progress.passages >= passages:
            raise KeyboardInterrupt

    return report


def test_a_stopped_build_goes_on_where_it_stopped(
    source: Path, tmp_path: Path, encoder: Encoder, embedded: list[str]
) -> None:
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    with pytest.raises(KeyboardInterrupt):
        indexer.update(source, progress=stop_after(30))
    first = len(embedded)
    assert first >= 24
    with pytest.raises(IndexNotFoundError, match="never finished"):
        Searcher(index, model=encoder)
    with pytest.raises(KeyboardInterrupt):
        indexer.update(source, progress=stop_after(45))
    (source / "home" / "late.txt").write_text("a file that came meanwhile")
    summary = indexer.update(source)
    assert summary.passages_embedded < summary.passages - 24
    assert len(embedded) <= summary.passages + 2 * 32, "no more than what was in memory is embedded twice"
    assert not list((index / "segments").glob("*.part"))
    as_made_anew(index, source, encoder)


def test_parts_of_another_model_and_broken_ones_are_not_used(
    source: Path, tmp_path: Path, encoder: Encoder, embedded: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    index = tmp_path / "index"
    other = Encoder(str(small_checkpoint(tmp_path_factory.mktemp("other"), "roberta")))
    with pytest.raises(KeyboardInterrupt):
        Indexer(index, model=encoder).update(source, progress=stop_after(30))
    shutil.copytree(index, tmp_path / "copy")
    assert Indexer(index, model=other).update(source).passages_embedded == len(all_hits(index, other))
    index = tmp_path / "copy"
    for path in (index / "segments").iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    Indexer(index, model=encoder).update(source)
    as_made_anew(index, source, encoder)


class InterruptedAtCommit(sqlite3.Connection):
    """Ctrl-C while SQLite writes a commit to the disk: Python acts on it as soon as that is done."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        cursor = super().execute(sql, *parameters)
        if sql == "COMMIT":
            signal.raise_signal(signal.SIGINT)
        return cursor


@pytest.mark.parametrize("is_new", [True, False])
def test_an_interrupt_while_it_is_committed_loses_nothing(
    source: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    if not is_new:
        indexer.update(source)
    (source / "home" / "late.txt").write_text("a file that came late")
    with monkeypatch.context() as patch:
        connect = sqlite3.connect
        patch.setattr(sqlite3, "connect", partial(connect, factory=InterruptedAtCommit))
        with pytest.raises(KeyboardInterrupt):
            indexer.update(source)
    as_made_anew(index, source, encoder)
    assert indexer.update(source).passages_embedded == 0
    as_made_anew(index, source, encoder)


def test_the_lock_says_who_holds_it(source: Path, tmp_path: Path, encoder: Encoder) -> None:
    index = tmp_path / "index"
    indexer = Indexer(index, model=encoder)
    indexer.update(source)
    code = "import sys; from semsearch.store.catalog import write_lock; from pathlib import Path\n"
    code += "with write_lock(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(IndexLockedError, match=rf"process {holder.pid} on \S+ is writing"):
            indexer.update(source)
    assert counts(indexer.update(source)) == (0, 0, 0, 12)
    assert (index / "write.lock").read_bytes() == b""


def test_writers_that_give_up_do_not_take_the_folder_from_each_other(tmp_path: Path) -> None:
    class GaveUpError(Exception):
        pass

    index, at_once = tmp_path / "index", []

    def give_up(times: int) -> int:
        locked = 0
        while times:
            try:
                with open_writer(index) as writer:
                    at_once.append(writer)
                    alone = len(at_once) == 1
                    assert (index / "segments").is_dir()
                    at_once.remove(writer)
                    assert alone
                    raise GaveUpError
            except IndexLockedError:
                locked += 1
            except GaveUpError:
                times -= 1
        return locked

    with ThreadPoolExecutor(4) as writers:
        assert sum(writers.map(give_up, [10] * 4))
    assert not index.exists()


def fake_segment(number: int, live: int, dead: int, first: int) -> Segment:
    count = live + dead
    bits = np.packbits(np.arange(count) < dead, bitorder="little").tobytes()
    return Segment(str(number), "flat", count, first, None, bits if dead else None, FileRecord(0, ""))


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)).filter(any), max_size=30), st.integers(0, 5))
def test_merging_keeps_segments_few(sizes: list[tuple[int, int]], fresh: int) -> None:
    first, segments = 1, []
    for number, (live, dead) in enumerate(sizes):
        segments.append(fake_segment(number, live, dead, first))
        first += live + dead
    kept = [segment for segment in segments if segment.live]
    old, new = segments[: len(segments) - fresh], segments[len(segments) - fresh :]
    runs = compaction._runs(old, new, fully=False)
    assert [segment for run in runs for segment in run] == kept, "in order, and none lost"
    live = [sum(segment.live for segment in run) for run in runs]
    assert all(older > 2 * newer for older, newer in zip(live, live[1:], strict=False))
    for run in runs:
        dead = sum(segment.count - segment.live for segment in run)
        assert compaction._is_due(run, False) or dead <= 0.2 * run[0].count
    assert sum(any(segment in new for segment in run) for run in runs) <= 1, "what is new becomes one"
    assert len(compaction._runs(old, new, fully=True)) <= 1


def test_a_file_that_failed_half_way_is_read_again(
    source: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Reading.read

    def half(self: Reading, files: Sequence[SourceFile]) -> Iterator[Item]:
        for item in whole(self, files):
            yield item
            if isinstance(item, Read) and item.file.path.endswith("1.md"):
                yield Skipped(item.file.path, "reading it crashed")

    (source / "1.md").write_text("The first half.")
    age(source / "1.md")
    monkeypatch.setattr(Reading, "read", half)
    first = Indexer(tmp_path / "index", model=encoder).update(source)
    assert ("1.md", "reading it crashed") in {(one.path, one.reason) for one in first.skipped}
    monkeypatch.undo()
    again = Indexer(tmp_path / "index", model=encoder).update(source)
    assert (again.files_changed, again.files_unchanged, again.passages_embedded) == (1, 12, 0)
    as_made_anew(tmp_path / "index", source, encoder)
