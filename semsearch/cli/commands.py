"""The commands of `semsearch`."""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch import __version__
from semsearch.cli import output
from semsearch.errors import DamagedIndexError, InvalidInputError, UnreadableFileError

if TYPE_CHECKING:
    from semsearch.indexer.indexer import Indexer
    from semsearch.store.catalog import IndexInfo
    from semsearch.types import Document

_indexes = click.option(
    "--indexes",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("indexes"),
    envvar="SEMSEARCH_INDEXES",
    show_default=True,
    help="Folder that the indexes are in (also SEMSEARCH_INDEXES).",
)
# More than this is asked about before it is indexed.
_MANY_FILES, _MANY_BYTES = 50_000, 2**30
_STDIN_BYTES = 10 * 2**20
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


class Size(click.ParamType[int]):
    """A number of bytes: 500K, 10M, 2G."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In bytes; units are powers of 1,024."""
        found = re.fullmatch(r"(\d{1,15})\s*([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if not found or not int(found[1]):
            self.fail(f"{value!r} is no size; give bytes, or a number with K, M or G, such as 10M", param, ctx)
        return int(int(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="semsearch")
@click.pass_context
def cli(context: click.Context) -> None:
    """Semantic search for a folder of documents, on your own machine.

    \b
    semsearch index notes/          read, embed and store a folder
    semsearch query "a question"    the passages nearest to it
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the index; the folder's name by default.")
@_indexes
@click.option("--model", help="Model's folder or Hugging Face name; all-MiniLM-L6-v2 for a new index.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
    help="What the model computes in; auto, for a new index, is the fastest that gives nearly the vectors of float32.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where the model runs; auto takes a GPU if there is one.",
)
@click.option(
    "--index-type",
    metavar="TYPE",
    help="auto: exact while that is fast, then approximate; flat: exact; ivf; or a FAISS factory string.",
)
@click.option("--include", multiple=True, metavar="GLOB", help="Take only files such as '*.md' or docs/; repeatable.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files and folders; repeatable.")
@click.option("--hidden/--no-hidden", default=None, help="Whether hidden files and folders are taken; no by default.")
@click.option("--ignore-files/--no-ignore-files", default=None, help="Whether .gitignore and the like hold; yes.")
@click.option("--max-file-size", type=Size(), help="Skip larger files; 10M for text, 100M for documents by default.")
@click.option("--chunk-tokens", type=int, help="Tokens of a passage at most, title and headings included; 128.")
@click.option("--overlap", type=int, help="Tokens that a passage repeats of the one before within prose; 16.")
@click.option("--text-field", metavar="FIELD", help="Of CSV, TSV and JSON Lines: the column that is the text.")
@click.option("--title-field", metavar="FIELD", help="The column that is the title.")
@click.option("--id-field", metavar="FIELD", help="The column that a row is known by.")
@click.option("--rebuild", is_flag=True, help="Read and embed everything anew; the old index answers meanwhile.")
@click.option("--dry-run", is_flag=True, help="Say what would be indexed, and how long it would take; do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, however much there is to index.")
@click.option("-v", "--verbose", is_flag=True, help="List each file that was skipped, and why.")
@_json
def index(
    paths: tuple[Path, ...],
    name: str | None,
    indexes: Path,
    model: str | None,
    precision: str | None,
    device: str,
    index_type: str | None,
    rebuild: bool,
    dry_run: bool,
    yes: bool,
    verbose: bool,
    as_json: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    **settings: Any,
) -> None:
    """Index folders and files, or with `-` what comes in on stdin; `semsearch formats` lists what can be read.

    Of an index that is there, what changed since is read and embedded, and what is gone is removed. It remembers
    these options.
    """
    from semsearch.store.catalog import check_name

    from_stdin = paths == (Path("-"),)
    if name is None:
        if len(paths) > 1:
            raise click.UsageError("several paths make one index; name it with --name")
        resolved = paths[0].resolve()
        name = "stdin" if from_stdin else resolved.name if resolved.is_dir() else resolved.stem
    folder = indexes / check_name(name)

    from semsearch.indexer.indexer import Indexer
    from semsearch.indexer.settings import Settings

    chosen = Settings(include=include or None, exclude=exclude or None, **settings)
    indexer = Indexer(folder, model=model, precision=precision, device=device, index_type=index_type, settings=chosen)
    if dry_run:
        if from_stdin:
            raise click.UsageError("--dry-run looks at files; what comes in on stdin is none")
        plan = indexer.plan(paths)
        output.print_json(dataclasses.asdict(plan)) if as_json else output.print_plan(plan)
        return
    if not yes and not from_stdin:
        _ask_if_much(indexer, paths)
    source = [_stdin()] if from_stdin else paths
    with output.progress_bar() as progress:
        summary = indexer.update(source, rebuild=rebuild, progress=progress)
    if as_json:
        output.print_json(dataclasses.asdict(summary))
    else:
        output.print_summary(summary)
    if verbose:
        for skipped in summary.skipped:
            click.echo(output.printable(f"skipped {skipped.path}: {skipped.reason}"), err=True)


def _ask_if_much(indexer: Indexer, paths: tuple[Path, ...]) -> None:
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


@cli.command()
@_json
def formats(as_json: bool) -> None:
    """List what can be read here."""
    from semsearch.corpus.formats import FORMATS

    if as_json:
        listed = [
            {"name": one.name, "suffixes": [s for s in one.suffixes if s], "readable": not one.missing}
            for one in FORMATS
        ]
        output.print_json({"formats": listed})
    else:
        output.print_formats(FORMATS)


@cli.command()
@click.argument("target")
@click.option("-i", "--index", "name", help="Name of the index; may be left out if there is only one.")
@_indexes
@click.option("-C", "--context", default=1, show_default=True, help="How many passages before and after it.")
@_json
def show(target: str, name: str | None, indexes: Path, context: int, as_json: bool) -> None:
    """Show a passage in its surroundings: that of a hit's id, of PATH:LINE, or the first of PATH."""
    if context < 0:
        raise click.UsageError(f"--context must be 0 or more, got {context}")
    from semsearch.query.excerpt import excerpt
    from semsearch.store.catalog import find_index

    found = excerpt(find_index(indexes, name), target, context=context)
    output.print_json(dataclasses.asdict(found)) if as_json else output.print_excerpt(found)


@cli.command()
@click.argument("text")
@click.option("-k", default=10, show_default=True, help="How many hits at most.")
@click.option("-i", "--index", "name", help="Name of the index; may be left out if there is only one.")
@_indexes
@click.option("--model", help="Where the index's model is now, if it was moved.")
@click.option("--filter", "filter_", metavar="CONDITION", help="Look only at documents such as path:docs/ type:md.")
@click.option(
    "--effort", default=1.0, show_default=True, help="Of approximate search: more finds more, and takes longer."
)
@click.option("--passages", is_flag=True, help="Every passage, not only the best of each document.")
@_json
@click.option("--jsonl", "as_jsonl", is_flag=True, help="Print one hit a line as JSON.")
def query(
    text: str,
    k: int,
    name: str | None,
    indexes: Path,
    model: str | None,
    filter_: str | None,
    effort: float,
    passages: bool,
    as_json: bool,
    as_jsonl: bool,
) -> int:
    """Find the passages nearest to TEXT. Exit code 0: hits, 1: none."""
    if as_json and as_jsonl:
        raise click.UsageError("--json and --jsonl exclude each other")
    if k < 1:
        raise click.UsageError(f"-k must be at least 1, got {k}")
    if not text.strip():
        raise click.UsageError("the query is empty: say what to look for")

    from semsearch.store.catalog import find_index

    folder = find_index(indexes, name)

    from semsearch.query.searcher import Searcher

    started = time.monotonic()
    with Searcher(folder, model=model) as searcher:
        hits = searcher.search(text, k, per_document=None if passages else 1, filter=filter_, effort=effort)
    took_ms = round((time.monotonic() - started) * 1000)
    if as_json:
        answer = {"query": text, "index": searcher.name, "model": searcher.model, "took_ms": took_ms}
        output.print_json({**answer, "hits": [dataclasses.asdict(hit) for hit in hits]})
    elif as_jsonl:
        for hit in hits:
            output.print_json(dataclasses.asdict(hit), one_line=True)
    else:
        output.print_hits(hits, searcher.root)
    return 0 if hits else 1


@cli.command(name="list")
@_indexes
@_json
def list_(indexes: Path, as_json: bool) -> None:
    """List the indexes there are."""
    from semsearch.store.catalog import describe_all

    described = describe_all(indexes)
    if as_json:
        output.print_json({"indexes": [_as_dict(one) for one in described]})
    elif not described:
        click.echo(f"no index in {str(indexes)!r}; make one with: semsearch index FOLDER", err=True)
    for one in [] if as_json else described:
        output.print_index_line(one)


@cli.command()
@click.argument("name")
@_indexes
@_json
def info(name: str, indexes: Path, as_json: bool) -> None:
    """Show the model, counts, size and date of an index."""
    from semsearch.store.catalog import describe, find_index

    described = _as_dict(describe(find_index(indexes, name)))
    if as_json:
        output.print_json(described)
    else:
        output.print_info(described)


@cli.command()
@click.argument("name")
@_indexes
@click.option("--deep", is_flag=True, help="Embed some passages anew, too, and compare their vectors.")
@click.option("--model", help="For --deep: where the index's model is now, if it was moved.")
def verify(name: str, indexes: Path, deep: bool, model: str | None) -> int:
    """Check an index: files, database, vectors. Exit code 0: sound, 3: damaged."""
    from semsearch.store.catalog import find_index
    from semsearch.store.verify import verify as verify_index

    folder = find_index(indexes, name)
    damaged = False
    for problem in verify_index(folder):
        damaged = True
        click.echo(output.printable(problem), err=True)
    if damaged:
        raise DamagedIndexError(f"the index {name!r} is damaged; make it anew with --rebuild")
    if deep:
        from semsearch.indexer.deep import verify_deep

        check = verify_deep(folder, model=model)
        if check.differing:
            raise DamagedIndexError(
                f"the vectors of {', '.join(check.differing[:3])} are not those of their text (cosine "
                f"{check.least_cosine:.3f}); make it anew with --rebuild"
            )
        click.echo(f"{check.passages} passages embedded anew, cosine {check.least_cosine:.5f} at least", err=True)
    click.echo(f"{name} is sound", err=True)
    return 0


@cli.command()
@click.argument("name")
@_indexes
def compact(name: str, indexes: Path) -> None:
    """Write an index as small as it goes, without what is gone."""
    from semsearch.store.catalog import describe, find_index

    folder = find_index(indexes, name)

    from semsearch.indexer.indexer import Indexer

    before = describe(folder).bytes
    Indexer(folder).compact()
    click.echo(f"{name}: {output.size(before)} before, {output.size(describe(folder).bytes)} now", err=True)


@cli.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_indexes
def export(name: str, file: Path, indexes: Path) -> None:
    """Write an index to one FILE, for another machine."""
    from semsearch.store.archive import export_index
    from semsearch.store.catalog import find_index

    export_index(find_index(indexes, name), file)
    click.echo(f"wrote {output.printable(str(file))}, {output.size(file.stat().st_size)}", err=True)


@cli.command(name="import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--name", help="Name of the index; the file's name by default.")
@_indexes
def import_(file: Path, name: str | None, indexes: Path) -> None:
    """Make an index of an exported FILE, after checking all of it."""
    from semsearch.store.archive import import_index
    from semsearch.store.catalog import check_name

    name = check_name(name or file.stem)
    import_index(file, indexes / name)
    click.echo(f"made {output.printable(str(indexes / name))}", err=True)


@cli.command()
@click.argument("name")
@_indexes
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(name: str, indexes: Path, yes: bool) -> None:
    """Delete an index."""
    from semsearch.store.catalog import delete as delete_index
    from semsearch.store.catalog import find_index

    folder = find_index(indexes, name)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"deleting {name!r} needs --yes where nobody can be asked")
        if not click.confirm(f"Delete the index {name!r} at {str(folder)!r}?", err=True):
            click.echo("kept", err=True)
            return
    delete_index(folder)
    click.echo(f"deleted {name}", err=True)


def _as_dict(described: IndexInfo) -> dict[str, Any]:
    values = dataclasses.asdict(described)
    return {key: value for key, value in values.items() if key != "error" or value}
