"""The commands that search, as people and programs use them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CORPUS, Run

from semsearch import Document, Indexer, Searcher


@pytest.fixture
def ask(run: Run, sample_index: Path):  # type: ignore[no-untyped-def]
    def asked(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return run(*arguments, SEMSEARCH_INDEXES=sample_index.parent, **options)

    return asked


def test_modes_and_limits(ask, sample_index: Path) -> None:  # type: ignore[no-untyped-def]
    def hits(*arguments: str) -> list[dict[str, object]]:
        done = ask("query", *arguments, "--json")
        assert done.returncode in (0, 1), done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)["hits"]
        return found

    with Searcher(sample_index) as searcher:
        for mode in ("hybrid", "dense", "lexical"):
            expected = searcher.search("dripping tap", 4, mode=mode)
            assert [hit["id"] for hit in hits("dripping tap", "-k", "4", "--mode", mode)] == [
                hit.id for hit in expected
            ]
        best = searcher.search("dripping tap", 4)
    assert len(hits("dripping tap", "--min-score", str(best[1].score - 1e-6))) == 2
    assert hits("dripping tap", "--min-score", "99") == []
    paths = [hit["path"] for hit in hits("dripping tap", "--per-document", "3", "-k", "8")]
    assert max(paths.count(path) for path in paths) == 3
    assert {hit["path"] for hit in hits('"older tap"')} == {"home/dripping-tap.md"}


def test_what_a_person_sees(ask) -> None:  # type: ignore[no-untyped-def]
    done = ask("query", "dripping tap", "-k", "2", "--explain")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "dripping-tap.md:" in lines[0]
    assert re.search(r"cosine 0\.\d{3}  moved_cosine .* bm25 \d", lines[1])
    passage = re.search(r"dripping-tap\.md:(\d+)", lines[0])
    assert passage
    done = ask("query", "dripping tap", "-k", "1", "-C", "3")
    source = (CORPUS / "home" / "dripping-tap.md").read_text(encoding="utf-8").splitlines()
    shown = [line for line in done.stdout.splitlines()[1:] if line.strip()]
    assert set(shown) <= set(source), "whole lines of the file"
    assert len(shown) > 3


def test_many_queries_at_once(ask, sample_index: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plain = tmp_path / "queries.txt"
    plain.write_text("my tap drips\n\nhay fever\n")
    single = [json.loads(ask("query", text, "--json").stdout)["hits"] for text in ("my tap drips", "hay fever")]
    done = ask("query", "--queries", plain, "--jsonl")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["query_id"], line["query"], line["id"]) for line in lines] == [
        (key, text, hit["id"])
        for key, text, hits in zip("13", ("my tap drips", "hay fever"), single, strict=True)
        for hit in hits
    ]
    records = tmp_path / "queries.jsonl"
    records.write_text('{"_id": "a b", "text": "my tap drips"}\n{"_id": "q2", "text": "hay fever"}\n')
    done = ask("query", "--queries", records, "--trec", "-k", "3")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["a_b"] * 3 + ["q2"] * 3
    assert [row[2] for row in rows[:3]] == [hit["path"] for hit in single[0][:3]]
    assert [row[3] for row in rows] == list("123123")
    assert {(len(row), row[1], row[5]) for row in rows} == {(6, "Q0", "semsearch-hybrid")}
    done = ask("query", "--queries", records, "--json")
    assert [one["id"] for one in json.loads(done.stdout)["queries"]] == ["a b", "q2"]
    done = ask("query", "--queries", plain)
    assert "## hay fever" in done.stdout
    piped = subprocess.run(
        [sys.executable, "-m", "semsearch", "query", "--queries", "-", "--jsonl", "-k", "1"],
        env={**os.environ, "SEMSEARCH_INDEXES": str(sample_index.parent)},
        input="my tap drips\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(piped.stdout)["path"] == "home/dripping-tap.md"


def test_similar(ask, sample_index: Path) -> None:  # type: ignore[no-untyped-def]
    done = ask("similar", "home/dripping-tap.md", "-k", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["similar_to"], len(found["hits"])) == ("home/dripping-tap.md", 3)
    assert all(hit["path"] != "home/dripping-tap.md" for hit in found["hits"])
    at_line = ask("similar", "home/dripping-tap.md:7", "-k", "3", "--jsonl")
    assert len(at_line.stdout.splitlines()) == 3
    assert ask("similar", "home/dripping-tap.md").stdout.count("\n\n") == 10


def test_similar_needs_no_model(run: Run, tmp_path: Path) -> None:
    """Of an index whose model is not here any more; and torch is not loaded."""
    from checkpoints import small_checkpoint

    model = small_checkpoint(tmp_path / "model", "bert")
    Indexer(tmp_path / "indexes" / "wells", model=str(model)).update(
        Document(f"{n}.md", f"well number {n}", "") for n in range(5)
    )
    model.rename(tmp_path / "gone")
    assert run("query", "well", cwd=tmp_path).returncode == 3
    done = run("similar", "3.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code = (
        "import sys\nfrom pathlib import Path\nfrom semsearch.query.similar import similar\n"
        "assert len(similar(Path('indexes/wells'), '3.md')) == 4\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["query"], "give TEXT, or --queries FILE"),
        (["query", "x", "--queries", "f"], "not both"),
        (["query", "x", "--json", "--jsonl"], "exclude each other"),
        (["query", "x", "--mode", "sparse"], "'sparse' is not one of"),
        (["query", "x", "-C", "-1"], "--context must be 0 or more, got -1"),
        (["query", "x", "--per-document", "0"], "per_document must be a whole number of at least 1, got 0"),
        (["query", "--queries", "nowhere.txt"], "cannot read 'nowhere.txt'"),
        (["similar", "nowhere.md"], "has nothing at 'nowhere.md'"),
        (["similar", "home/dripping-tap.md", "-k", "0"], "k must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_usage(ask, arguments: list[str], words: str) -> None:  # type: ignore[no-untyped-def]
    done = ask(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\ \x9b31m \u202etxet\u202c \u2066x\u2069 "
    "nul\x00 bell\x07 back\x08\x08 \x7f \ue000 \x01on\x02off \r gone"
)


def test_a_hostile_document_prints_harmlessly(tmp_path: Path) -> None:
    """On a terminal, where colour is on: nothing but colour steers it."""
    Indexer(tmp_path / "indexes" / "bad").update(
        Document(
            f"bad\x1b[31m/{n}\u202e.md", f"## well \x1b[5m {HOSTILE}\n\nA well {HOSTILE} of water {n}.\n" * 3, HOSTILE
        )
        for n in range(3)
    )
    for arguments in (
        ["query", "a well of water", "--explain"],
        ["query", "a well of water", "-C", "5"],
        ["query", "a well of water", "--passages", "--mode", "lexical"],
        ["similar", "1"],
        ["show", "1"],
        ["list"],
        ["info", "bad"],
    ):
        shown = on_a_terminal([sys.executable, "-m", "semsearch", *arguments], tmp_path)
        assert "\x1b[0m" in shown or arguments[0] in ("list", "info"), arguments
        rest = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r\n", "\n")
        steering = {c for c in rest if not c.isprintable() and c not in "\n\t"}
        assert not steering, (arguments, steering)
        assert not re.search("\x1b\\[(?![0-9;]*m)", shown)


def on_a_terminal(command: list[str], folder: Path) -> str:
    """All that a command writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        data = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not block:
                break
            data += block
    os.close(ours)
    assert process.returncode == 0, data
    return data.decode("utf-8", "replace")
