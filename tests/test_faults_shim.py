"""The faults that other tests rely on: counted, made where they were asked for, and no harsher than a real disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faults.faults import SHORT_FIRST, STICKY, Host, Mode, Outcome, library

SEEDS = range(20)

# A file that takes the place of another, in the right way or without one of its steps.
REPLACE = """
import os

def sync(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

def job(path, text, with_file=True, with_folder=True):
    with open(path + ".new", "wb") as file:
        file.write(text.encode())
        file.flush()
        if with_file:
            os.fsync(file.fileno())
    os.replace(path + ".new", path)
    if with_folder:
        sync(os.path.dirname(path))
    return "replaced"
"""
OLD, NEW = "old" * 500, "new" * 700


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def replacing(shim: Path) -> Iterator[Host]:
    with Host(shim, REPLACE) as host:
        yield host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "watched"
    folder.mkdir()
    return folder


def empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def content(folder: Path) -> dict[str, str | None]:
    """The files by name with their text; None for a folder, and where a symbolic link leads."""
    found: dict[str, str | None] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = "-> " + str(path.readlink())
        else:
            found[name] = None if path.is_dir() else path.read_text()
    return found


def replaced(host: Host, folder: Path, at: int, mode: Mode, seed: int = 0, **steps: bool) -> Outcome:
    (folder / "a").write_text(OLD)
    return host.run(folder, at, mode, seed, path=folder / "a", text=NEW, **steps)


def test_calls_are_counted_below_the_folder_alone(replacing: Host, folder: Path) -> None:
    outcome = replaced(replacing, folder, 0, Mode.COUNT)
    trace = ("open a.new", "write a.new", "fsync a.new", "rename a.new -> a", "fsync .")
    assert outcome == Outcome(0, "replaced", "", "", 5, trace)
    (folder / "b").mkdir()
    assert replacing.run(folder / "b", path=folder / "a", text=NEW).calls == 0
    assert replacing.run(path=folder / "a", text=NEW) == Outcome(0, "replaced", "", "", 0, ())


def test_killed_before_and_after_each_call(replacing: Host, folder: Path) -> None:
    states = [
        {"a": OLD},
        {"a": OLD, "a.new": ""},
        {"a": OLD, "a.new": NEW},
        {"a": OLD, "a.new": NEW},
        {"a": NEW},
        {"a": NEW},
    ]
    for at in range(1, 6):
        for mode, state in ((Mode.KILL_BEFORE, states[at - 1]), (Mode.KILL_AFTER, states[at])):
            empty(folder)
            outcome = replaced(replacing, folder, at, mode)
            assert (outcome.status, outcome.value, outcome.calls) == (-9, None, at)
            assert content(folder) == state, (at, mode)
    assert replaced(replacing, folder, 6, Mode.KILL_BEFORE).status == 0


def test_errors_reach_python(replacing: Host, folder: Path) -> None:
    for mode, at, seed, error in (
        (Mode.ENOSPC, 1, 0, "No space left on device"),
        (Mode.ENOSPC, 2, 0, "No space left on device"),
        (Mode.ENOSPC, 4, STICKY, ""),  # a rename takes none
        (Mode.EIO, 2, 0, "Input/output error"),
        (Mode.EIO, 3, 0, "Input/output error"),
        (Mode.EIO, 4, STICKY, "Input/output error"),
        (Mode.EIO, 5, 0, "Input/output error"),
        (Mode.SHORT, 2, 0, ""),  # Python writes the rest
        (Mode.ENOSPC, 2, STICKY | SHORT_FIRST, "No space left on device"),
    ):
        empty(folder)
        outcome = replaced(replacing, folder, at, mode, seed)
        assert outcome.status == bool(error)
        assert error in outcome.error
        assert content(folder)["a"] == (NEW if at == 5 or not error else OLD)
    assert replaced(replacing, folder, 2, Mode.SHORT).calls == 6
    replaced(replacing, folder, 2, Mode.ENOSPC, STICKY | SHORT_FIRST)
    assert content(folder)["a.new"] == NEW[: len(NEW) // 2]


def states_without_power(host: Host, folder: Path, at: int, **steps: bool) -> list[dict[str, str | None]]:
    states = []
    for seed in SEEDS:
        empty(folder)
        assert replaced(host, folder, at, Mode.POWER, seed, **steps).status == -9
        states.append(content(folder))
    return states


def test_without_power_a_right_protocol_gives_the_old_or_the_new(replacing: Host, folder: Path) -> None:
    seen = set()
    for at in range(1, 7):
        for state in states_without_power(replacing, folder, at):
            assert state["a"] in ((OLD, NEW) if at < 6 else (NEW,)), at
            seen.add((at, state["a"]))
    # The rename was done, was undone for want of the folder's fsync, and was not after it.
    assert {(1, OLD), (4, OLD), (4, NEW), (5, OLD), (5, NEW), (6, NEW)} <= seen


def test_without_power_a_wrong_protocol_is_caught(replacing: Host, folder: Path) -> None:
    states = states_without_power(replacing, folder, 5, with_file=False)
    assert any(state["a"] not in (OLD, NEW) for state in states)
    states = states_without_power(replacing, folder, 5, with_folder=False)
    assert {OLD, NEW} == {state["a"] for state in states}


def test_without_power_what_is_not_synced_is_kept_torn_or_lost_by_sectors(shim: Path, folder: Path) -> None:
    setup = """
import os
def job(path):
    with open(path, "wb", buffering=0) as file:
        file.write(b"a" * 700)
        os.fsync(file.fileno())
        os.pwrite(file.fileno(), b"b" * 2000, 300)
        os.pwrite(file.fileno(), b"c" * 100, 2300)
        file.truncate(2350)
"""
    path = folder / "file"
    texts = []
    with Host(shim, setup) as host:
        for seed in range(100):
            path.touch()  # so that its name is there
            assert host.run(folder, 9, Mode.POWER, seed, path=path).status == -9
            texts.append(path.read_bytes())
    old, new = b"a" * 700, b"a" * 300 + b"b" * 2000 + b"c" * 50
    assert {old, new} <= set(texts)
    assert {700, 2300, 2350, 2400} <= {len(text) for text in texts}
    assert old + bytes(1600) in texts, "the size without the bytes"
    # Torn at 512, 1024, ...: what is before is new and what is behind old, or the other way round.
    assert any(text.startswith(new[:512] + old[512:]) for text in texts)
    assert any(text.startswith(old[:512] + new[512:2048]) for text in texts)
    moments = (old, new[:2300], new + b"c" * 50, new)
    for text in texts:
        for start in range(0, len(text), 512):
            sector = text[start : start + 512]
            assert any(sector == moment[start : start + len(sector)].ljust(len(sector), b"\0") for moment in moments)


NAMES = """
import os
def job(path):
    os.chdir(path)
    os.mkdir("folder")
    open("folder/inner", "x").close()
    os.rename("one", "two")
    os.unlink("gone")
    os.replace("two", "three")
    os.link("three", "linked")
    os.unlink("three")
    os.symlink("linked", "symbolic")
    os.rename("symbolic", "four")
    os.rmdir("empty")
    os.unlink("four")
    os.rename("folder", "moved")
    os.mkdir("folder")
"""


def test_without_power_names_are_as_they_were_at_some_moment(shim: Path, folder: Path) -> None:
    def left_by(host: Host, at: int, mode: Mode, seed: int = 0) -> dict[str, str | None]:
        empty(folder)
        for name in ("one", "gone", "three"):
            (folder / name).write_text(name * 300)
        (folder / "empty").mkdir()
        host.run(folder, at, mode, seed, path=folder)
        assert not folder.with_name("watched.faults").exists()
        # A folder's operations wait for no other's: the file in the new folder may be there or not.
        return {name: text for name, text in content(folder).items() if not name.endswith("/inner")}

    with Host(shim, NAMES) as host:
        moments = [left_by(host, at, Mode.KILL_BEFORE) for at in range(1, 15)]
        moments = [moment for i, moment in enumerate(moments) if moment not in moments[:i]]
        assert len(moments) == 13  # one call makes the file within
        seen = {moments.index(left_by(host, 14, Mode.POWER, seed)) for seed in range(100)}
    assert len(seen) == 13


CALLS = """
import ctypes, mmap, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fopen.restype = ctypes.c_void_p
libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]

