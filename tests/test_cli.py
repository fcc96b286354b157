"""The commands, each as a process of its own."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import CORPUS, Run

from semsearch import Searcher

HIT_KEYS = (
    "rank score id path title heading line_start line_end char_start char_end page place stale text "
    "snippet matches metadata parts".split()
)


def fails(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It failed as it should: its code, one line on stderr with these words, nothing on stdout."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture
def indexes(sample_index: Path) -> str:
    return str(sample_index.parent)


def test_index_query_list_info_delete(run: Run, tmp_path: Path) -> None:
    cwd = tmp_path / "work"
    cwd.mkdir()
    shutil.copytree(CORPUS / "home", cwd / "home")
    (cwd / "home" / "broken.txt").write_bytes(b"\xff\0\xff")
    done = run("index", "home", "--json", "--verbose", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "skipped broken.txt: binary\n"
    summary = json.loads(done.stdout)
    assert (summary["files_found"], summary["files_indexed"], summary["files_skipped"]) == (9, 8, 1)
    assert (summary["index"], summary["path"]) == ("home", "indexes/home")
    done = run("query", "how to repair a leaky faucet", "-k", "2", cwd=cwd)
    assert done.returncode == 0
    assert done.stderr == ""
    place = done.stdout.split()[0]
    assert place.startswith("home/dripping-tap.md:")
    assert (cwd / place.split(":")[0]).is_file()
    assert "\x1b" not in done.stdout
    assert run("list", cwd=cwd).stdout.startswith("home  8 documents")
    info = json.loads(run("info", "home", "--json", cwd=cwd).stdout)
    assert (info["documents"], info["model"], info["dim"]) == (8, "sentence-transformers/all-MiniLM-L6-v2", 384)
    assert info["bytes"] > 10_000
    fails(run("delete", "home", cwd=cwd), 2, "--yes")
    assert run("delete", "home", "--yes", cwd=cwd).returncode == 0
    assert not (cwd / "indexes" / "home").exists()


def test_json_and_jsonl_are_what_the_searcher_says(run: Run, indexes: str, sample_index: Path) -> None:
    with Searcher(sample_index) as searcher:
        expected = searcher.search("my tap drips", k=3)
    answer = json.loads(run("query", "my tap drips", "-k", "3", "--json", "--indexes", indexes).stdout)
    assert list(answer) == ["query", "index", "model", "took_ms", "hits"]
    assert answer["query"] == "my tap drips"
    assert [list(hit) for hit in answer["hits"]] == [HIT_KEYS] * 3
    assert [hit["path"] for hit in answer["hits"]] == [hit.path for hit in expected]
    done = run("query", "my tap drips", "-k", "3", "--jsonl", SEMSEARCH_INDEXES=indexes)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == [hit.text for hit in expected]


def test_the_precision_is_recorded(run: Run) -> None:
    for precision in ("float32", "bfloat16"):
        done = run("index", CORPUS / "home", "--name", precision, "--precision", precision, "--json")
        assert json.loads(done.stdout)["precision"] == precision, done.stderr
        assert json.loads(run("info", precision, "--json").stdout)["precision"] == precision
        assert "dripping-tap" in run("query", "how to repair a leaky faucet", "-k", "1", "-i", precision).stdout
    fails(run("index", CORPUS / "home", "--precision", "float8"), 2, "float8", "bfloat16")
    fails(run("index", CORPUS / "home", "--device", "cuda", "--name", "gpu"), 2, "cuda", "use cpu")


def test_control_characters_of_a_document_never_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "evil.txt").write_text("harmless \x1b]0;title\x07 text \u202e reversed")
    run("index", tmp_path / "evil.txt")
    done = run("query", "harmless")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "\\x1b" in done.stdout


def test_errors_of_query(run: Run, indexes: str, tmp_path: Path, sample_index: Path) -> None:
    fails(run("query", "x"), 3, "no index", "semsearch index")
    fails(run("query", "x", "-i", "nope", "--indexes", indexes), 3, "nope", "sample")
    fails(run("query", "x", "-k", "0", "--indexes", indexes), 2, "-k", "0")
    fails(run("query", " ", "--indexes", indexes), 2, "empty")
    fails(run("query", "--indexes", indexes), 2, "TEXT")
    fails(run("query", "x", "--nonsense"), 2, "--nonsense")
    two = tmp_path / "two"
    for name in ("one", "other"):
        shutil.copytree(sample_index, two / name)
    fails(run("query", "x", "--indexes", two), 3, "one, other", "-i NAME")
    (two / "one" / "index.db").write_bytes(b"x" * 5000)
    fails(run("query", "x", "-i", "one", "--indexes", two), 3, "damaged", "index.db")
    assert "damaged" in run("list", "--indexes", two).stdout


def test_errors_of_index(run: Run, tmp_path: Path) -> None:
    fails(run("index", tmp_path / "nowhere"), 3, "nowhere")
    fails(run("index", tmp_path), 3, "nothing to index")
    (tmp_path / "a.md").write_text("text")
    fails(run("index", tmp_path / "a.md", "--model", "nobody/nothing"), 3, "nobody/nothing", "--model")
    fails(run("index", tmp_path / "a.md", "--name", "a/b"), 2, "a/b")
    fails(run("index", tmp_path / "a.md", tmp_path), 2, "--name")
    (tmp_path / "file").write_text("")
    fails(run("index", tmp_path / "a.md", "--indexes", tmp_path / "file" / "x"), 3, "Not a directory")
    fails(run("delete", "nope", "--yes"), 3, "nope")


@pytest.mark.parametrize("size", [(40, 100), (0, 0)], ids=["sized", "unsized"])
def test_a_terminal_shows_progress(tmp_path: Path, size: tuple[int, int]) -> None:
    terminal, child = pty.openpty()
    termios.tcsetwinsize(child, size)
    command = [sys.executable, "-m", "semsearch", "index", str(CORPUS / "home")]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=child)
    os.close(child)
    shown = b""
    try:
        while some := os.read(terminal, 4096):
            shown += some
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    assert process.wait() == 0
    assert b"100%" in shown
    assert b"8/8 files" in shown
    assert b"passages/s" in shown


def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "notes"
    source.mkdir()
    for number in range(400):
        (source / f"{number}.txt").write_text("A paragraph of many different words. " * 60)
    command = [sys.executable, "-m", "semsearch", "index", str(source)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # Tests run in the background inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "indexes" / "notes" / "index.db").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.count("\n") == 1
    assert "interrupted" in stderr
    assert not (tmp_path / "indexes" / "notes").exists()


def test_without_a_command_it_helps(run: Run) -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run("--help").stdout


def test_every_command_is_documented(run: Run) -> None:
    readme = (CORPUS.parent.parent / "README.md").read_text(encoding="utf-8")
    listed = run("--help").stdout.split("Commands:")[1].split("\n")
    commands = [line.split()[0] for line in listed if line.strip()]
    assert (
        commands
        == "compact delete eval export formats import index info list mcp query serve show similar verify watch".split()
    )
    for command in commands:
        assert f"semsearch {command}" in readme
