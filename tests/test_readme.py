"""What the README says is run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import CORPUS, ROOT, Run

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_console_commands_run(run: Run, tmp_path: Path) -> None:
    shutil.copytree(CORPUS, tmp_path / "tests" / "corpus")
    (block,) = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    commands = [line[2:] for line in block.splitlines()]
    assert len(commands) == 6
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "semsearch"
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout or "delete" in command


def test_the_python_snippet_runs(tmp_path: Path) -> None:
    shutil.copytree(CORPUS, tmp_path / "tests" / "corpus")
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("programming/race-conditions.md:")


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"\bmake (\w+)", README)) - {"make"}
    known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test", "install"} <= targets
    assert {"demo", "test", "install"} <= known
