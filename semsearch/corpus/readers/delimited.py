"""Tables as text: CSV and TSV, whose first row names the columns; a document a row."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import TextIO

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers.records import ID_NAMES, TEXT_NAMES, TITLE_NAMES, find_field
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

_DELIMITERS = ",;\t|"
_NO_DELIMITER = "\x1f"  # of a table of one column
_SAMPLE_LINES, _SAMPLE_CHARS = 100, 2**20
# A cell that is larger is a quote that nobody closed.
_CELL_CHARS = 2**26
# Text in another encoding than UTF-8 is decoded as a whole.
_DECODED_BYTES = 100 * 2**20
# Follows the last line: a quote that is open there swallows it. No text has a NUL.
_END = "\0"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?")


@dataclass(frozen=True, slots=True)
class _Table:
    """What is known of a table before its rows are passed on.

    Attributes:
        columns: Their names, none twice, those of cells beyond the header included.
        numbers: The places of the columns that have nothing but numbers.
        text: The place of the column that is the text; None if all of them are. `title` and `id` alike.
    """

    delimiter: str
    quoting: int
    columns: tuple[str, ...]
    numbers: frozenset[int]
    text: int | None
    title: int | None
    id: int | None


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """A document a row. Without a column that is the text, all cells are, each with its column's name before it."""
    # The limit is the whole process's; it is a guard against what is guarded against here.
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_CHARS))
    opened = _opener(file)
    table = _table(opened, options, PurePosixPath(file.name).suffix.lower())
    with opened() as lines:
        rows = _rows(lines, table.delimiter, table.quoting)
        next(rows)
        for first, cells in rows:
            yield _document(file.name, table, first, cells)


