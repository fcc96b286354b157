"""Indexes as one file: moved whole, and refused where they are not what semsearch wrote."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CORPUS, Run

from semsearch import Indexer, Searcher, SemsearchError
from semsearch.errors import DamagedIndexError, IndexConflictError, InvalidInputError
from semsearch.store.archive import export_index, import_index
from semsearch.store.verify import verify

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def exported(sample_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "sample.tar"
    export_index(sample_index, path)
    return path


def members(path: Path) -> Members:
    with tarfile.open(path) as archive:
        return [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


def pack(path: Path, content: Members) -> Path:
    with tarfile.open(path, "w") as archive:
        for member, data in content:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data))
    return path


def test_an_index_is_the_same_elsewhere(exported: Path, sample_index: Path, tmp_path: Path) -> None:
    import_index(exported, tmp_path / "copy")
    assert list(verify(tmp_path / "copy")) == []
    with Searcher(tmp_path / "copy") as copy, Searcher(sample_index) as original:
        assert copy.search("my tap drips", k=60) == original.search("my tap drips", k=60)
    names = [member.name for member, _ in members(exported)]
    assert names[:2] == ["index.seal", "index.db"]
    assert [path.name for path in exported.parent.iterdir()] == ["sample.tar"]


def test_an_imported_index_is_updated_like_any(exported: Path, sample_index: Path, tmp_path: Path) -> None:
    import_index(exported, tmp_path / "copy")
    assert Indexer(tmp_path / "copy").update(CORPUS).passages_embedded == 0
    assert Indexer(tmp_path / "copy").remove("home/") == 8
    assert list(verify(tmp_path / "copy")) == []


def test_what_is_there_is_not_overwritten(exported: Path, sample_index: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is there already"):
        export_index(sample_index, exported)
    (tmp_path / "taken").mkdir()
    with pytest.raises(IndexConflictError, match="--name"):
        import_index(exported, tmp_path / "taken")


def link(kind: bytes) -> Callable[[Members], Members]:
    def change(content: Members) -> Members:
        member = tarfile.TarInfo("segments/" + "a" * 32 + ".faiss")
        member.type, member.linkname = kind, "/etc/passwd"
        return [*content, (member, b"")]

    return change


def named(name: str) -> Callable[[Members], Members]:
    return lambda content: [*content, (tarfile.TarInfo(name), b"text")]


def with_trigger(content: Members) -> Members:
    database = sqlite3.connect(":memory:")
    number, (member, data) = next((i, pair) for i, pair in enumerate(content) if pair[0].name == "index.db")
    # The copy is in write-ahead mode, which a database in memory cannot be.
    database.deserialize(data[:18] + b"\1\1" + data[20:])
    database.execute("CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM passages; END")
    database.commit()
    changed = database.serialize()
    return [*content[:number], (member, changed[:18] + b"\2\2" + changed[20:]), *content[number + 1 :]]


def flipped(content: Members) -> Members:
    return [(m, d if m.name == "index.seal" else d[:-9] + bytes([d[-9] ^ 1]) + d[-8:]) for m, d in content]


@pytest.mark.parametrize(
    "change",
    [
        named("../outside"),
        named("/tmp/outside"),
        named("segments/../../outside"),
        named("segments/x.faiss"),
        named("index.db"),
        named("readme.txt"),
        link(tarfile.SYMTYPE),
        link(tarfile.LNKTYPE),
        link(tarfile.DIRTYPE),
        link(tarfile.FIFOTYPE),
        lambda content: content[1:],
        lambda content: content[:1],
        lambda content: content[:-1],
        lambda content: [],
        flipped,
        with_trigger,
    ],
)
def test_strangers_files_are_refused(exported: Path, tmp_path: Path, change: Callable[[Members], Members]) -> None:
    source = pack(tmp_path / "strange.tar", change(members(exported)))
    with pytest.raises(SemsearchError):
        import_index(source, tmp_path / "indexes" / "strange")
    assert list((tmp_path / "indexes").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["indexes", "strange.tar"]


def test_a_trigger_is_named(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(DamagedIndexError, match="other tables|index.db"):
        import_index(pack(tmp_path / "t.tar", with_trigger(members(exported))), tmp_path / "t")


def test_a_file_that_is_cut_off_or_no_archive(exported: Path, tmp_path: Path) -> None:
    data = exported.read_bytes()
    for number, content in enumerate([b"", b"no archive", data[:100], data[: len(data) // 2], b"\x1f\x8b" + data]):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(content)
        with pytest.raises(SemsearchError):
            import_index(path, tmp_path / f"index{number}")
        assert not (tmp_path / f"index{number}").exists()


def test_from_the_command_line(run: Run, sample_index: Path, tmp_path: Path) -> None:
    indexes = tmp_path / "elsewhere"
    done = run("export", "sample", "sample.tar", "--indexes", sample_index.parent)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert run("import", "sample.tar", "--indexes", indexes).returncode == 0
    done = run("query", "my tap drips", "-k", "1", "--json", "--indexes", indexes)
    assert json.loads(done.stdout)["hits"][0]["path"] == "home/dripping-tap.md"
    done = run("import", "sample.tar", "--indexes", indexes)
    assert done.returncode == 3
    assert "--name" in done.stderr
    assert run("import", "sample.tar", "--name", "again", "--indexes", indexes).returncode == 0
    done = run("verify", "again", "--deep", "--indexes", indexes)
    assert done.returncode == 0
    assert "passages embedded anew" in done.stderr
    shutil.rmtree(indexes / "again" / "segments")
    done = run("verify", "again", "--indexes", indexes)
    assert done.returncode == 3
    assert "is missing" in done.stderr
