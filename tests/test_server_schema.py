"""The API is what its OpenAPI schema says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import serving

from semsearch.server.filter_schema import PATTERN
from semsearch.store.filter_syntax import parse_filter


@pytest.mark.parametrize(
    "filter",
    [
        "path:*.md",
        "path:docs/",
        "type:md,markdown",
        "modified>=2026-01-01",
        "modified:2026-03",
        'author:"Jane Doe"',
        "year>=2020",
        "draft!=true",
        "book.isbn:*",
        "path:home/ or type:txt",
        "not (author:Jane or year<2000) and type:md",
        "metadata.path:x",
    ],
)
def test_filters_that_people_write_are_in_the_schema(filter: str) -> None:
    assert re.search(PATTERN, filter)
    parse_filter(filter)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.from_regex(PATTERN, fullmatch=True).filter(lambda text: len(text) < 2048))
def test_filters_of_the_schema_are_understood(text: str) -> None:
    if text.encode("utf-8", "replace").decode() == text:  # no half characters, which JSON in UTF-8 has not either
        parse_filter(text)


@pytest.mark.slow
def test_schemathesis_finds_nothing(sample_index: Path, tmp_path: Path) -> None:
    shutil.copytree(sample_index, tmp_path / "indexes" / "sample")
    tool = Path(sysconfig.get_path("scripts")) / "schemathesis"
    with serving(tmp_path / "indexes") as server:
        command = [tool, "run", f"{server.url}/openapi.json", "--max-examples", "5", "--seed", "1"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stdout[-5000:]
        assert "Traceback" not in server.log
        assert len(server.requests()) > 200