def job(path, outside):
    source = os.open(outside, os.O_RDONLY)
    descriptor = os.open(path + "/a", os.O_RDWR | os.O_CREAT)
    os.writev(descriptor, [b"one", b"two"])
    os.pwritev(descriptor, [b"three"], 6)
    os.pwrite(descriptor, b"four", 11)
    os.lseek(descriptor, 15, os.SEEK_SET)
    os.sendfile(descriptor, source, 0, 4)
    os.copy_file_range(source, descriptor, 5, 3, 20)
    os.write(descriptor, b"!")
    os.posix_fallocate(descriptor, 0, 8192)
    with mmap.mmap(descriptor, 8192) as memory:
        memory[30:34] = b"five"
        memory.flush()
    os.fdatasync(descriptor)
    os.ftruncate(descriptor, 40)
    os.truncate(path + "/a", 38)
    folder = os.open(path, os.O_RDONLY)
    os.mkdir("b", dir_fd=folder)
    os.rename("a", "b/a", src_dir_fd=folder, dst_dir_fd=folder)
    os.link("b/a", "c", src_dir_fd=folder, dst_dir_fd=folder)
    os.unlink("b/a", dir_fd=folder)
    os.rmdir("b", dir_fd=folder)
    unnamed = os.open(path, os.O_TMPFILE | os.O_WRONLY)
    os.write(unnamed, b"unnamed")
    os.link(f"/proc/self/fd/{unnamed}", path + "/d", src_dir_fd=folder, follow_symlinks=True)
    file = libc.fopen((path + "/e").encode(), b"w")
    libc.fputs(b"by stdio", file)
    libc.fclose(file)
    libc.syscall(316, -100, (path + "/e").encode(), -100, (path + "/f").encode(), 0)
    with open(path + "/f", "w") as file:
        file.write("again")
    # Programs that it starts are let alone.
    with open(path + "/../echo", "w") as file:
        program = f"open({path + '/g'!r}, 'x').write('g'); print(1)"
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True)
    try:
        os.mkdir(path + "/missing/folder")
    except FileNotFoundError as error:
        failed = str(error)
    os.sync()
    return [failed, os.fstat(descriptor).st_nlink, os.lseek(descriptor, 0, os.SEEK_CUR)]
