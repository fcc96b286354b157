"""Writers that are killed, lose power, or meet a failing disk, at every call by which they change an index.

By default some of the points are tried; `pytest --all-points tests/test_crash.py` tries each of them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from checkpoints import small_checkpoint
from faults.faults import STICKY, Host, Mode, Outcome, library

from semsearch import Encoder, Indexer, Searcher
from semsearch.errors import IndexNotFoundError
from semsearch.store.verify import verify

SETUP = """
import faiss, numpy, sqlite3, filelock
from semsearch import Encoder, Indexer
from semsearch.indexer import update
from semsearch.store import compaction, database, writer
update._AHEAD = 8
update.PART_ROWS = PART_ROWS
encoder = Encoder(MODEL, precision="float32")
encoder.encode(["warm"])

def job(index, source):
    summary = Indexer(index, model=encoder).update(source)
    return [summary.generation, summary.passages]
"""
PART_ROWS = 8
# What the points are tried of: (mode, seed).
KINDS = [
    (Mode.KILL_BEFORE, 0),
    (Mode.KILL_AFTER, 0),
    *((Mode.POWER, seed) for seed in range(4)),
    (Mode.ENOSPC, 0),
    (Mode.ENOSPC, STICKY),
    (Mode.EIO, 0),
    (Mode.EIO, STICKY),
    (Mode.SHORT, 0),
]
KILLED = (Mode.KILL_BEFORE, Mode.KILL_AFTER, Mode.POWER)
Hits = dict[tuple[str, int, str], float]


@dataclass(frozen=True)
class Case:
    """An index of `old`, to be updated from `new`: what each answers, and what the update calls."""

    host: Host
    encoder: Encoder
    folder: Path
    calls: int
    old: Hits | None
    new: Hits

    @property
    def index(self) -> Path:
        return self.folder / "index"

    def restore(self) -> None:
        shutil.rmtree(self.index, ignore_errors=True)
        if self.old is None:
            self.index.mkdir()
        else:
            shutil.copytree(self.folder / "base", self.index)

    def run(self, at: int, mode: Mode, seed: int = 0) -> Outcome:
        self.restore()
        return self.host.run(self.index, at, mode, seed, index=self.index, source=self.folder / "notes")

    def hits(self) -> Hits | None:
        try:
            with Searcher(self.index, model=self.encoder) as searcher:
                hits = searcher.search("water", k=1000, per_document=None)
        except IndexNotFoundError:
            return None
        return {(hit.path, hit.char_start, hit.text): hit.score for hit in hits}


def write_notes(folder: Path, *, new: bool) -> None:
    """Files of two points in time: of the later one is moved, one edited, one gone and one added."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number in range(6):
        text = "\n\n".join(
            f"## Part {part}\n\nIn year {number} the well gave water, {part} litres." for part in range(5)
        )
        name = "moved.md" if new and number == 1 else f"{number}.md"
        if new and number == 2:
            text = text.replace("3 litres", "thirty litres")
        if not (new and number == 3):
            (folder / name).write_text(f"# Wells\n\n{text}")
    if new:
        (folder / "added.md").write_text("# Rain\n\nRain was rare.\n\n## Snow\n\nSnow was not seen at all that winter.")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"), "bert")


@pytest.fixture(scope="module", params=["update", "first build", "most deleted"])
def case(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("crash")
    encoder = Encoder(str(model), precision="float32")
    old = None
    with Host(library(folder), f"MODEL, PART_ROWS = {str(model)!r}, {PART_ROWS}\n{SETUP}") as host:
        case = Case(host, encoder, folder, 0, None, {})
        if request.param != "first build":
            write_notes(folder / "notes", new=False)
            Indexer(folder / "base", model=encoder).update(folder / "notes")
            shutil.copytree(folder / "base", folder / "index")
            old = case.hits()
            assert old
        write_notes(folder / "notes", new=True)
        if request.param == "most deleted":
            for number in (0, 4, 5):
                (folder / "notes" / f"{number}.md").unlink()
        case = Case(host, encoder, folder, 0, old, {})
        outcome = case.run(0, Mode.COUNT)
        assert outcome.status == 0, outcome
        new = case.hits()
        assert new
        assert new != old
        yield Case(host, encoder, folder, outcome.calls, old, new)


def equal(some: Hits | None, others: Hits | None) -> bool:
    if some is None or others is None:
        return some is others
    return some.keys() == others.keys() and np.allclose([some[k] for k in some], [others[k] for k in some], atol=1e-5)


def check(case: Case, mode: Mode, point: tuple[object, ...]) -> None:
    """Either generation answers exactly, what is there is sound, and the next run goes on from there."""
    hits = case.hits()
    assert equal(hits, case.old) or equal(hits, case.new), point
    if hits is not None:
        assert list(verify(case.index)) == [], point
    parts = len(list(case.index.rglob("*.part")))
    summary = Indexer(case.index, model=case.encoder).update(case.folder / "notes")
    assert equal(case.hits(), case.new), point
    assert list(verify(case.index)) == [], point
    if mode in (Mode.KILL_BEFORE, Mode.KILL_AFTER) and case.old is None:
        # Of the last part only a piece may be there.
        assert summary.passages_embedded <= summary.passages - PART_ROWS * (parts - 1), point
    assert len(list((case.index / "lexical").iterdir())) == 1, point  # and `verify` has looked into it
    left = {path.suffix for path in case.index.rglob("*") if path.is_file() and "lexical" not in path.parts}
    assert left <= {".faiss", ".db", ".seal", ".lock", ".db-shm", ".db-wal"}, point


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "seed"), KINDS, ids=lambda value: getattr(value, "name", str(value)))
def test_a_fault_at_any_call(case: Case, mode: Mode, seed: int, request: pytest.FixtureRequest) -> None:
    stride = 1 if request.config.getoption("--all-points") else 23
    tried = 0
    for at in range(1 + (KINDS.index((mode, seed)) * 5) % stride, case.calls + 2, stride):
        outcome = case.run(at, mode, seed)
        point = (mode.name, seed, at, outcome)
        assert outcome.status != "hang", point
        if mode in KILLED:
            assert outcome.status in (-9, 0), point
            if outcome.value is not None:
                assert equal(case.hits(), case.new), point
        elif outcome.status != 0:
            # A clear error, and the old generation as it was; a part of an error may have passed unnoticed.
            assert outcome.error.startswith(("StorageError", "DamagedIndexError")), point
        check(case, mode, point)
        tried += 1
    assert tried >= case.calls // stride
    logging.getLogger(__name__).info("%d points of %d calls, %s %d", tried, case.calls, mode.name, seed)
