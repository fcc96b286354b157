"""What `semsearch index` can be told about reading, `show`, `formats`, and what it asks before it does much."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CORPUS, Run
from test_cli import fails

from semsearch import Document, Indexer, Searcher, Settings
from semsearch.corpus.formats import FORMATS, format_of
from semsearch.errors import InvalidInputError, UnreadableFileError

STORY = "\n\n".join(
    f"The {word} gardener waters the roses on {word} street before the sun is up, and sings."
    for word in "first second third fourth fifth sixth seventh eighth ninth tenth".split()
)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "drafts").mkdir(parents=True)
    (folder / "tap.md").write_text(
        "# The tap\n\n## Tools\n\nA spanner and a washer.\n\n## Steps\n\nClose the stopcock.\n"
    )
    (folder / "story.txt").write_text(STORY)
    (folder / "drafts" / "idea.md").write_text("An idea about roses.")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    for path in folder.rglob("*.*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))  # not so new that its time cannot be trusted
    return folder


def paths_of(index: Path) -> set[str]:
    with Searcher(index) as searcher:
        return {hit.path for hit in searcher.search("anything", k=100)}


def test_an_index_remembers_how_it_is_read(notes: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    Indexer(index, settings=Settings(exclude=("drafts/",), chunk_tokens=32)).update(notes)
    assert paths_of(index) == {"tap.md", "story.txt"}
    with Searcher(index) as searcher:
        small = searcher.search("roses", k=100, per_document=None)
    again = Indexer(index).update(notes)
    assert (again.files_unchanged, again.passages_embedded, again.generation) == (2, 0, 1)
    larger = Indexer(index, settings=Settings(chunk_tokens=128)).update(notes)
    assert (larger.files_changed, larger.files_removed, larger.passages < len(small)) == (2, 0, True)
    assert paths_of(index) == {"tap.md", "story.txt"}
    included = Indexer(index, settings=Settings(exclude=(), include=("*.md",))).update(notes)
    assert (included.files_added, included.files_removed) == (1, 1)
    assert paths_of(index) == {"tap.md", "drafts/idea.md"}
    assert Indexer(index).update(notes, rebuild=True).files_indexed == 3


def test_other_settings_for_records_read_them_again(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    table = tmp_path / "source" / "animals.csv"
    table.write_text("animal,says,colour\ncat,a soft meow,black\ndog,a loud bark,brown\n")
    index = tmp_path / "index"
    Indexer(index).update(table)
    Indexer(index, settings=Settings(text_field="says", title_field="animal")).update(table)
    with Searcher(index) as searcher:
        hits = searcher.search("barking", k=2)
    assert [(hit.title, hit.text, hit.metadata["colour"], hit.line_start) for hit in hits] == [
        ("dog", "a loud bark", "brown", 3),
        ("cat", "a soft meow", "black", 2),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(chunk_tokens=3),
        Settings(chunk_tokens=9999),
        Settings(overlap=-1),
        Settings(chunk_tokens=64, overlap=17),
    ],
)
def test_settings_that_cannot_be_used_change_nothing(settings: Settings, notes: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"must be \d+ to \d+"):
        Indexer(tmp_path / "index", settings=settings).update(notes)
    Indexer(tmp_path / "index").update(notes)
    with pytest.raises(InvalidInputError, match=r"must be \d+ to \d+"):
        Indexer(tmp_path / "index", settings=settings).update(notes)
    assert len(paths_of(tmp_path / "index")) == 3


def test_a_hit_of_a_file_that_has_changed_is_stale(notes: Path, tmp_path: Path, run: Run) -> None:
    Indexer(tmp_path / "indexes" / "notes").update(notes)

    def stale() -> dict[str, bool]:
        with Searcher(tmp_path / "indexes" / "notes") as searcher:
            return {hit.path: hit.stale for hit in searcher.search("roses", k=10)}

    assert stale() == {"tap.md": False, "story.txt": False, "drafts/idea.md": False}
    os.utime(notes / "tap.md")  # its time alone is another
    (notes / "story.txt").write_text(STORY.replace("roses", "tulip"))
    (notes / "drafts" / "idea.md").unlink()
    assert stale() == {"tap.md": False, "story.txt": True, "drafts/idea.md": True}
    done = run("query", "roses", "--indexes", tmp_path / "indexes")
    assert done.stdout.count("changed since") == 2
    shown = run("show", "story.txt:1", "--indexes", tmp_path / "indexes")
    assert "has changed since" in shown.stdout


def test_given_documents_are_never_stale(tmp_path: Path) -> None:
    Indexer(tmp_path / "index").update([Document("a", "roses", "A")])
    with Searcher(tmp_path / "index") as searcher:
        assert not searcher.search("roses")[0].stale


def test_show_gives_a_passage_in_its_surroundings(notes: Path, tmp_path: Path, run: Run) -> None:
    indexes = tmp_path / "indexes"
    Indexer(indexes / "notes", settings=Settings(chunk_tokens=48)).update(notes)
    whole = run("show", "story.txt:9", "-C", "100", "--indexes", indexes)
    assert STORY in whole.stdout, "with enough around it, it is the document"
    one = json.loads(run("show", "story.txt:9", "--json", "-C", "0", "--indexes", indexes).stdout)
    assert one["line_start"] <= 9 <= one["line_end"]
    assert (one["before"], one["after"]) == ("", "")
    assert one["text"] in STORY
    by_id = json.loads(run("show", str(one["id"]), "--json", "-C", "0", "--indexes", indexes).stdout)
    assert by_id == one
    from_here = run("show", "story.txt:9", "--json", "-C", "0", "--indexes", indexes, cwd=notes)
    assert json.loads(from_here.stdout) == one
    below = run("show", "idea.md", "--indexes", indexes, cwd=notes / "drafts")
    assert "An idea about roses." in below.stdout
    fails(run("show", "nothing.md:3", "--indexes", indexes), 2, "nothing.md:3")
    fails(run("show", "999999", "--indexes", indexes), 2, "999999")


def test_a_dry_run_says_what_would_be_done_and_does_nothing(notes: Path, tmp_path: Path, run: Run) -> None:
    done = run("index", notes, "--dry-run")
    assert done.returncode == 0
    assert "to index 3 files" in done.stdout
    assert "about" in done.stdout
    assert "unsupported type .png: 1" in done.stdout
    assert not (tmp_path / "cwd" / "indexes").exists()
    run("index", notes)
    (notes / "tap.md").write_text("changed")
    (notes / "story.txt").unlink()
    plan = json.loads(run("index", notes, "--dry-run", "--json").stdout)
    assert (plan["files"], plan["bytes"], plan["unchanged"], plan["removed"]) == (1, 7, 1, 1)
    assert plan["formats"] == {"Markdown": [1, 7]}
    assert plan["skipped"] == {"unsupported type .png": 1}
    assert plan["seconds"] > 0


def test_much_is_asked_about(notes: Path, tmp_path: Path) -> None:
    code = (
        "import sys, semsearch.cli, semsearch.cli.indexing as indexing\n"
        "indexing._MANY_FILES = 2\n"
        "sys.argv = ['semsearch', 'index', *sys.argv[1:]]\n"
        "semsearch.cli.main()"
    )

    def index(*arguments: str, answer: str | None = None) -> tuple[int, str]:
        command = [sys.executable, "-c", code, str(notes), *arguments]
        if answer is None:
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            return done.returncode, done.stderr
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            command, cwd=tmp_path, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            os.write(ours, answer.encode())
            _, errors = process.communicate(timeout=120)
        os.close(ours)
        os.close(theirs)
        return process.returncode, errors

    code_, errors = index()
    assert code_ == 2
    assert "to index 3 files" in errors
    assert "--yes" in errors
    code_, errors = index(answer="n\n")
    assert code_ == 130
    assert "Index all of" in errors
    assert not (tmp_path / "indexes").exists()
    assert index(answer="y\n")[0] == 0
    assert index()[0] == 0, "what is there already is not asked about again"
    shutil.rmtree(tmp_path / "indexes")
    assert index("--yes")[0] == 0


def test_stdin_is_a_document(tmp_path: Path) -> None:
    def index(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "semsearch", "index", "-", *arguments]
        return subprocess.run(command, cwd=tmp_path, input=data, capture_output=True)

    assert index("Die Straße ist naß.".encode("latin-1")).returncode == 0
    with Searcher(tmp_path / "indexes" / "stdin") as searcher:
        assert [(hit.path, hit.text) for hit in searcher.search("street")] == [("stdin", "Die Straße ist naß.")]
    assert index(b"another", "--name", "other").returncode == 0
    for data in (b"", b"\x89PNG\r\n\x1a\n\0\0\0"):
        done = index(data)
        assert done.returncode == 2
        assert done.stderr.startswith(b"error: what comes in on stdin cannot be read")
    assert index(b"x", "--dry-run").returncode == 2


def test_sizes_and_globs_are_checked(notes: Path, run: Run) -> None:
    fails(run("index", notes, "--max-file-size", "ten"), 2, "'ten'", "10M")
    fails(run("index", notes, "--include", "!x"), 2, "!x")
    done = run("index", notes, "--max-file-size", "30", "--json")
    skipped = {one["path"]: one["reason"] for one in json.loads(done.stdout)["skipped"]}
    assert skipped["story.txt"] == f"{len(STORY)} bytes is over the limit of 30 bytes"


def test_formats_are_listed(run: Run) -> None:
    listed = json.loads(run("formats", "--json").stdout)["formats"]
    assert [one["name"] for one in listed] == [one.name for one in FORMATS]
    assert all(one["readable"] for one in listed)
    assert run("formats").stdout.count("\n") == len(FORMATS)


def test_a_format_whose_library_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semsearch.corpus.formats.find_spec", lambda name: None)
    with pytest.raises(UnreadableFileError, match=r"needs the extra `documents`: pip install 'semsearch\[documents\]'"):
        format_of("a.pdf")
    assert format_of("a.md").name == "Markdown"


def test_no_suffix_has_two_formats() -> None:
    suffixes = [suffix for one in FORMATS for suffix in one.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() for suffix in suffixes)


def test_the_sample_corpus_is_read_by_processes_as_it_is_here(tmp_path: Path) -> None:
    summary = Indexer(tmp_path / "index").update(CORPUS)
    assert summary.files_indexed == sum(path.is_file() for path in CORPUS.rglob("*"))
