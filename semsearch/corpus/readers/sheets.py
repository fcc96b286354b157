"""Spreadsheets (XLSX, XLSB, XLS, ODS): a line of text for each row that has something in it."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from python_calamine import CalamineSheet, CalamineWorkbook, PasswordError, SheetTypeEnum

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import packages
from semsearch.corpus.readers.builder import CELL, Builder, one_line
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

# The library fills a sheet with empty cells from its first to its last, and ends the process if there is no memory for
# them: two words in opposite corners are enough.
_MAX_CELLS = 50_000_000
_WORKSHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_EXTENT = re.compile(rb'<dimension ref="[A-Z]+\d+:([A-Z]+)(\d+)"')
_CELL = re.compile(rb'<c r="([A-Z]{1,3})(\d{1,7})"')
_Value = int | float | str | bool | datetime.time | datetime.date | datetime.datetime | datetime.timedelta


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The sheets, a part each; of formulas the values that the file was saved with."""
    with packages.refusals("spreadsheet"):
        document = _document(file)
    yield document


def _document(file: SourceFile) -> Document:
    if not file.size:
        raise UnreadableFileError("empty")
    if zipfile.is_zipfile(file.path):
        with zipfile.ZipFile(file.path) as package:
            packages.check(package)
            _check_extent(package)
    builder = Builder()
    try:
        # Opened first and by its content: a name may lie, and what is no file shall be told as an OSError.
        with file.path.open("rb") as stream:
            packages.check_compound(stream)
            with CalamineWorkbook.from_filelike(stream) as workbook:
                for number, sheet in enumerate(workbook.sheets_metadata, 1):
                    if sheet.typ == SheetTypeEnum.WorkSheet:
                        _sheet(builder, number, workbook.get_sheet_by_index(number - 1))
    except PasswordError:
        raise UnreadableFileError("encrypted; save it without a password") from None
    # Not the first sheet's name, which is one of many.
    return builder.document(file, PurePosixPath(file.name).stem, {}, lines=True)


def _sheet(builder: Builder, number: int, sheet: CalamineSheet) -> None:
    if sheet.start is None or sheet.end is None:
        return
    if sheet.height * sheet.width > _MAX_CELLS:
        raise UnreadableFileError(f"sheet {sheet.name!r} has {sheet.height} rows of {sheet.width} columns")
    first_row, first_column = sheet.start
    rows = [[_shown(value) for value in row] for row in sheet.to_python()]
    width = max((index + 1 for row in rows for index, value in enumerate(row) if value), default=0)
    if not width:
        return
    skipped = min(index for row in rows for index, value in enumerate(row) if value)
    left, right = _column(first_column + skipped), _column(first_column + width - 1)
    builder.part("sheet", number, name=sheet.name, columns=f"{left}:{right}")
    builder.heading_unsaid(1, sheet.name)
    apart = True
    for line_number, row in enumerate(rows, first_row + 1):
        # Empty rows are where one table ends and the next one starts.
        if any(row):
            builder.block(CELL.join(row[skipped:]), apart=apart, line_number=line_number)
        apart = not any(row)


def _check_extent(package: zipfile.ZipFile) -> None:
    for name in filter(_WORKSHEET.fullmatch, package.namelist()):
        with package.open(name) as member:
            said = _EXTENT.search(member.read(4096))
        # What programs say of this is often too much, so the cells are asked.
        if said and _index(said[1]) * int(said[2]) > _MAX_CELLS:
            cells = _CELL.findall(package.read(name))
            columns = max((_index(column) for column in {column for column, _ in cells}), default=0)
            rows = max((int(row) for _, row in cells), default=0)
            if rows * columns > _MAX_CELLS:
                raise UnreadableFileError(f"a sheet of {rows} rows and {columns} columns, nearly all of them empty")


def _index(letters: bytes) -> int:
    """The number of a column, counted from 1."""
    index = 0
    for letter in letters:
        index = index * 26 + letter - ord("A") + 1
    return index


def _shown(value: _Value) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        # As many digits as spreadsheets keep; more would show what binary makes of 0.3.
        return f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        at_midnight = value.time() == datetime.time()
        return value.date().isoformat() if at_midnight else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return one_line(str(value))


def _column(index: int) -> str:
    """The letters of a column, counted from 0."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters
