"""An index that is kept as its folder is: by the command, by the server, and as a library, with real files."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from serving import serving

from semsearch import Indexer, IndexSummary, Searcher, SemsearchError, Settings
from semsearch.errors import IndexConflictError, SourceNotFoundError, StorageError
from semsearch.indexer.watch import watch
from semsearch.store.catalog import write_lock
from semsearch.store.verify import verify

DEADLINE = 60.0
# Longer than changes are waited for, as `in_a_hurry` has it.
SILENCE = 1.5


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; those of the command are as they are."""
    monkeypatch.setattr("semsearch.indexer.watch._QUIET_SECONDS", 0.2)
    monkeypatch.setattr("semsearch.indexer.watch._LOOK_SECONDS", 0.2)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "tap.md").write_text("# Tap\n\nThe tap drips at night.")
    (folder / "well.md").write_text("# Well\n\nThe well is dry in August.")
    return folder


def eventually(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Watching:
    """`semsearch watch` in a process of its own, and what it prints."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    def next_line(self, number: int) -> str:
        eventually(lambda: len(self.lines) > number or self.process.poll() is not None, f"no line {number}")
        assert len(self.lines) > number, self.errors
        return self.lines[number]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE)


@contextmanager
def watching(tmp_path: Path, *arguments: str | Path) -> Iterator[Watching]:
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "semsearch", "watch", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "SEMSEARCH_INDEXES": str(tmp_path / "indexes")},
        )
    try:
        yield Watching(process, out, err)
    finally:
        process.kill()
        process.wait(timeout=DEADLINE)


def paths(index: Path) -> set[str]:
    with Searcher(index) as searcher:
        return {hit.path for hit in searcher.search("water", k=1000)}


def test_what_happens_to_files_is_followed(tmp_path: Path, notes: Path) -> None:
    index = tmp_path / "indexes" / "notes"
    with watching(tmp_path, notes) as running:
        assert "files: 2 new;" in running.next_line(0)
        (notes / "deep").mkdir()
        (notes / "deep" / "frost.md").write_text("# Frost\n\nPipes freeze in January.")
        assert "files: 1 new, 2 unchanged;" in running.next_line(1)
        (notes / "tap.md").write_text("# Tap\n\nThe tap was mended by a plumber.")
        assert "files: 1 changed, 2 unchanged;" in running.next_line(2)
        (notes / "well.md").rename(notes / "deep" / "spring.md")
        assert "files: 1 new, 1 removed, 2 unchanged;" in running.next_line(3)
        assert "0 of them embedded now" not in running.lines[2]
        assert paths(index) == {"tap.md", "deep/frost.md", "deep/spring.md"}
        shutil.rmtree(notes / "deep")
        assert "files: 2 removed, 1 unchanged;" in running.next_line(4)
        with Searcher(index) as searcher:
            (hit,) = searcher.search("who mended it?")
        assert (hit.path, hit.stale, "plumber" in hit.text) == ("tap.md", False, True)
        assert running.stop() == 0
        assert running.errors == f"watching {notes}; Ctrl-C ends it\n"
    assert list(verify(index)) == []


def test_many_changes_are_few_updates_and_constant_change_is_not_waited_for(tmp_path: Path, notes: Path) -> None:
    with watching(tmp_path, notes) as running:
        running.next_line(0)
        for number in range(200):
            (notes / f"{number}.txt").write_text(f"The bucket number {number} is under the tap.")
        eventually(lambda: any("202 documents" in line for line in running.lines), running.errors)
        assert len(running.lines) <= 4
        before = len(running.lines)
        deadline = time.monotonic() + DEADLINE
        while len(running.lines) == before:
            assert time.monotonic() < deadline
            (notes / "log.txt").write_text(f"It is {time.monotonic()} now.")
            time.sleep(0.1)
        assert running.stop(signal.SIGINT) == 0
    assert len(paths(tmp_path / "indexes" / "notes")) == 203


class Following:
    """`watch` in a thread, and what it yields."""

    def __init__(self, indexer: Indexer, *sources: Path) -> None:
        self.stop = threading.Event()
        self.raised: SemsearchError | None = None
        self._told: queue.Queue[IndexSummary | SemsearchError] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(indexer, sources))
        self._thread.start()

    def _run(self, indexer: Indexer, sources: tuple[Path, ...]) -> None:
        try:
            for one in watch(indexer, sources, self.stop):
                self._told.put(one)
        except SemsearchError as error:
            self.raised = error

    def update(self) -> tuple[int, int, int]:
        """The files that are new, changed and removed by the next update."""
        told = self._told.get(timeout=DEADLINE)
        assert isinstance(told, IndexSummary), told
        return told.files_added, told.files_changed, told.files_removed

    def error(self) -> str:
        told = self._told.get(timeout=DEADLINE)
        assert isinstance(told, SemsearchError), told
        return str(told)

    def is_silent(self) -> bool:
        time.sleep(SILENCE)
        return self._told.empty()

    def join(self) -> None:
        self._thread.join(timeout=DEADLINE)
        assert not self._thread.is_alive()


@contextmanager
def following(index: Path | Indexer, *sources: Path) -> Iterator[Following]:
    started = Following(index if isinstance(index, Indexer) else Indexer(index), *sources)
    try:
        yield started
    finally:
        started.stop.set()
        started.join()
    assert started.raised is None


class CountingIndexer(Indexer):
    """Counts how often it looks for files, and how often it updates."""

    found = updated = 0

    def find(self, source: Any) -> Any:
        self.found += 1
        return super().find(source)

    def update(self, source: Any, **options: Any) -> Any:
        self.updated += 1
        return super().update(source, **options)


def test_what_is_left_out_makes_no_update(notes: Path) -> None:
    (notes / ".git").mkdir()
    (notes / ".gitignore").write_text("build/\n")
    (notes / "build").mkdir()
    # The index's own folder is within the one that is watched.
    indexer = CountingIndexer(notes / "indexes" / "own", settings=Settings(exclude=("*.log",)))
    with following(indexer, notes) as running:
        assert running.update() == (2, 0, 0)
        assert running.is_silent()
        assert indexer.updated == 1
        looks = indexer.found
        for name in (".git/HEAD", "build/out.md", "build/new/deep.md", "indexes/own/noise"):
            (notes / name).parent.mkdir(exist_ok=True)
            (notes / name).write_text("noise")
        assert running.is_silent()
        assert (indexer.updated, indexer.found) == (1, looks)
        for name in ("app.log", ".hidden.md"):
            (notes / name).write_text("noise")
        assert running.is_silent()
        assert indexer.updated == 1
        assert indexer.found > looks
        (notes / ".gitignore").write_text("")
        assert running.update() == (2, 0, 0)
        assert paths(notes / "indexes" / "own") == {"tap.md", "well.md", "build/out.md", "build/new/deep.md"}


def test_another_writer_is_waited_for(tmp_path: Path, notes: Path) -> None:
    index = tmp_path / "index"
    Indexer(index).update(notes)
    with write_lock(index):
        (notes / "new.md").write_text("The pump hums.")
        running = Following(Indexer(index), notes)
        assert "is writing the index" in running.error()
        assert running.is_silent()
    assert running.update() == (1, 0, 0)
    with write_lock(index):
        (notes / "new.md").unlink()
        assert "is writing the index" in running.error()
        running.stop.set()  # it need not have its turn to end
        running.join()
    assert running.raised is None


def test_a_folder_that_goes_and_comes_again_is_watched_again(tmp_path: Path, notes: Path) -> None:
    with following(tmp_path / "index", notes) as running:
        assert running.update() == (2, 0, 0)
        notes.rename(tmp_path / "elsewhere")
        assert running.error() == f"{str(notes)!r} is gone; the index stays as it is until it is back"
        assert running.is_silent()
        (tmp_path / "elsewhere" / "new.md").write_text("The pump hums.")
        (tmp_path / "elsewhere").rename(notes)
        assert running.update() == (1, 0, 0)
        (notes / "new.md").write_text("The pump is silent.")
        assert running.update() == (0, 1, 0)
        # At once another in its place.
        shutil.rmtree(notes)
        notes.mkdir()
        (notes / "other.md").write_text("The river is high.")
        deadline = time.monotonic() + DEADLINE
        while paths(tmp_path / "index") != {"other.md"}:  # the moment without it may be seen, and told
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_folder_without_files_waits_for_the_first_and_keeps_the_last(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with following(tmp_path / "index", folder) as running:
        assert "nothing to index" in running.error()
        (folder / "a.md").write_text("The pump hums.")
        assert running.update() == (1, 0, 0)
        (folder / "a.md").unlink()  # as by a disk that is not there, so nothing is removed
        assert "nothing to index" in running.error()
        assert paths(tmp_path / "index") == {"a.md"}
        (folder / "b.md").write_text("The pump is silent.")
        assert running.update() == (1, 0, 1)


def test_single_files_are_watched_though_editors_replace_them(tmp_path: Path, notes: Path) -> None:
    with following(tmp_path / "index", notes / "tap.md", notes / "well.md") as running:
        assert running.update() == (2, 0, 0)
        for text in ("The tap is mended.", "The tap drips again."):
            (tmp_path / "written").write_text(text)
            (tmp_path / "written").replace(notes / "tap.md")
            assert running.update() == (0, 1, 0)
        (notes / "third.md").write_text("Nobody asked for it.")
        assert running.is_silent()


def test_a_change_that_leaves_size_and_time_is_seen(tmp_path: Path, notes: Path) -> None:
    # As on file systems whose clock ticks slowly; a time to come is never old enough to be trusted.
    later = time.time_ns() + 3600 * 10**9
    with following(tmp_path / "index", notes) as running:
        assert running.update() == (2, 0, 0)
        for text in ("The tap drips.", "The tap leaks."):
            (notes / "tap.md").write_text(text)
            os.utime(notes / "tap.md", ns=(later, later))
            assert running.update() == (0, 1, 0)


def test_a_change_during_an_update_is_taken_up_by_another(tmp_path: Path, notes: Path) -> None:
    stop = threading.Event()

    def meanwhile(_: object) -> None:
        (notes / "late.md").write_text("It came late.")

    updates = watch(Indexer(tmp_path / "index"), [notes], stop, progress=meanwhile)
    first = next(updates)
    assert isinstance(first, IndexSummary)
    assert first.files_added == 2
    second = next(updates)
    assert isinstance(second, IndexSummary)
    assert (second.files_added, second.documents) == (1, 3)
    stop.set()
    assert list(updates) == []


def test_an_update_that_is_broken_off_leaves_the_index_as_it_was(tmp_path: Path, notes: Path) -> None:
    index = tmp_path / "index"
    Indexer(index).update(notes)
    (notes / "new.md").write_text("The pump hums.")
    stop = threading.Event()
    assert list(watch(Indexer(index), [notes], stop, progress=lambda _: stop.set())) == []
    assert paths(index) == {"tap.md", "well.md"}
    assert list(verify(index)) == []
    assert Indexer(index).update(notes).files_added == 1


def test_what_cannot_work_is_said_at_the_start(tmp_path: Path, notes: Path, run: Run) -> None:
    index = tmp_path / "index"
    stop = threading.Event()
    with pytest.raises(SourceNotFoundError, match="no such file or folder"):
        list(watch(Indexer(index), [tmp_path / "none"], stop))
    Indexer(index).update(notes)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.md").write_text("The river is high.")
    with pytest.raises(IndexConflictError, match="was made of"):
        list(watch(Indexer(index), [tmp_path / "other"], stop))
    for arguments, code, message in (
        (("watch", "none"), 3, "no such file or folder: 'none'"),
        (("watch", "-"), 2, "give the path of a folder or file"),
        (("watch", notes, tmp_path / "other"), 2, "name it with --name"),
        (("serve", "--watch", "none"), 2, "'none' does not exist"),
        (("serve", "--port", "0", "--indexes", tmp_path, "-i", "index", "--watch", tmp_path / "other"), 3, "made of"),
    ):
        done = run(*arguments)
        assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_what_the_system_refuses_is_said(tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Iterator[set[Any]]:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", refuse)
    updates = watch(Indexer(tmp_path / "index"), [notes], threading.Event())
    assert isinstance(next(updates), IndexSummary)
    with pytest.raises(StorageError, match="watch limit reached; let the system watch more files"):
        next(updates)


@pytest.mark.parametrize("arguments", [["watch", "."], ["serve", "--watch", "."]])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys, semsearch.cli\n"
        "sys.modules['watchfiles'] = None\n"
        f"sys.argv = ['semsearch', *{arguments!r}]\n"
        "semsearch.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert "install it: pip install 'semsearch[watch]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_follows_its_folder(tmp_path: Path, notes: Path) -> None:
    with serving(tmp_path / "indexes", "--watch", str(notes)) as server:

        def found() -> set[str]:
            answer = server.get("/api/search", query="water", k=100)
            return {hit["path"] for hit in answer.json()["hits"]} if answer.status_code == 200 else set()

        assert "serving notes when it is made at" in server.log
        eventually(lambda: found() == {"tap.md", "well.md"}, server.log)
        (notes / "new.md").write_text("The pump hums.")
        eventually(lambda: "new.md" in found(), server.log)
        (notes / "tap.md").unlink()
        eventually(lambda: found() == {"new.md", "well.md"}, server.log)
        assert server.stop() == 0
        assert "1 removed" in server.log
    assert paths(tmp_path / "indexes" / "notes") == {"new.md", "well.md"}
    (notes / "later.md").write_text("The river is high.")
    with serving(tmp_path / "indexes", "-i", "notes", "--watch", str(notes)) as server:
        eventually(lambda: "1 new" in server.log, server.log)
        assert server.stop(signal.SIGINT) == 0
