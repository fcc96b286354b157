"""Searching in processes of their own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from serving import assert_same, dicts

from semsearch import Searcher
from semsearch.errors import IndexNotFoundError, InvalidInputError
from semsearch.server import searching
from semsearch.server.searching import BusyError, SearchProcesses

QUERIES = ["how to repair a leaky faucet", "remedies for allergies"]


@pytest.fixture
def processes(sample_index: Path) -> Iterator[SearchProcesses]:
    with closing(SearchProcesses(1, (sample_index.parent, [sample_index.name, "none"], None, None))) as started:
        yield started


def answer(processes: SearchProcesses, index: Path) -> None:
    found = processes.search(index.name, QUERIES, {"k": 3, "mode": "dense"})
    with Searcher(index) as searcher:
        assert found.model == searcher.model
        for hits, query in zip(found.hits, QUERIES, strict=True):
            assert_same(json.loads(hits), dicts(searcher.search(query, 3, mode="dense")))


def number_of(processes: SearchProcesses) -> int:
    (process,) = processes._processes
    assert process._process.pid
    return process._process.pid


def test_they_give_what_a_searcher_gives(processes: SearchProcesses, sample_index: Path) -> None:
    answer(processes, sample_index)
    with pytest.raises(IndexNotFoundError, match="no index at"):
        processes.search("none", QUERIES, {})
    with pytest.raises(InvalidInputError, match="k must be a whole number"):
        processes.search(sample_index.name, QUERIES, {"k": 0})
    with pytest.raises(RuntimeError, match="TypeError.*colour") as failed:
        processes.search(sample_index.name, QUERIES, {"colour": "blue"})
    assert "answers(queries, **options)" in failed.value.__notes__[0]
    answer(processes, sample_index)


def test_one_that_was_killed_is_not_missed(processes: SearchProcesses, sample_index: Path) -> None:
    number = number_of(processes)
    os.kill(number, signal.SIGKILL)
    answer(processes, sample_index)
    assert number_of(processes) != number


def test_one_that_hangs_is_given_up(
    processes: SearchProcesses, sample_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(processes, sample_index)
    number = number_of(processes)
    os.kill(number, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(searching, "WORK_SECONDS", 0.2)
        with pytest.raises(BusyError, match="longer than"):
            processes.search(sample_index.name, QUERIES, {})
    assert not Path(f"/proc/{number}").exists()
    answer(processes, sample_index)


def test_where_none_can_be_started_it_is_said(
    processes: SearchProcesses, sample_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(processes._processes[0], "_start", refuse)
        os.kill(number_of(processes), signal.SIGKILL)
        with pytest.raises(BusyError, match="try again"):
            processes.search(sample_index.name, QUERIES, {})
    answer(processes, sample_index)
