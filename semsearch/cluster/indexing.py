"""Indexes that a Ray cluster builds, in folders that its nodes share or in object stores."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.cluster.connection import Connection
from semsearch.cluster.objects import ObjectFolder, walk_objects
from semsearch.cluster.workers import start, workers_of
from semsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from semsearch.cluster.places import ObjectUpdate
    from semsearch.indexer.report import IndexSummary, Progress
    from semsearch.indexer.workers import Built


def update(
    connection: Connection,
    index: str,
    sources: Sequence[str],
    *,
    workers: int | None,
    rebuild: bool,
    progress: Callable[[Progress], None] | None,
    **making: Any,
) -> IndexSummary:
    """Bring an index up to date on a cluster, and leave it when its part is done.

    Args:
        connection: To the cluster.
        index: Its folder, which all nodes see, or its URL.
        sources: Folders and files that all nodes see, or one URL.
        workers: How many workers build; None as of `workers_of`.
        rebuild: As of `ShardedIndexer.update`.
        progress: As of `ShardedIndexer.update`.
        making: As of `ShardedIndexer`.

    Raises:
        InvalidInputError: A URL among several sources.
        ClusterError: As of `build_all`.
        SemsearchError: As of `ShardedIndexer.update`.
    """
    by_url = ObjectFolder(sources[0]) if "://" in sources[0] else None
    if len(sources) > 1 and any("://" in one for one in sources):
        raise InvalidInputError(f"an object store is indexed by one URL, got {len(sources)} sources")
    of_cluster = workers_of(workers, making["device"])
    start(of_cluster)
    # What takes long to load is loaded while the processes start.
    from semsearch.cluster.building import build_all
    from semsearch.cluster.places import ObjectUpdate
    from semsearch.indexer.sharded import ShardedIndexer

    source: Any = partial(walk_objects, by_url) if by_url else [Path(one) for one in sources]

    def run(folder: Path, stored: ObjectUpdate | None) -> IndexSummary:
        def build(*given: Any) -> list[Built]:
            built = build_all(connection, of_cluster, by_url, stored, *given)
            connection.leave()
            return built

        indexer = ShardedIndexer(folder, workers=of_cluster.count, build=build, **making)
        return indexer.update(source, rebuild=rebuild, progress=progress)

    if "://" not in index:
        return run(Path(index), None)
    with tempfile.TemporaryDirectory(prefix="semsearch-") as name:
        folder = Path(name, index.rstrip("/").rpartition("/")[2])
        folder.mkdir()
        stored = ObjectUpdate(ObjectFolder(index), folder)
        summary = run(folder, stored)
        stored.commit()
        return replace(summary, path=stored.index.url)
