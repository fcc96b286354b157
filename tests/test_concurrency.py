"""Readers and writers of one index at the same time, each a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from checkpoints import small_checkpoint

from semsearch import Document, Encoder, Indexer, Searcher, SemsearchError
from semsearch.store.lexical import LexicalReader
from semsearch.store.verify import verify

COMMITS = 60
# Answers until the file `stop` is there: of how many generations, and each answer that mixed some.
READER = """
import json, sys
from pathlib import Path
from semsearch import Encoder, Searcher
index, model, stop = sys.argv[1:]
encoder = Encoder(model)
seen, mixed, last = set(), [], 0
while True:
    ending = Path(stop).exists()
    with Searcher(index, model=encoder) as searcher:
        for _ in range(2):  # the second time others may have committed meanwhile
            hits = searcher.search("which generation", k=20, per_document=None)
            generations = {hit.text.split()[-1] for hit in hits}
            paths = sorted(hit.path for hit in hits)
            if len(generations) != 1 or paths != sorted(set(paths)) or len(paths) != 5:
                mixed.append([sorted(generations), paths])
        now = int(generations.pop())
        if now < last:
            mixed.append([last, now])
        seen.add(now)
        last = now
    if ending:
        break
print(json.dumps([len(seen), last, mixed]))
"""
WRITER = """
import sys, time
from pathlib import Path
from semsearch import Document, Encoder, Indexer
from semsearch.errors import IndexLockedError
index, model, name, ready, start = sys.argv[1:]
encoder = Encoder(model)
encoder.encode(["warm"])
Path(ready).touch()
while not Path(start).exists():
    time.sleep(0.001)
try:
    Indexer(index, model=encoder).update([Document(f"{name}/{i}", f"well {i} of {name}", "W") for i in range(300)])
    print("won")
except IndexLockedError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"), "bert")


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def generation(number: int) -> list[Document]:
    return [Document(f"{i}", f"The part {i} is of generation {number}", "Part") for i in range(5)]


@pytest.mark.slow
def test_every_answer_is_of_one_generation(tmp_path: Path, model: Path) -> None:
    index, stop = tmp_path / "index", tmp_path / "stop"
    indexer = Indexer(index, model=Encoder(str(model)))
    indexer.update(generation(0))
    readers = [start(READER, index, model, stop) for _ in range(4)]
    try:
        for number in range(1, COMMITS + 1):
            if number % 7 == 0:
                indexer.compact()
            indexer.update(generation(number))
            died = [reader.communicate()[1] for reader in readers if reader.poll() is not None]
            assert not died, died[0]
        stop.touch()
        seen = 0
        for reader in readers:
            output, errors = reader.communicate(timeout=120)
            assert reader.returncode == 0, errors
            generations, last, mixed = json.loads(output)
            assert (last, mixed) == (COMMITS, [])
            seen += generations
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
    assert seen > 20, "they did read while it was written"
    assert list(verify(index)) == []


def test_a_writer_may_remove_what_is_being_opened(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, encoder = tmp_path / "index", Encoder(str(model))
    indexer = Indexer(index, model=encoder)
    indexer.update(generation(0))
    opened, left = LexicalReader._open, [*range(1, 6)]

    def removed_meanwhile(reader: LexicalReader, folders: Any) -> object:
        if not left:
            return opened(reader, folders)
        listed = (reader._folder / "meta.json").read_bytes()
        indexer.update(generation(left.pop(0)))
        # As far as the writer came when it was looked at.
        reader._folder.mkdir(parents=True)
        (reader._folder / "meta.json").write_bytes(listed)
        return opened(reader, folders)

    monkeypatch.setattr(LexicalReader, "_open", removed_meanwhile)
    with Searcher(index, model=encoder) as searcher:
        hits = searcher.search("which generation", k=20, per_document=None)
    assert {hit.text for hit in hits} == {f"The part {i} is of generation 5" for i in range(5)}


def test_of_many_writers_one_wins(tmp_path: Path, model: Path) -> None:
    index = tmp_path / "index"
    Indexer(index, model=Encoder(str(model))).update(generation(0))
    ready, begin = [tmp_path / f"ready{i}" for i in range(8)], tmp_path / "begin"
    writers = [start(WRITER, index, model, f"writer{i}", ready[i], begin) for i in range(8)]
    deadline = time.monotonic() + 60
    while not all(one.exists() for one in ready) and time.monotonic() < deadline:
        time.sleep(0.01)
    begin.touch()
    said = [writer.communicate(timeout=120) for writer in writers]
    assert all(writer.returncode == 0 for writer in writers), said
    assert any(output == "won\n" for output, _ in said)
    for output, _ in said:
        assert output == "won\n" or "is writing the index" in output
    assert list(verify(index)) == []
    with Searcher(index, model=Encoder(str(model))) as searcher:
        won = {hit.path.split("/")[0] for hit in searcher.search("well", k=10_000) if "/" in hit.path}
    assert len(won) == sum(output == "won\n" for output, _ in said)


@pytest.mark.slow
def test_a_copy_made_while_it_was_written(tmp_path: Path, model: Path) -> None:
    """Whatever state it caught, it answers wholly of one generation or gives an error."""
    index, encoder = tmp_path / "index", Encoder(str(model))
    Indexer(index, model=encoder).update(generation(0))
    code = (
        "import sys\nfrom semsearch import Document, Encoder, Indexer\n"
        "indexer = Indexer(sys.argv[1], model=Encoder(sys.argv[2]))\nnumber = 0\n"
        "while True:\n    number += 1\n    indexer.update([Document(f'{i}', f'The part {i} is of generation {number}',"
        " 'Part') for i in range(5)])"
    )
    writer = start(code, index, model)
    answered = refused = 0
    try:
        deadline = time.monotonic() + 60
        while answered + refused < 60 and time.monotonic() < deadline:
            copy = tmp_path / "copy"
            try:
                shutil.copytree(index, copy)
            except shutil.Error:  # a file went away in between
                shutil.rmtree(copy, ignore_errors=True)
                continue
            try:
                with Searcher(copy, model=encoder) as searcher:
                    hits = searcher.search("which generation", k=20, per_document=None)
                assert len({hit.text.split()[-1] for hit in hits}) == 1
                assert sorted(hit.path for hit in hits) == ["0", "1", "2", "3", "4"]
                answered += 1
            except SemsearchError:
                refused += 1
            shutil.rmtree(copy)
    finally:
        writer.kill()
        writer.communicate()
    assert answered + refused >= 20
    # The original takes no harm.
    Indexer(index, model=encoder).update(generation(10_000))
    assert list(verify(index)) == []
