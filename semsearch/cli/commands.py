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
from semsearch.cli.indexing import index, watch
from semsearch.cli.options import indexes_option, json_option
from semsearch.cli.searching import query, show, similar
from semsearch.cli.serving import mcp, serve
from semsearch.errors import DamagedIndexError

if TYPE_CHECKING:
    from semsearch.store.catalog import IndexInfo


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


for command in (index, watch, query, show, similar, serve, mcp, evaluate):
    cli.add_command(command)


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
    from semsearch.indexer.sharded import ShardedIndexer

    before = describe(folder)
    (ShardedIndexer if before.shards else Indexer)(folder).compact()
    click.echo(f"{name}: {output.size(before.bytes)} before, {output.size(describe(folder).bytes)} now", err=True)


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
    return {key: value for key, value in values.items() if key not in ("error", "shards") or value}
