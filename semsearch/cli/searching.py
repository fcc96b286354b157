"""The commands that search."""

from __future__ import annotations

import dataclasses
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli import output
from semsearch.cli.options import index_option, indexes_option, json_option

if TYPE_CHECKING:
    from semsearch.query.searcher import Searcher
    from semsearch.types import Hit

_k = click.option("-k", default=10, show_default=True, help="How many hits at most.")
_filter = click.option(
    "--filter", "filter_", metavar="CONDITION", help="Look only at documents such as path:docs/ type:md."
)
_effort = click.option(
    "--effort", default=1.0, show_default=True, help="Of approximate search: more finds more, and takes longer."
)
_jsonl = click.option("--jsonl", "as_jsonl", is_flag=True, help="Print one hit a line as JSON.")


@click.command()
@click.argument("target")
@index_option
@indexes_option
@click.option("-C", "--context", default=1, show_default=True, help="How many passages before and after it.")
@json_option
def show(target: str, name: str | None, indexes: Path, context: int, as_json: bool) -> None:
    """Show a passage in its surroundings: that of a hit's id, of PATH:LINE, or the first of PATH."""
    if context < 0:
        raise click.UsageError(f"--context must be 0 or more, got {context}")
    from semsearch.query.show import excerpt
    from semsearch.store.catalog import find_index

    found = excerpt(find_index(indexes, name), target, context=context)
    output.print_json(dataclasses.asdict(found)) if as_json else output.print_excerpt(found)


@click.command()
@click.argument("target")
@_k
@index_option
@indexes_option
@_filter
@_effort
@json_option
@_jsonl
def similar(
    target: str,
    k: int,
    name: str | None,
    indexes: Path,
    filter_: str | None,
    effort: float,
    as_json: bool,
    as_jsonl: bool,
) -> int:
    """Find what is near a document, PATH, or near its passage, PATH:LINE; no model is needed. Exit code as of query."""
    _check_format(as_json, as_jsonl)
    from semsearch.query.similar import similar as find
    from semsearch.store.catalog import describe, find_index

    folder = find_index(indexes, name)
    hits = find(folder, target, k, filter=filter_, effort=effort)
    if as_json:
        output.print_json({"similar_to": target, "index": folder.name, "hits": _dicts(hits)})
    elif as_jsonl:
        _print_lines(hits)
    else:
        output.print_hits(hits, Path(describe(folder).source))
    return 0 if hits else 1


