"""The commands that make an index and keep it up to date."""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli import output
from semsearch.cli.options import Place, Size, indexes_option, indexes_or_url_option, json_option, together
from semsearch.errors import InvalidInputError, UnreadableFileError

if TYPE_CHECKING:
    from semsearch.indexer.indexer import Indexer
    from semsearch.indexer.report import IndexSummary
    from semsearch.indexer.sharded import ShardedIndexer
    from semsearch.types import Document

# More than this is asked about before it is indexed.
_MANY_FILES, _MANY_BYTES = 50_000, 2**30
_STDIN_BYTES = 10 * 2**20
_STDIN = (Path("-"),)

_paths = click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
_name = click.option("--name", help="Name of the index; the folder's name by default.")
_yes = click.option("-y", "--yes", is_flag=True, help="Do not ask, however much there is to index.")
# How an index is made, all of which it remembers but the device.
_making = together(
    click.option("--model", help="Model's folder or Hugging Face name; all-MiniLM-L6-v2 for a new index."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
        help="What the model computes in; auto, for a new index, is the fastest with nearly the vectors of float32.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where the model runs; auto takes a GPU if there is one.",
    ),
    click.option(
        "--index-type",
        metavar="TYPE",
        help="auto: exact while that is fast, then approximate; flat: exact; ivf; or a FAISS factory string.",
    ),
    click.option(
        "--include", multiple=True, metavar="GLOB", help="Take only files such as '*.md' or docs/; repeatable."
    ),
    click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files and folders; repeatable."),
    click.option(
        "--hidden/--no-hidden", default=None, help="Whether hidden files and folders are taken; no by default."
    ),
    click.option("--ignore-files/--no-ignore-files", default=None, help="Whether .gitignore and the like hold; yes."),
    click.option(
        "--max-file-size", type=Size(), help="Skip larger files; 10M for text, 100M for documents by default."
    ),
    click.option("--chunk-tokens", type=int, help="Tokens of a passage at most, title and headings included; 128."),
    click.option("--overlap", type=int, help="Tokens that a passage repeats of the one before within prose; 16."),
    click.option("--text-field", metavar="FIELD", help="Of CSV, TSV and JSON Lines: the column that is the text."),
    click.option("--title-field", metavar="FIELD", help="The column that is the title."),
    click.option("--id-field", metavar="FIELD", help="The column that a row is known by."),
    click.option("--language", metavar="NAME", help="What words are stemmed by: english, german, ..., none; english."),
)


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=Place(url=True))
@_name
@indexes_or_url_option
@_making
@click.option(
    "--shards", type=click.IntRange(1), help="Divide a new index into so many; as many as workers if not given."
)
@click.option("--workers", type=click.IntRange(1), help="Build the shards in so many processes.")
@click.option(
    "--cluster", metavar="ADDRESS", help="Build the shards on a Ray cluster: its head's HOST:PORT, or auto for our own."
)
@click.option("--rebuild", is_flag=True, help="Read and embed everything anew; the old index answers meanwhile.")
@click.option("--dry-run", is_flag=True, help="Say what would be indexed, and how long it would take; do nothing.")
@_yes
@click.option("-v", "--verbose", is_flag=True, help="List each file that was skipped, and why.")
@json_option
def index(
    paths: tuple[Any, ...],
    name: str | None,
    indexes: Any,
    cluster: str | None,
    rebuild: bool,
    dry_run: bool,
    yes: bool,
    verbose: bool,
    as_json: bool,
    **making: Any,
) -> None:
    """Index folders and files, or with `-` what comes in on stdin; `semsearch formats` lists what can be read.

    Of an index that is there, what changed since is read and embedded, and what is gone is removed. It remembers
    these options.

    With --shards, --workers or --cluster an index is divided into shards, which are built side by side and searched as
    one. With --cluster, PATH and --indexes may be URLs of folders of an object store, such as s3://bucket/folder.
    """
    from_stdin = paths == _STDIN
    if from_stdin and (making["shards"] or making["workers"] or cluster):
        raise click.UsageError("what comes in on stdin is one document, and cannot be divided into shards")
    name = "stdin" if from_stdin and name is None else name
    by_url = any(isinstance(one, str) for one in (*paths, indexes))
    if by_url and (dry_run or not cluster):
        raise click.UsageError(
            "--dry-run looks at files, not at an object store"
            if dry_run
            else "an object store needs --cluster, whose nodes read from it and write to it"
        )
    if dry_run:
        if from_stdin:
            raise click.UsageError("--dry-run looks at files; what comes in on stdin is none")
        plan = indexer_of(indexes, name, paths, **making).plan(paths)
        output.print_json(dataclasses.asdict(plan)) if as_json else output.print_plan(plan)
        return
    if cluster:
        if not yes and not by_url:
            ask_if_much(indexer_of(indexes, name, paths, **making), paths)
        summary = _update_on(cluster, indexes, _name_of(name, paths), paths, rebuild=rebuild, **making)
    else:
        indexer = indexer_of(indexes, name, paths, **making)
        if not yes and not from_stdin:
            ask_if_much(indexer, paths)
        source: Any = [_stdin()] if from_stdin else paths
        with output.progress_bar() as progress:
            summary = indexer.update(source, rebuild=rebuild, progress=progress)
    if as_json:
        output.print_json(dataclasses.asdict(summary))
    else:
        output.print_summary(summary)
    if verbose:
        for skipped in summary.skipped:
            click.echo(output.printable(f"skipped {skipped.path}: {skipped.reason}"), err=True)


