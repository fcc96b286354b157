"""What the README says is run as it stands there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from conftest import CORPUS, ROOT, Run
from mcp import Client, StdioServerParameters, stdio_client
from serving import serving

from semsearch import Searcher

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_console_commands_run(run: Run, tmp_path: Path) -> None:
    shutil.copytree(CORPUS, tmp_path / "tests" / "corpus")
    (block,) = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    commands = [line[2:] for line in block.splitlines()]
    assert len(commands) == 16
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "semsearch"
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        silent = arguments[0] in ("delete", "verify", "compact", "export", "import")
        assert bool(done.stdout) != silent, command
        assert done.stdout or done.stderr


def test_the_python_snippets_run(tmp_path: Path) -> None:
    shutil.copytree(CORPUS, tmp_path / "tests" / "corpus")
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
        )
        assert done.returncode == 0, done.stderr
        assert not done.stdout or done.stdout.startswith("programming/race-conditions.md:")
    with Searcher(tmp_path / "indexes" / "tickets") as searcher:
        assert sorted(hit.path for hit in searcher.search("paper")) == ["tickets/1", "tickets/2", "tickets/3"]


def test_the_server_answers_the_command(tmp_path: Path, sample_index: Path) -> None:
    (url,) = re.findall(r"^curl '(http\S+)'$", README, re.MULTILINE)
    shutil.copytree(sample_index, tmp_path / "indexes" / "corpus")
    with serving(tmp_path / "indexes") as server:
        found = server.client.get(url.replace("http://127.0.0.1:8765", server.url)).json()
    assert found["hits"][0]["path"] == "home/dripping-tap.md"


def test_the_commands_that_watch_run(tmp_path: Path) -> None:
    shutil.copytree(CORPUS, tmp_path / "tests" / "corpus")
    commands = re.findall(r"^semsearch ((?:watch|serve --watch) .*)$", README, re.MULTILINE)
    assert len(commands) == 2
    for command, sign in zip(commands, ("watching tests/corpus", "serving corpus"), strict=True):
        more = ["--port", "0"] if command.startswith("serve") else []
        process = subprocess.Popen(
            [sys.executable, "-m", "semsearch", *shlex.split(command), *more],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            late = threading.Timer(60, process.kill)
            late.start()
            try:
                assert process.stderr
                assert process.stderr.readline().startswith(sign)
                process.terminate()
                assert process.wait(timeout=60) == 0
            finally:
                late.cancel()
                process.kill()


def test_an_agent_that_is_configured_so_finds_the_tools(tmp_path: Path, sample_index: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    (configured,) = json.loads(block)["mcpServers"].values()
    shutil.copytree(sample_index, tmp_path / "corpus")
    arguments = [str(tmp_path) if one == "/path/to/indexes" else one for one in configured["args"]]
    assert configured["command"] == "semsearch"

    async def talk() -> None:
        started = StdioServerParameters(command=sys.executable, args=["-m", "semsearch", *arguments])
        async with asyncio.timeout(60), Client(stdio_client(started)) as client:
            found = await client.call_tool("search", {"query": "my tap drips"})
            assert found.structured_content["hits"][0]["path"] == "home/dripping-tap.md"

    asyncio.run(talk())


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"\bmake (\w+)", README)) - {"make"}
    known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test", "install"} <= targets
    assert {"demo", "test", "install"} <= known
