"""What happens where the disk refuses: folders that may not be written, and a file system that is full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run


@pytest.fixture
def ordinary_user() -> list[str]:
    """What to run a command under so that permissions count, as they do not for root."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("run as root, and there is no setpriv to give its rights up")
    dropped = "-dac_override,-dac_read_search"
    return ["setpriv", "--bounding-set", dropped, "--inh-caps", dropped]


@pytest.fixture
def indexes(sample_index: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with one index, none of which may be written."""
    indexes = tmp_path / "indexes"
    shutil.copytree(sample_index, indexes / "sample")
    for path in [indexes, *indexes.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield indexes
    for path in [indexes, *indexes.rglob("*")]:
        path.chmod(0o755)


def fails(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_a_folder_that_may_not_be_written(run: Run, ordinary_user: list[str], indexes: Path, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("about apples")
    done = run("index", tmp_path / "a.md", "--indexes", indexes, under=ordinary_user)
    fails(done, "Permission denied", str(indexes / "a"), "may write")
    assert [path.name for path in indexes.iterdir()] == ["sample"]


def test_an_index_that_may_not_be_written_answers_and_is_kept(
    run: Run, ordinary_user: list[str], indexes: Path, tmp_path: Path
) -> None:
    (tmp_path / "sample.md").write_text("about apples")
    before = sorted(path for path in indexes.rglob("*"))
    for arguments in (("index", tmp_path / "sample.md"), ("delete", "sample", "--yes")):
        fails(run(*arguments, "--indexes", indexes, under=ordinary_user), "sample", "may write")
    done = run("query", "my tap drips", "-k", "1", "--json", "--indexes", indexes, under=ordinary_user)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hits"][0]["path"] == "home/dripping-tap.md"
    assert run("info", "sample", "--indexes", indexes, under=ordinary_user).returncode == 0
    assert sorted(path for path in indexes.rglob("*")) == before


def test_a_log_that_cannot_be_applied_is_not_passed_over(run: Run, ordinary_user: list[str], indexes: Path) -> None:
    log = indexes / "sample" / "index.db-wal"
    log.parent.chmod(0o755)
    log.with_name("index.db-shm").unlink(missing_ok=True)  # of earlier readers; SQLite would try anew for 10 seconds
    log.write_bytes(b"x" * 100)
    log.parent.chmod(0o555)
    fails(run("query", "taps", "--indexes", indexes, under=ordinary_user), "index.db-wal", "may write")


def test_files_that_may_not_be_read_are_skipped(run: Run, ordinary_user: list[str], tmp_path: Path) -> None:
    source = tmp_path / "notes"
    (source / "secret").mkdir(parents=True)
    for name in ("a.md", "b.md", "secret/c.md"):
        (source / name).write_text(f"about {name}")
    (source / "b.md").chmod(0)
    (source / "secret").chmod(0)
    done = run("index", source, "--json", "--verbose", under=ordinary_user)
    (source / "secret").chmod(0o755)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["files_found"], summary["files_indexed"], summary["files_skipped"]) == (2, 1, 1)
    assert done.stderr.splitlines() == [
        "skipped b.md: cannot be read: Permission denied",
        "skipped secret/: cannot be listed: Permission denied",
    ]


def test_a_full_file_system_costs_nothing_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "notes" / "a.md").write_text("about apples")
    (tmp_path / "many.txt").write_text(
        "\n\n".join(f"Paragraph {i}. " + "Words of all kinds. " * 20 for i in range(400))
    )
    # A file system of its own for these commands alone; it is gone when they have ended.
    script = f"""
        mount -t tmpfs -o size=300k none disk || exit 77
        semsearch() {{ {sys.executable} -m semsearch "$@" --indexes disk; }}
        semsearch index notes || exit 1
        semsearch index many.txt; echo "new: $?"; ls disk
        mv many.txt notes
        semsearch index notes; echo "again: $?"; ls disk/notes/segments | wc -l
        semsearch query apples --jsonl
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    if "unshare" in done.stderr or done.returncode == 77:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    lines = done.stdout.splitlines()
    assert lines[1:5] == ["new: 3", "notes", "again: 3", "1"], done
    assert json.loads(lines[5])["path"] == "a.md"
    assert len(done.stderr.splitlines()) == 2
    for line in done.stderr.splitlines():
        assert line.startswith("error: ")
        assert "full" in line or "No space left" in line
        assert "free some space" in line
