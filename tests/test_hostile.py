"""Files that nobody should have: none stops a build, hangs it, or makes the process grow; each is accounted for."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import small_checkpoint
from hostile import files

from semsearch.corpus.chunking import Chunker
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.walk import SourceFile, walk
from semsearch.encoder.encoder import Encoder
from semsearch.errors import StorageError
from semsearch.indexer import pool, worker
from semsearch.indexer.settings import Settings
from semsearch.indexer.sources import Read, Reading


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"), "bert", hidden=8, heads=1, positions=144)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for name, content in files():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    odd = folder / "kinds"
    odd.mkdir()
    os.mkfifo(odd / "pipe.txt")
    (odd / "loop.txt").symlink_to("loop.txt")
    (odd / "out.txt").symlink_to("/etc/passwd")
    (odd / "folder.txt").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(odd)  # a socket's path may have 108 bytes
        server.bind("socket.txt")
        os.chdir(here)
    return folder


@pytest.mark.slow
@pytest.mark.alone
def test_hostile_files_stop_nothing(hostile: Path, model: Path, tmp_path: Path) -> None:
    names = [file.relative_to(hostile).as_posix() for file in hostile.rglob("*") if not file.is_dir()]
    assert len(names) > 130
    code = (
        "import pathlib, sys\n"
        "from semsearch.cli.commands import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        # Not ru_maxrss, in which is what the process that started this one had.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "index", str(hostile), "--model", str(model), "--json", "--yes"]
    # Two threads wait for each other longer than they multiply so little.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    peak_mib = int(done.stderr.split()[-1]) / 1024
    assert peak_mib < 1200, f"the build took {peak_mib:.0f} MiB"
    summary = json.loads(done.stdout)
    skipped = {one["path"]: one["reason"] for one in summary["skipped"]}
    assert summary["files_found"] == summary["files_indexed"] + summary["files_skipped"] == len(names)
    assert set(skipped) <= set(names)
    # None takes so long that the process which reads it is ended.
    assert not [name for name, reason in skipped.items() if "takes longer" in reason]
    for name in ("kinds/pipe.txt", "kinds/socket.txt", "text/empty.txt", "zip/bomb.docx", "disguise/text.pdf"):
        assert name in skipped
    for name in ("text/giant-line.txt", "encoding/latin-1.txt", "markdown/quotes.md", "zip/paragraphs.docx"):
        assert name not in skipped, skipped[name]
    # What is indexed is whole, and nothing of the outside has come in.
    listed = subprocess.run([sys.executable, "-m", "semsearch", "verify", summary["index"]], cwd=tmp_path)
    assert listed.returncode == 0


def _setup(encoder: Encoder) -> dict[str, object]:
    return worker.setup_of(encoder.tokenizer, encoder.max_tokens, Settings().cutting, ReadOptions())


def _text_files(folder: Path, count: int) -> list[SourceFile]:
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"file {number}")
    return walk([folder]).files


# A process that is ready, and of every second file does what is in its place.
_MISBEHAVING = (
    "import sys, os, time; sys.path[:] = {path!r}; from semsearch.indexer.worker import *\n"
    "answers = sys.stdout.buffer; receive(sys.stdin.buffer); send(answers, ['ready'])\n"
    "while True:\n"
    "    name = receive(sys.stdin.buffer)[1]\n"
    "    if int(name[0]) % 2: MISBEHAVE\n"
    "    send(answers, [['end'], False])"
)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("time.sleep(60)", "reading it takes longer than 1 s"),
        ("os._exit(1)", "reading it crashed, or took more than 3 GiB of memory"),
        ("os.kill(os.getpid(), 9)", "reading it crashed, or took more than 3 GiB of memory"),
        ("send(answers, 5)", "reading it crashed, or took more than 3 GiB of memory"),
        ("answers.write(b'junk'); os._exit(0)", "reading it crashed, or took more than 3 GiB of memory"),
    ],
)
def test_a_process_that_misbehaves_costs_its_file_alone(
    what: str, reason: str, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = _MISBEHAVING.replace("{", "{{").replace("}", "}}").replace("{{path!r}}", "{path!r}")
    monkeypatch.setattr(pool, "_COMMAND", command.replace("MISBEHAVE", what))
    monkeypatch.setattr(pool, "_SECONDS", 1.0)
    found = _text_files(tmp_path, 6)
    with pool.WorkerPool(_setup(Encoder(str(model))), 2) as workers:
        answers = [(file.name, *answer) for file, answer in workers.read(found)]
    expected: list[tuple[str, ...]] = []
    for number in range(6):
        expected.append((f"{number}.txt", "skipped", reason) if number % 2 else (f"{number}.txt", "end"))
    assert answers == expected


def test_a_process_that_cannot_start_is_an_error(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_COMMAND", "raise SystemExit")
    with (
        pool.WorkerPool(_setup(Encoder(str(model))), 1) as workers,
        pytest.raises(StorageError, match="cannot be started"),
    ):
        list(workers.read(_text_files(tmp_path, 2)))


def test_memory_is_limited(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hungry = "import semsearch.indexer.worker as w\nw.read = lambda *a: [bytearray(4 * 2**30)]\nw.main()"
    monkeypatch.setattr(pool, "_COMMAND", "import sys; sys.path[:] = {path!r}\n" + hungry)
    with pool.WorkerPool(_setup(Encoder(str(model))), 1) as workers:
        answers = [answer for _, answer in workers.read(_text_files(tmp_path, 1))]
    assert answers[-1] == ["skipped", "reading it takes more than 3 GiB of memory"]


def test_processes_give_what_reading_here_gives_and_end(tmp_path: Path, model: Path) -> None:
    encoder = Encoder(str(model))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    found = _text_files(tmp_path, 40)
    chunker = Chunker(encoder.tokenizer.token_starts, encoder.max_tokens, **Settings().cutting)
    here = [
        json.loads(json.dumps([file.name, *answer]))
        for file in found
        for answer in worker.answers_of(file, ReadOptions(), chunker)
    ]
    with pool.WorkerPool(_setup(encoder), 2) as workers:
        there = [[file.name, *answer] for file, answer in workers.read(found)]
    for one in (*here, *there):
        if one[1] == "file":
            one[2] = 0  # when it was looked at
    assert there == here
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > before, "they have ended and were waited for"


def test_what_is_left_of_a_reading_is_no_process(tmp_path: Path, model: Path) -> None:
    reading = Reading(Encoder(str(model)), Settings())
    for number in range(300):
        (tmp_path / f"{number}.md").write_text(f"# {number}\n\n" + "word " * 300)
    items = reading.read(walk([tmp_path]).files)
    assert isinstance(next(items), Read)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    items.close()
    assert not any("semsearch" in Path(f"/proc/{pid}/cmdline").read_text() for pid in children.read_text().split())