"""


def test_every_call_that_writes_is_caught_and_does_what_it_would(shim: Path, folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_text("0123456789")
    with Host(shim, CALLS) as host:
        plain = host.run(path=folder, outside=outside)
        assert plain.status == 0, plain.stderr
        expected = content(folder)
        assert expected["c"] == "onetwothreefour0123!34567" + "\0" * 5 + "five" + "\0" * 4
        assert expected["f"] == "again"
        empty(folder)
        counted = host.run(folder, path=folder, outside=outside)
        assert (counted.status, counted.value, content(folder)) == (0, plain.value, expected), counted.stderr
        empty(folder)
        # All is synced in the end, so nothing is lost.
        powerless = host.run(folder, 0, Mode.POWER, path=folder, outside=outside)
        assert (powerless.status, powerless.value, content(folder)) == (-9, plain.value, expected), powerless.stderr
    assert counted.trace == tuple(
        "open a|writev a|pwritev a|pwrite a|sendfile a|copy_file_range a|write a|fallocate a|msync a|fdatasync a|"
        "ftruncate a|truncate a|mkdir b|rename a -> b/a|link c|unlink b/a|rmdir b|open .|write #|link d|open e|"
        "write e|rename e -> f|open f|write f|sync".replace("#", counted.trace[18][6:]).split("|")
    )


SQLITE = """
import os, sqlite3

def job(path, log, synchronous="FULL", transactions=6):
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size = 1024")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint = 10")
    connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, filler)")
    for number in range(1, transactions + 1):
        connection.execute("BEGIN")
        for half in (0, 1):
            connection.execute("INSERT INTO rows VALUES (?, ?)", (2 * number + half, os.urandom(700 + 1000 * half)))
        if number % 3 == 0:
            connection.execute("UPDATE rows SET filler = ? WHERE number < 6", (os.urandom(900),))
        connection.execute("COMMIT")
        os.write(log, b"x")
    connection.close()