def _update_on(
    cluster: str,
    indexes: Path | str,
    name: str,
    paths: Sequence[Path | str],
    *,
    rebuild: bool,
    workers: int | None,
    shards: int | None,
    **making: Any,
) -> IndexSummary:
    """Bring an index up to date on a cluster."""
    try:
        from semsearch.cluster.connection import connected
        from semsearch.cluster.indexing import update
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--cluster needs {error.name}; install it: pip install 'semsearch[cluster]'") from None
    index = f"{indexes.rstrip('/')}/{name}" if isinstance(indexes, str) else str(indexes / name)
    own = _making_of(making)
    with connected(cluster) as connection, output.progress_bar() as progress:
        return update(
            connection,
            index,
            [str(one) for one in paths],
            workers=workers,
            shards=shards,
            rebuild=rebuild,
            progress=progress,
            **own,
        )


@click.command()
@_paths
@_name
@indexes_option
@_making
@_yes
def watch(paths: tuple[Path, ...], name: str | None, indexes: Path, yes: bool, **making: Any) -> None:
    """Index folders and files as `semsearch index` does, and again whenever they change, until Ctrl-C.

    Each update that changed something is a line on stdout. Changes are taken together until half a second passes
    without any. An update that fails is told, and leaves the index as it was; the next change tries again.
    """
    if paths == _STDIN:
        raise click.UsageError("files can be watched, not what comes in on stdin; give the path of a folder or file")
    try:
        from semsearch.indexer.watch import watch as follow
    except ModuleNotFoundError as error:
        raise click.UsageError(f"watching needs {error.name}; install it: pip install 'semsearch[watch]'") from None

    indexer = indexer_of(indexes, name, paths, **making)
    if not yes:
        ask_if_much(indexer, paths)
    stop = threading.Event()

    def end(*_: object) -> None:
        if stop.is_set():  # for the second time: at once
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with output.progress_bar() as progress:
            updates = follow(indexer, paths, stop, progress=progress)
            first = next(updates, None)
        if first is None:
            click.echo("stopped before all was indexed; the next time it goes on from there", err=True)
        else:
            output.print_update(first)
            click.echo(output.printable(f"watching {', '.join(map(str, paths))}; Ctrl-C ends it"), err=True)
        for done in updates:
            output.print_update(done)
    finally:
        for number, handling in before.items():
            signal.signal(number, handling)


def indexer_of(
    indexes: Path,
    name: str | None,
    paths: Sequence[Path],
    *,
    shards: int | None = None,
    workers: int | None = None,
    **making: Any,
) -> Indexer | ShardedIndexer:
    """The indexer of what these paths make: an index of that name, or of the only folder's or file's own."""
    folder = indexes / _name_of(name, paths)

    from semsearch.indexer.indexer import Indexer
    from semsearch.store.shards import is_in_shards

    own = _making_of(making)
    if shards is None and workers is None and not is_in_shards(folder):
        return Indexer(folder, **own)

    from semsearch.indexer.sharded import ShardedIndexer

    return ShardedIndexer(folder, shards=shards, workers=workers or 1, **own)


def _name_of(name: str | None, paths: Sequence[Path | str]) -> str:
    """The name of the index that these paths make."""
    from semsearch.store.catalog import check_name

    if name is None:
        if len(paths) > 1:
            raise click.UsageError("several paths make one index; name it with --name")
        if isinstance(paths[0], str):
            name = paths[0].rstrip("/").rpartition("/")[2]
        else:
            resolved = paths[0].resolve()
            name = resolved.name if resolved.is_dir() else resolved.stem
    return check_name(name)


def _making_of(given: dict[str, Any]) -> dict[str, Any]:
    """The options of how an index is made, as an indexer takes them."""
    from semsearch.indexer.settings import Settings

    of_indexer = ("model", "precision", "device", "index_type")
    own = {key: given[key] for key in of_indexer if key in given}
    lists = {key: given[key] or None for key in ("include", "exclude") if key in given}
    others = {key: value for key, value in given.items() if key not in (*own, *lists)}
    return {**own, "settings": Settings(**lists, **others)}


def ask_if_much(indexer: Indexer | ShardedIndexer, paths: Sequence[Path]) -> None:
    """Before a home folder, say, is indexed by mistake."""
    plan = indexer.plan(paths, timed=False)
    if plan.files <= _MANY_FILES and plan.bytes <= _MANY_BYTES:
        return
    output.print_plan(indexer.plan(paths), err=True)
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"to index {plan.files} files, {output.size(plan.bytes)}, give --yes where nobody can be asked"
        )
    if not click.confirm(f"Index all of {plan.root!r}?", err=True):
        raise click.Abort


def _stdin() -> Document:
    from semsearch.corpus.decoding import decode_bytes
    from semsearch.types import Document

    data = sys.stdin.buffer.read(_STDIN_BYTES + 1)
    if len(data) > _STDIN_BYTES:
        raise InvalidInputError(f"there is more than {output.size(_STDIN_BYTES)} on stdin; put it into files")
    try:
        return Document("stdin", decode_bytes(data), "")
    except UnreadableFileError as reason:
        raise InvalidInputError(f"what comes in on stdin cannot be read: {reason}") from None
