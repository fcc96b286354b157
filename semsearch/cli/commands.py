"""The commands of `semsearch`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch import __version__
from semsearch.cli import output
from semsearch.cli.evaluating import evaluate
from semsearch.cli.options import Size, indexes_option, json_option
from semsearch.cli.searching import query, show, similar
from semsearch.cli.serving import mcp, serve
from semsearch.errors import DamagedIndexError, InvalidInputError, UnreadableFileError

if TYPE_CHECKING:
    from semsearch.indexer.indexer import Indexer
    from semsearch.store.catalog import IndexInfo
    from semsearch.types import Document

# More than this is asked about before it is indexed.
_MANY_FILES, _MANY_BYTES = 50_000, 2**30
_STDIN_BYTES = 10 * 2**20


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


for command in (query, show, similar, serve, mcp, evaluate):
    cli.add_command(command)


@cli.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the index; the folder's name by default.")
@indexes_option
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
@click.option("--language", metavar="NAME", help="What words are stemmed by: english, german, ..., none; english.")
@click.option("--rebuild", is_flag=True, help="Read and embed everything anew; the old index answers meanwhile.")
@click.option("--dry-run", is_flag=True, help="Say what would be indexed, and how long it would take; do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, however much there is to index.")
@click.option("-v", "--verbose", is_flag=True, help="List each file that was skipped, and why.")
@json_option
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
@json_option
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


@cli.command(name="list")
@indexes_option
@json_option
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
@indexes_option
@json_option
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
@indexes_option
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
@indexes_option
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
@indexes_option
def export(name: str, file: Path, indexes: Path) -> None:
    """Write an index to one FILE, for another machine."""
    from semsearch.store.archive import export_index
    from semsearch.store.catalog import find_index

    export_index(find_index(indexes, name), file)
    click.echo(f"wrote {output.printable(str(file))}, {output.size(file.stat().st_size)}", err=True)


@cli.command(name="import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--name", help="Name of the index; the file's name by default.")
@indexes_option
def import_(file: Path, name: str | None, indexes: Path) -> None:
    """Make an index of an exported FILE, after checking all of it."""
    from semsearch.store.archive import import_index
    from semsearch.store.catalog import check_name

    name = check_name(name or file.stem)
    import_index(file, indexes / name)
    click.echo(f"made {output.printable(str(indexes / name))}", err=True)


@cli.command()
@click.argument("name")
@indexes_option
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
