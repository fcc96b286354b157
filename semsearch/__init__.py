"""Semantic search for a folder of documents, on your own machine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsearch.encoder.encoder import Encoder
    from semsearch.encoder.reranker import Reranker
    from semsearch.errors import SemsearchError
    from semsearch.indexer.indexer import Indexer
    from semsearch.indexer.report import IndexSummary
    from semsearch.indexer.settings import Settings
    from semsearch.query.searcher import Searcher
    from semsearch.types import Document, Hit, Passage

__version__ = "0.1.0"

__all__ = [
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

# Where each public name lives: loaded on first use, so that `import semsearch` costs next to nothing.
_HOMES = {
    "Document": "semsearch.types",
    "Encoder": "semsearch.encoder.encoder",
    "Hit": "semsearch.types",
    "IndexSummary": "semsearch.indexer.report",
    "Indexer": "semsearch.indexer.indexer",
    "Passage": "semsearch.types",
    "Reranker": "semsearch.encoder.reranker",
    "Searcher": "semsearch.query.searcher",
    "SemsearchError": "semsearch.errors",
    "Settings": "semsearch.indexer.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'semsearch' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
