"""What the commands print."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from semsearch.errors import SemsearchError

if TYPE_CHECKING:
    from semsearch.corpus.formats import Format
    from semsearch.evaluation.evaluate import Evaluation
    from semsearch.indexer.plan import Plan
    from semsearch.indexer.report import IndexSummary, Progress
    from semsearch.query.excerpt import Excerpt
    from semsearch.store.catalog import IndexInfo
    from semsearch.types import Hit, Root

_SNIPPET_LINES = 3
# Around words of the query, in text that has no such characters of its own any more.
_ON, _OFF = "\x01", "\x02"
# What stands before and after a hit's passage.
Context: TypeAlias = "Callable[[Hit], tuple[str, str]]"


def printable(text: str) -> str:
    """The text with what would steer a terminal, or is no character, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_json(value: Any, *, one_line: bool = False) -> None:
    """Print JSON on stdout."""
    text = json.dumps(value, ensure_ascii=False, indent=None if one_line else 2)
    _print(text.encode("utf-8", "backslashreplace").decode())


def print_question(text: str) -> None:
    """Print a query of several above its hits."""
    _print(click.style(printable(f"## {text}"), bold=True))


def print_hits(hits: Sequence[Hit], root: Root, *, explain: bool = False, context: Context | None = None) -> None:
    """Print hits for people: `path:line` that editors and terminals can jump to, score, heading, snippet.

    Args:
        hits: What was found.
        root: What their paths are relative to.
        explain: Whether to show what each score is made of.
        context: Gives what stands before and after a hit; the whole passage is shown between, not its snippet.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    for hit in hits:
        where = f" ({hit.place})" if hit.place else f":{hit.line_start}"
        place = click.style(printable(f"{_jumpable(root, hit.path)}{where}"), fg="cyan", bold=True)
        place += click.style(" changed since", fg="yellow") if hit.stale else ""
        over = " > ".join(part for part in (hit.title, hit.heading) if part)
        _print(f"{place}  {click.style(f'{hit.score:.3f}', fg='green')}  {click.style(printable(over), bold=True)}")
        if explain:
            _print(click.style("    " + "  ".join(f"{name} {part:.3f}" for name, part in hit.parts.items()), dim=True))
        if context:
            before, after = context(hit)
            shown = [printable_lines(text) for text in (before, hit.text, after)]
            _print(click.style(shown[0], dim=True) + shown[1] + click.style(shown[2], dim=True))
        else:
            for line in _snippet_lines(hit, width - 4):
                _print(f"    {line}")
        _print("")


def _snippet_lines(hit: Hit, width: int) -> list[str]:
    """The snippet in lines, the words of the query in bold."""
    marked, last = "", 0
    for start, end in hit.matches:
        marked += f"{_shown(hit.snippet[last:start])}{_ON}{_shown(hit.snippet[start:end])}{_OFF}"
        last = end
    words = " ".join((marked + _shown(hit.snippet[last:])).split())
    lines = []
    bold = False
    for line in textwrap.wrap(words, width, max_lines=_SNIPPET_LINES, placeholder=" …"):
        pieces = re.split(f"[{_ON}{_OFF}]", line)
        # Every other piece is in bold; a long word may go on in the next line.
        lines.append(
            "".join(click.style(piece, bold=True) if bold ^ bool(n % 2) else piece for n, piece in enumerate(pieces))
        )
        bold ^= len(pieces) % 2 == 0
    return lines


def _shown(text: str) -> str:
    """As `printable`, but white space of any kind is a space."""
    return "".join(" " if c.isspace() else printable(c) for c in text)


def print_excerpt(found: Excerpt) -> None:
    """Print a passage in its surroundings, which are dimmed."""
    where = found.place or f"lines {found.line_start}-{found.line_end}"
    over = " > ".join(part for part in (found.title, found.heading) if part)
    _print(click.style(printable(f"{found.path} ({where})  {over}"), bold=True))
    if found.stale:
        _print(click.style("the file has changed since it was indexed, or is gone", fg="yellow"))
    _print("")
    around = [printable_lines(text) for text in (found.before, found.text, found.after)]
    _print(click.style(around[0], dim=True) + around[1] + click.style(around[2], dim=True))


def printable_lines(text: str) -> str:
    """As `printable`, but line ends and tabs stay."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)


def print_formats(formats: Sequence[Format]) -> None:
    """Print what can be read, a format a line."""
    for one in formats:
        lacking = "  needs: pip install 'semsearch[documents]'" if one.missing else ""
        _print(f"{one.name}: {' '.join(suffix for suffix in one.suffixes if suffix)}{lacking}")


