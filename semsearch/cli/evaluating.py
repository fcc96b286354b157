"""The command that evaluates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli import output
from semsearch.cli.options import index_option, indexes_option, json_option

if TYPE_CHECKING:
    from semsearch.evaluation.evaluate import Evaluation
    from semsearch.evaluation.judgments import Judged

_MODES = ("hybrid", "dense", "lexical")


@click.command(name="eval")
@click.argument("dataset", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--split", default="test", show_default=True, help="Which judgments of DATASET.")
@click.option("--queries", type=click.Path(path_type=Path), help="Queries for an index that is there, with --qrels.")
@click.option("--qrels", type=click.Path(path_type=Path), help="Their judgments, as BEIR or TREC has them.")
@click.option("--self", "of_itself", is_flag=True, help="Of an index: look for its documents by words of their own.")
@click.option("--stsb", type=click.Path(path_type=Path), help="Spearman's correlation over a file of sentence pairs.")
@index_option
@indexes_option
@click.option("--mode", "modes", multiple=True, type=click.Choice(_MODES), help="Evaluate only this; repeatable.")
@click.option("--run", type=click.Path(path_type=Path, dir_okay=False), help="Write the (first) mode's TREC run.")
@click.option("--model", help="Model's folder or Hugging Face name; of an index, where its model is now.")
@json_option
def evaluate(
    dataset: Path | None,
    split: str,
    queries: Path | None,
    qrels: Path | None,
    of_itself: bool,
    stsb: Path | None,
    name: str | None,
    indexes: Path,
    modes: tuple[str, ...],
    run: Path | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Say how good the ranking is: of DATASET, a folder in BEIR's layout, or of an index and judged queries.

    A dataset is indexed as eval-NAME, which stays for the next time.
    """
    judged_files = queries is not None or qrels is not None
    if sum((dataset is not None, judged_files, of_itself, stsb is not None)) != 1:
        raise click.UsageError("give one of DATASET, --queries with --qrels, --self, --stsb")
    chosen = list(dict.fromkeys(modes)) or list(_MODES)
    if stsb is not None:
        _correlation(stsb, model, as_json=as_json)
        return

    from semsearch.store.catalog import check_name, find_index

    if dataset is not None:
        from semsearch.evaluation.judgments import read_dataset

        judged = read_dataset(dataset, split)
        folder = indexes / check_name(f"eval-{dataset.resolve().name}")
        _index(dataset, folder, model)
    elif of_itself:
        folder = find_index(indexes, name)
        judged = _known_items(folder)
    else:
        if queries is None or qrels is None:
            raise click.UsageError("--queries and --qrels go together")
        from semsearch.evaluation.judgments import read_judged

        judged, folder = read_judged(queries, qrels), find_index(indexes, name)
    about = {"dataset": dataset.resolve().name if dataset else folder.name}
    _evaluate(folder, judged, chosen, run, model, about, as_json=as_json)
    if of_itself and not as_json:
        click.echo(
            "The queries are headings and first sentences of the documents themselves. This shows whether documents\n"
            "are found by what they say; it does not show how they are found by people's own words, with which\n"
            "lexical search does worse than here.",
            err=True,
        )


def _index(dataset: Path, folder: Path, model: str | None) -> None:
    from semsearch.evaluation.evaluate import index_dataset

    with output.progress_bar() as progress:
        summary = index_dataset(dataset, folder, model=model, progress=progress)
    click.echo(
        f"{summary.documents} documents, {summary.passages} passages in {output.printable(str(folder))}", err=True
    )


def _known_items(folder: Path) -> Judged:
    from semsearch.evaluation.known_items import known_items

    return known_items(folder)


def _evaluate(
    folder: Path,
    judged: Judged,
    modes: list[str],
    run: Path | None,
    model: str | None,
    about: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    from semsearch.evaluation.evaluate import answers_of
    from semsearch.evaluation.evaluate import evaluate as evaluated
    from semsearch.query.query_files import write_trec_run
    from semsearch.query.searcher import Searcher

    with Searcher(folder, model=model) as searcher:
        answers = {mode: answers_of(searcher, judged.queries, mode) for mode in modes}
        about["model"] = searcher.model
    if run is not None:
        with run.open("w", encoding="utf-8") as file:
            write_trec_run(file, answers[modes[0]], f"semsearch-{modes[0]}")
    found: Evaluation = evaluated(answers, judged)
    if as_json:
        values = dataclasses.asdict(found)
        output.print_json({**about, **values})
    else:
        output.print_evaluation(found, about)


def _correlation(path: Path, model: str | None, *, as_json: bool) -> None:
    from semsearch.encoder.encoder import Encoder
    from semsearch.encoder.models import DEFAULT_MODEL
    from semsearch.evaluation.sts import spearman

    encoder = Encoder(model or DEFAULT_MODEL)
    correlation, pairs = spearman(path, encoder)
    if as_json:
        about = {"dataset": path.stem, "model": encoder.fingerprint.model, "pairs": pairs}
        output.print_json({**about, "spearman": correlation})
    else:
        click.echo(f"Spearman {100 * correlation:.2f} over {pairs} pairs of {output.printable(path.name)}")