"""


@pytest.fixture(scope="module")
def inserting(shim: Path) -> Iterator[Host]:
    with Host(shim, SQLITE) as host:
        yield host


def check_database(path: Path, log: Path) -> None:
    """It is whole and holds the transactions up to one, at least those whose COMMIT returned."""
    reported = log.stat().st_size if log.exists() else 0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # for speed alone
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        assert tables or not reported
        numbers = [row[0] for row in connection.execute("SELECT number FROM rows ORDER BY number")] if tables else []
    assert numbers == list(range(2, 2 + len(numbers)))
    assert len(numbers) % 2 == 0
    assert reported <= len(numbers) // 2 <= reported + 1


@pytest.fixture
def check_after(inserting: Host, folder: Path) -> Callable[..., Outcome]:
    log = folder.parent / "log"

    def check_after(at: int, mode: Mode, seed: int = 0, **options: str) -> Outcome:
        empty(folder)
        log.unlink(missing_ok=True)
        outcome = inserting.run(folder, at, mode, seed, path=folder / "db", log=log, **options)
        check_database(folder / "db", log)
        return outcome

    return check_after


def test_sqlite_survives_every_kill_and_every_loss_of_power(check_after: Callable[..., Outcome]) -> None:
    calls = check_after(0, Mode.COUNT).calls
    assert calls > 100
    for at in range(1, calls + 2):
        check_after(at, Mode.KILL_AFTER if at % 2 else Mode.KILL_BEFORE)
        assert check_after(at, Mode.POWER, at).status == -9


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_sqlite_without_its_syncs_does_not_survive(check_after: Callable[..., Outcome], synchronous: str) -> None:
    failures = 0
    for at in range(60, 130, 5):
        try:
            check_after(at, Mode.POWER, at, synchronous=synchronous)
        except (AssertionError, sqlite3.Error):
            failures += 1
    assert failures


def test_errors_reach_sqlite(check_after: Callable[..., Outcome]) -> None:
    messages = {Mode.ENOSPC: "database or disk is full", Mode.EIO: "disk I/O error"}
    calls = check_after(0, Mode.COUNT).calls
    for mode, message in messages.items():
        seen = set()
        for at in range(2, calls, 8):
            seen.add(check_after(at, mode, at % 2 * STICKY).error)
        assert f"OperationalError: {message}" in seen
    for at in range(1, calls, 8):
        assert check_after(at, Mode.SHORT).status == 0


THREADS = """
import os, threading

def job(path, log):
    def write(number):
        with open(f"{path}/{number}", "ab", buffering=0) as file, open(f"{log}/{number}", "ab", buffering=0) as report:
            for _ in range(20):
                file.write(b"x" * 600)
                os.fsync(file.fileno())
                report.write(b"x" * 600)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_lose_nothing_that_they_synced(shim: Path, folder: Path) -> None:
    log = folder.parent / "log"
    log.mkdir()
    with Host(shim, THREADS) as host:
        for at in range(1, 165, 8):
            empty(folder)
            empty(log)
            for number in range(4):
                (folder / str(number)).touch()
            assert host.run(folder, at, Mode.POWER, at, path=folder, log=log).status == -9
            for path in log.iterdir():
                assert len((folder / path.name).read_text().rstrip("\0")) >= path.stat().st_size


def test_what_becomes_of_a_job_is_reported(shim: Path, folder: Path) -> None:
    setup = """
import sys, time
def job(what):
    print(what)
    if what == "hang":
        time.sleep(100)
    if what == "exit":
        sys.exit(5)
    return {"what": what}
"""
    with Host(shim, setup, timeout=0.5) as host:
        assert host.run(what="é") == Outcome(0, {"what": "é"}, "", "é\n", 0, ())
        assert host.run(folder, what="hang").status == "hang"
        assert host.run(folder, what="exit").error == "SystemExit: 5"
        assert "TypeError" in host.run(folder, unknown=1).stderr
        assert "No such file" in host.run(folder / "missing", what="").error
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        Host(shim, "1 / 0")
    with pytest.raises(RuntimeError, match="started threads"):
        Host(shim, "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()")
