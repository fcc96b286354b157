"""The layout's rules: who may import whom, what is public, what is never loaded early."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import semsearch

PACKAGE = ROOT / "semsearch"
# Each room and the rooms that it may import; `errors` and `types` are open to all.
ROOMS = {
    "errors": set(),
    "types": set(),
    "corpus": set(),
    "encoder": set(),
    "store": set(),
    "indexer": {"corpus", "encoder", "store"},
    "query": {"corpus", "encoder", "store"},
    "evaluation": {"encoder", "store", "indexer", "query"},
    "server": {"corpus", "encoder", "store", "indexer", "query"},
    "cluster": {"corpus", "encoder", "store", "indexer", "query", "server"},
    "cli": {"corpus", "encoder", "store", "indexer", "query", "evaluation", "server", "cluster"},
}
# Heavy libraries and the only modules that may import them.
HOMES = {
    "torch": {"encoder/torch_engine.py", "encoder/pooling.py"},
    "transformers": {"encoder/torch_engine.py"},
    "faiss": {"store/ann.py", "store/segments.py"},
    "docx": {"corpus/readers/docx.py"},
    "lxml": {"corpus/readers/packages.py"},
    "pptx": {"corpus/readers/pptx.py"},
    "tantivy": {"store/analysis.py", "store/lexical.py", "store/lexical_writer.py"},
    "pypdfium2": {"corpus/readers/pdf.py"},
    "python_calamine": {"corpus/readers/sheets.py"},
    "ir_measures": {"evaluation/measures.py"},
    "scipy": {"evaluation/sts.py"},
    "click": {
        f"cli/{name}.py"
        for name in ("__init__", "commands", "evaluating", "indexing", "options", "output", "searching", "serving")
    },
    "fastapi": {"server/app.py"},
    "fsspec": {"cluster/objects.py"},
    "mcp": {"server/mcp.py"},
    "mcp_types": {"server/mcp.py"},
    "prometheus_client": {"server/metrics.py"},
    "pydantic": {"server/mcp.py", "server/schemas.py"},
    "ray": {f"cluster/{name}.py" for name in ("building", "connection", "remote", "serving", "workers")},
    "starlette": {f"server/{name}.py" for name in ("app", "embeddings", "guard", "mcp", "metrics", "run")},
    "uvicorn": {"server/run.py"},
    "watchfiles": {"indexer/watch.py"},
}


def imports() -> list[tuple[str, str]]:
    found = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative import"
                found.append((name, node.module or ""))
    return found


def test_dependencies_go_one_way() -> None:
    seen = 0
    for name, module in imports():
        room = name.split("/")[0].removesuffix(".py")
        if not module.startswith("semsearch.") or room not in ROOMS:
            assert room in {*ROOMS, "__init__", "__main__"}, f"{name} is in no room"
            continue
        target = module.split(".")[1]
        seen += 1
        assert target in {room, "errors", "types", *ROOMS[room]}, f"{name} may not import {module}"
    assert seen > 20


def test_heavy_libraries_have_one_home() -> None:
    for name, module in imports():
        library = module.split(".")[0]
        assert name in HOMES.get(library, {name}), f"{name} may not import {module}"


def test_exported_names_are_pinned() -> None:
    assert semsearch.__all__ == [
        "Document",
        "Encoder",
        "Hit",
        "IndexSummary",
        "Indexer",
        "Passage",
        "Reranker",
        "Searcher",
        "SemsearchError",
        "Settings",
        "__version__",
    ]
    for name in semsearch.__all__:
        assert getattr(semsearch, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        semsearch.nothing  # noqa: B018


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["--version"], ["list"], ["info", "sample"], ["delete", "--help"]]
)
def test_light_commands_load_nothing_heavy(arguments: list[str], sample_index: object) -> None:
    code = (
        "import sys, semsearch.cli\n"
        f"sys.argv = ['semsearch', *{arguments!r}]\n"
        "try: semsearch.cli.main()\n"
        "except SystemExit: pass\n"
        "loaded = {'torch', 'transformers', 'tokenizers', 'huggingface_hub', 'faiss', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    environment = {"SEMSEARCH_INDEXES": str(sample_index.parent), "PATH": ""}  # type: ignore[attr-defined]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_query_imports_no_torch(sample_index: Path) -> None:
    code = (
        "import sys, semsearch.cli\n"
        "sys.argv = ['semsearch', 'query', 'my tap drips', '-k', '1']\n"
        "try: semsearch.cli.main()\n"
        "except SystemExit as done: assert done.code == 0\n"
        "loaded = {'torch', 'transformers', 'huggingface_hub', 'tqdm', 'yaml', 'markdown_it'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    environment = {"SEMSEARCH_INDEXES": str(sample_index.parent), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "dripping-tap" in done.stdout


def test_errors_are_drawn_in_their_docstring() -> None:
    from semsearch import errors

    tree = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert len(tree) > 15
    for name, kind in tree.items():
        assert issubclass(kind, semsearch.SemsearchError)
        assert name in (errors.__doc__ or "")