def print_plan(plan: Plan, *, err: bool = False) -> None:
    """Print what an update would do."""
    about = "" if plan.seconds is None else f", about {duration(plan.seconds)}"
    lines = [f"{printable(plan.root)}: to index {plan.files} files, {size(plan.bytes)}{about}"]
    lines += [f"  {name}: {count} files, {size(total)}" for name, (count, total) in plan.formats.items()]
    lines += [f"  as they were: {plan.unchanged}"] if plan.unchanged else []
    lines += [f"  to remove: {plan.removed}"] if plan.removed else []
    lines += [f"  skipped, {printable(reason)}: {count}" for reason, count in plan.skipped.items()]
    for line in lines:
        click.echo(line, err=err)


def duration(seconds: float) -> str:
    """Seconds for people."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{max(1, round(seconds))} s"


def print_update(done: IndexSummary | SemsearchError, *, err: bool = False) -> None:
    """Print what an update of several did, or on stderr why it failed."""
    if isinstance(done, SemsearchError):
        print_warning(str(done))
    else:
        print_summary(done, err=err, hint="")
        sys.stdout.flush()


def print_warning(message: str) -> None:
    """Print on stderr what is wrong, and yet no end."""
    click.echo(f"{click.style('warning', fg='yellow')}: {printable(' '.join(message.split()))}", err=True)


def print_summary(summary: IndexSummary, *, err: bool = False, hint: str = " (see --verbose)") -> None:
    """Print what an update did."""
    counts = {
        "new": summary.files_added,
        "changed": summary.files_changed,
        "removed": summary.files_removed,
        "unchanged": summary.files_unchanged,
        f"skipped{hint}": summary.files_skipped,
    }
    files = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    click.echo(
        f"{printable(summary.path)}: files: {files}; {summary.documents} documents, {summary.passages} passages, "
        f"{summary.passages_embedded} of them embedded now, in {summary.took_ms / 1000:.1f} s",
        err=err,
    )


def print_index_line(one: IndexInfo) -> None:
    """Print an index on one line."""
    if one.error:
        _print(f"{one.name}  {click.style(printable(one.error), fg='red')}")
    else:
        _print(
            f"{one.name}  {one.documents} documents  {one.passages} passages  {size(one.bytes)}  "
            f"{printable(one.model)}  {one.built}"
        )


def print_info(described: dict[str, Any]) -> None:
    """Print what is known of an index, a line each."""
    for key, value in described.items():
        shown = size(value) if key == "bytes" else value
        _print(f"{'size' if key == 'bytes' else key:<10} {printable(str(shown))}")


def print_evaluation(found: Evaluation, about: dict[str, Any]) -> None:
    """Print measures as a table, a mode a line, and below it how sure the differences are."""
    unasked = f", {found.unasked} of them without a text" if found.unasked else ""
    _print(printable(f"{about['dataset']}: {found.queries} queries{unasked}, {about['model']}"))
    names = list(next(iter(found.modes.values())))
    _print("".join([f"{'':<10}", *(f"{name:<22}" for name in names)]).rstrip())
    for mode, measures in found.modes.items():
        cells = (f"{one.mean:.4f} [{one.low:.3f}, {one.high:.3f}]" for one in measures.values())
        _print("".join([f"{mode:<10}", *(f"{cell:<22}" for cell in cells)]).rstrip())
    for pair, differences in found.compared.items():
        cells = (f"{one.difference:+.4f} (p {one.p:.4f})" for one in differences.values())
        _print(f"{pair}: " + ", ".join(f"{name} {cell}" for name, cell in zip(names, cells, strict=True)))


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None] | None]:
    """A bar on stderr: files, passages a second, time left; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    started = time.monotonic()
    layout = "{desc} {percentage:3.0f}%|{bar}| {remaining} left{postfix}"
    # A terminal that does not tell its height gets a bar too, so the size is not left to tqdm.
    size = shutil.get_terminal_size()
    with tqdm(
        desc="indexing", bar_format=layout, file=sys.stderr, leave=False, ncols=size.columns - 1, nrows=size.lines
    ) as bar:

        def update(progress: Progress) -> None:
            bar.total = progress.bytes_total
            rate = progress.passages / max(time.monotonic() - started, 1e-9)
            bar.set_postfix_str(f"{progress.files}/{progress.files_total} files, {rate:.0f} passages/s", refresh=False)
            bar.update(progress.bytes - bar.n)

        yield update


def _jumpable(root: Root, path: str) -> str:
    """The path as it opens from here: relative if that is shorter, else absolute."""
    if isinstance(root, str):
        return f"{root}/{path}"
    absolute = str(root / path)
    try:
        relative = os.path.relpath(absolute)
    except (ValueError, OSError):
        return absolute
    return min(relative, absolute, key=len)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _print(text: str) -> None:
    # NO_COLOR (https://no-color.org) is honoured; click itself drops colour where stdout is no terminal.
    click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