def _opener(file: SourceFile) -> Callable[[], TextIO]:
    """What opens the text from its start: a stream if it is UTF-8, so that a table may be of any size."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with file.path.open("rb") as data:
        try:
            while (chunk := data.read(2**20)) and b"\0" not in chunk:
                decoder.decode(chunk)
            if not chunk:
                decoder.decode(b"", final=True)
                return lambda: file.path.open(encoding="utf-8-sig")
        except UnicodeDecodeError:
            pass
    if file.size > _DECODED_BYTES:
        raise UnreadableFileError(f"over {_DECODED_BYTES // 2**20} MiB and not UTF-8 text")
    text = decode(file)
    return lambda: io.StringIO(text)


def _rows(lines: Iterable[str], delimiter: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, and the line that it starts on."""
    reader = csv.reader(chain(lines, [_END]), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except csv.Error as error:
            raise UnreadableFileError(f"line {first}: {error}") from None
        if cells == [_END]:
            return
        if cells and cells[-1].endswith(_END):
            raise UnreadableFileError(f"line {first}: a quote opens in this row and never closes")
        if any(cell.strip() for cell in cells):
            yield first, cells


def _table(opened: Callable[[], TextIO], options: ReadOptions, suffix: str) -> _Table:
    """Look at all of a table once."""
    with opened() as lines:
        delimiter = _delimiter(_sample(lines), suffix)
    quoting = csv.QUOTE_MINIMAL
    if delimiter == "\t":
        with opened() as lines:
            quoting = _quoting_of_tabs(lines)
    with opened() as lines:
        rows = _rows(lines, delimiter, quoting)
        header = next(rows, (0, []))[1]
        if not header:
            raise UnreadableFileError("empty")
        width, numbers, empty = len(header), set(range(len(header))), True
        for _, cells in rows:
            width, empty = max(width, len(cells)), False
            cell = dict(enumerate(cells))
            numbers -= {at for at in numbers if cell.get(at) and not _NUMBER.fullmatch(cell[at])}
    if empty:
        raise UnreadableFileError("a header without a row under it")
    columns = _columns([*header, *[""] * (width - len(header))])
    named = columns[: len(header)]
    text = find_field(options.text_field, TEXT_NAMES, named, "the header")
    others = named if options.title_field else tuple(column for column in named if column != text)
    title = find_field(options.title_field, TITLE_NAMES, others, "the header")
    known_by = find_field(options.id_field, ID_NAMES, named, "the header")
    places = (columns.index(column) if column else None for column in (text, title, known_by))
    return _Table(delimiter, quoting, columns, frozenset(numbers), *places)


def _columns(header: Sequence[str]) -> tuple[str, ...]:
    """Names for columns: one without is called by its number, and a second one of a name by its number of that name."""
    names: dict[str, None] = {}
    seen: dict[str, int] = {}
    for number, cell in enumerate(header, 1):
        name = base = " ".join(cell.split()) or f"column {number}"
        while name in names:
            seen[base] = seen.get(base, 1) + 1
            name = f"{base} {seen[base]}"
        names[name] = None
    return tuple(names)


def _sample(lines: Iterable[str]) -> list[str]:
    sample, size = [], 0
    for line in lines:
        sample.append(line)
        size += len(line)
        if len(sample) == _SAMPLE_LINES or size > _SAMPLE_CHARS:
            break
    return sample


def _delimiter(sample: Sequence[str], suffix: str) -> str:
    """What stands between cells: what most rows have as often as the header; of equals, what the header has most."""
    best, best_score = _NO_DELIMITER, (0.0, 0)
    for delimiter in _DELIMITERS:
        widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
        if not widths or widths[0] < 2:
            continue
        if suffix == ".tsv" and delimiter == "\t":
            return delimiter
        score = (widths.count(widths[0]) / len(widths), widths[0])
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _quoting_of_tabs(lines: Iterable[str]) -> int:
    """Whether quotes are syntax: in tables of tabs they are often characters like any other.

    They are, if each line has the header's number of tabs, but as syntax they would join lines.
    """
    filled, tabs = 0, set()

    def counted() -> Iterator[str]:
        nonlocal filled
        for line in lines:
            if line.strip():
                filled += 1
                tabs.add(line.count("\t"))
            yield line

    rows, closed = 0, True
    try:
        for _ in _rows(counted(), "\t", csv.QUOTE_MINIMAL):
            rows += 1
    except UnreadableFileError:
        closed = False
    return csv.QUOTE_NONE if len(tabs) == 1 and not (closed and rows == filled) else csv.QUOTE_MINIMAL


def _document(name: str, table: _Table, first: int, cells: Sequence[str]) -> Document:
    # Line ends are in quoted cells alone, so that the lines of each cell are known.
    starts = [first]
    for cell in cells:
        starts.append(starts[-1] + cell.count("\n"))

    def cell_at(place: int | None) -> str:
        return cells[place] if place is not None and place < len(cells) else ""

    title = " ".join(cell_at(table.title).split())
    metadata = {
        column: _value(cell, place in table.numbers)
        for place, (column, cell) in enumerate(zip(table.columns, cells, strict=False))
        if table.text is None or place not in (table.text, table.title)
    }
    if table.id is not None:
        metadata["_id"] = cell_at(table.id)
    code: tuple[tuple[int, int], ...] = ()
    if table.text is None:
        said = [place for place, cell in enumerate(cells) if cell.strip()]
        text = "\n".join(f"{table.columns[place]}: {cells[place]}" for place in said)
        code = ((0, len(text)),)  # a line a cell
        numbers = [line for place in said for line in range(starts[place], starts[place + 1] + 1)]
    elif cell_at(table.text).strip():
        text = cell_at(table.text)
        numbers = list(range(starts[table.text], starts[table.text + 1] + 1))
    else:  # a row without a text of its own is still found by its title
        text, numbers = title, [first]
    return Document(name, text, title, metadata, code=code, line_numbers=numbers)


def _value(cell: str, is_number: bool) -> str | float | None:
    """A cell as a filter compares it: numbers as such, if all of the column are."""
    if not is_number:
        return cell
    if not cell:
        return None
    return float(cell) if "." in cell else int(cell)
