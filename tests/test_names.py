"""Names of files: whatever bytes they are, they are indexed, found, shown and kept apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st

from semsearch import Indexer, Searcher
from semsearch.store.manifest import path_of, stored_path
from semsearch.store.verify import verify

NAMES = [
    b"caf\xe9.txt",
    b"caf%E9.txt",
    b"100% \xff/b\xe9.md",
    "é.txt".encode(),
    "e\u0301.txt".encode(),
    b"A.txt",
    b"a.txt",
    b"line\nfeed.txt",
    b"tab\t.txt",
    b"esc\x1b[31m.txt",
    b"quote'\".txt",
    b"back\\slash.txt",
    b" spaces .txt",
    b"x" * 251 + b".txt",
    "🙂.txt".encode(),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("names") / "root"
    for number, name in enumerate(NAMES):
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"The lake number {number} is deep and cold.")
        os.utime(path, (1_600_000_000, 1_600_000_000))
    if len(list(root.iterdir())) < len(NAMES):
        pytest.skip("this file system takes different names for one")
    return root


@pytest.fixture(scope="module")
def index(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = tmp_path_factory.mktemp("indexes") / "names"
    summary = Indexer(index).update(folder)
    assert (summary.files_indexed, summary.skipped) == (len(NAMES), ())
    return index


def test_every_name_comes_back_and_opens_its_file(index: Path, folder: Path) -> None:
    with Searcher(index) as searcher:
        hits = searcher.search("a deep lake", k=50)
    assert sorted(os.fsencode(hit.path) for hit in hits) == sorted(NAMES)
    for hit in hits:
        assert (folder / hit.path).read_text() == hit.text
        assert not hit.stale
        hit.title.encode()
    assert {hit.title for hit in hits if hit.path.startswith("caf")} == {"caf\ufffd", "caf%E9"}


def test_names_that_did_not_change_are_unchanged(index: Path, folder: Path) -> None:
    summary = Indexer(index).update(folder)
    assert (summary.files_unchanged, summary.files_added, summary.files_removed) == (len(NAMES), 0, 0)
    assert list(verify(index)) == []


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("path:caf*", {b"caf\xe9.txt", b"caf%E9.txt"}),
        ("path=caf%E9.txt", {b"caf\xe9.txt", b"caf%E9.txt"}),
        ("path:'100%25 %FF/'", {b"100% \xff/b\xe9.md"}),
        ("type:md", {b"100% \xff/b\xe9.md"}),
        ("path:?.txt", {"é.txt".encode(), b"A.txt", b"a.txt", "🙂.txt".encode()}),
        ("path:'/*/*'", {b"100% \xff/b\xe9.md"}),
    ],
)
def test_filters_see_such_bytes_as_escapes(index: Path, condition: str, expected: set[bytes]) -> None:
    with Searcher(index) as searcher:
        assert {os.fsencode(hit.path) for hit in searcher.search("lake", k=50, filter=condition)} == expected


def test_every_name_can_be_printed(run: Run, index: Path, folder: Path) -> None:
    where = ("--indexes", index.parent)
    done = run("query", "lake", *where, "-k", "50", "--json")
    paths = [hit["path"] for hit in json.loads(done.stdout)["hits"]]
    assert sorted(os.fsencode(path) for path in paths) == sorted(NAMES)
    done = run("query", "lake", *where, "-k", "50")
    assert done.returncode == 0
    assert "caf\\udce9.txt:1" in done.stdout
    assert "esc\\x1b[31m.txt:1" in done.stdout
    assert "line\\nfeed.txt:1" in done.stdout
    assert "\x1b" not in done.stdout
    assert run("verify", "names", *where).returncode == 0


def test_names_that_cannot_be_read_are_printed_as_escapes(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / os.fsdecode(b"\xe9\x1b[31m\n.zip")).write_text("x")
    done = run("index", root)
    assert done.returncode == 3
    assert "\\udce9\\x1b[31m" in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1
    (root / "a.txt").write_text("text")
    done = run("index", root, "--verbose", "--json")
    assert "skipped \\udce9\\x1b[31m\\n.zip: unsupported type .zip\n" in done.stderr
    assert os.fsencode(json.loads(done.stdout)["skipped"][0]["path"]) == b"\xe9\x1b[31m\n.zip"


def test_a_file_and_a_folder_of_such_a_name_are_sources_and_can_be_removed(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    root.mkdir()
    for name in (b"\xe9.txt", b"a.txt"):
        (root / os.fsdecode(name)).write_text("text")
    indexer = Indexer(tmp_path / "index")
    assert indexer.update(root).files_added == 2
    assert indexer.update(root).files_unchanged == 2
    assert indexer.remove(os.fsdecode(b"\xe9.txt")) == 1
    with Searcher(tmp_path / "index") as searcher:
        assert [hit.path for hit in searcher.search("text")] == ["a.txt"]


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name and not name.startswith(b"/")))
def test_a_path_is_stored_as_text_and_comes_back(name: bytes) -> None:
    path = os.fsdecode(name)
    stored = stored_path(path)
    stored.encode()
    assert path_of(stored) == path
    assert stored == path or stored.startswith("/")