@click.command()
@click.argument("text", required=False)
@_k
@index_option
@indexes_option
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "dense", "lexical"]),
    default="hybrid",
    show_default=True,
    help="By meaning and words, by meaning alone, or by words alone.",
)
@_filter
@click.option("--per-document", default=1, show_default=True, help="How many passages of a document at most.")
@click.option("--passages", is_flag=True, help="Rank passages without regard to their documents.")
@click.option("--min-score", type=float, help="Leave out hits below this score.")
@click.option("-C", "--context", default=0, show_default=True, help="Lines to show before and after each passage.")
@click.option("--explain", is_flag=True, help="Show what each score is made of.")
@click.option("--rerank", "reranker", metavar="MODEL", help="Let a cross-encoder order the first 50.")
@click.option("--rerank-weight", default=1.0, show_default=True, help="Its share of the score; 1: it alone decides.")
@click.option("--queries", type=click.Path(path_type=Path, allow_dash=True), help="Ask all queries of a file or `-`.")
@json_option
@_jsonl
@click.option("--trec", "as_trec", is_flag=True, help="Print a TREC run.")
@_effort
@click.option("--model", help="Where the index's model is now, if it was moved.")
def query(
    text: str | None,
    k: int,
    name: str | None,
    indexes: Path,
    mode: str,
    filter_: str | None,
    per_document: int,
    passages: bool,
    min_score: float | None,
    context: int,
    explain: bool,
    reranker: str | None,
    rerank_weight: float,
    queries: Path | None,
    as_json: bool,
    as_jsonl: bool,
    as_trec: bool,
    effort: float,
    model: str | None,
) -> int:
    """Find the passages that answer TEXT; words in double quotes are looked for just so.

    A file of queries (--queries) has one a line, or is JSON Lines with "_id" and "text". Exit code 0: hits, 1: none.
    """
    _check_format(as_json, as_jsonl, as_trec)
    if (text is None) == (queries is None):
        raise click.UsageError("give TEXT, or --queries FILE" if text is None else "give TEXT or --queries, not both")
    if k < 1:
        raise click.UsageError(f"-k must be at least 1, got {k}")
    if context < 0:
        raise click.UsageError(f"--context must be 0 or more, got {context}")
    if text is not None and not text.strip():
        raise click.UsageError("the query is empty: say what to look for")

    from semsearch.store.catalog import find_index

    folder = find_index(indexes, name)

    asked = {"1": text} if text is not None else _read_queries(queries or Path("-"))
    from semsearch.query.searcher import Searcher

    options: dict[str, Any] = {
        "mode": mode,
        "per_document": None if passages else per_document,
        "filter": filter_,
        "min_score": min_score,
        "rerank_weight": rerank_weight,
        "effort": effort,
    }
    started = time.monotonic()
    with Searcher(folder, model=model, reranker=reranker) as searcher:
        answers = dict(zip(asked, searcher.search_batch(list(asked.values()), k, **options), strict=True))
        took_ms = round((time.monotonic() - started) * 1000)
        if as_trec:
            from semsearch.query.query_files import write_trec_run

            write_trec_run(sys.stdout, answers, f"semsearch-{mode}")
        elif as_json or as_jsonl:
            _print_json(searcher, asked, answers, took_ms, as_jsonl=as_jsonl, batch=queries is not None)
        else:
            for key, hits in answers.items():
                if queries is not None:
                    output.print_question(asked[key])
                output.print_hits(hits, searcher.root, explain=explain, context=_context(folder, context))
    return 0 if any(answers.values()) else 1


def _check_format(*chosen: bool) -> None:
    if sum(chosen) > 1:
        raise click.UsageError("--json, --jsonl and --trec exclude each other")


def _read_queries(path: Path) -> dict[str, str]:
    from semsearch.errors import InvalidInputError
    from semsearch.query.query_files import read_queries

    name = "stdin" if path == Path("-") else str(path)
    try:
        with nullcontext(sys.stdin) if name == "stdin" else path.open(encoding="utf-8-sig") as lines:
            queries = read_queries(lines, name)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read {name!r}: {getattr(error, 'strerror', None) or error}") from None
    if not queries:
        raise InvalidInputError(f"there is no query in {name!r}")
    return queries


def _context(folder: Path, lines: int) -> output.Context | None:
    if not lines:
        return None
    from semsearch.query.show import excerpt

    def around(hit: Hit) -> tuple[str, str]:
        found = excerpt(folder, str(hit.id), context=lines)
        before, after = found.before.split("\n"), found.after.split("\n")
        # The passage may begin or end within a line.
        return "\n".join(before[-lines - 1 :]), "\n".join(after[: lines + 1])

    return around


def _print_json(
    searcher: Searcher,
    asked: dict[str, str],
    answers: dict[str, list[Hit]],
    took_ms: int,
    *,
    as_jsonl: bool,
    batch: bool,
) -> None:
    about = {"index": searcher.name, "model": searcher.model, "took_ms": took_ms}
    if as_jsonl:
        for key, hits in answers.items():
            _print_lines(hits, {"query_id": key, "query": asked[key]} if batch else {})
    elif batch:
        found = [{"id": key, "query": asked[key], "hits": _dicts(hits)} for key, hits in answers.items()]
        output.print_json({**about, "queries": found})
    else:
        output.print_json({"query": asked["1"], **about, "hits": _dicts(answers["1"])})


def _print_lines(hits: list[Hit], more: dict[str, str] | None = None) -> None:
    for hit in _dicts(hits):
        output.print_json({**(more or {}), **hit}, one_line=True)


def _dicts(hits: list[Hit]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(hit) for hit in hits]
