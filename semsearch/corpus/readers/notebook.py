"""Jupyter notebooks: their text, code, and what the code printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import markdown
from semsearch.corpus.readers.records import load_json
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document, Heading, Part

# Of one cell's outputs; what is longer is a log or a table.
_OUTPUT_CHARS = 2000
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_OUTPUTS = frozenset({"display_data", "execute_result", "pyout"})


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The cells of a notebook (nbformat 3 or 4), a blank line apart; lines are those of this text, not of the file."""
    try:
        notebook = load_json(decode(file))
    except ValueError:
        raise UnreadableFileError("not JSON, or nested too deeply: not a notebook") from None
    cells = _cells(notebook)
    built = _Builder()
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict):
            built.add(cell, number)
    text = "".join(built.pieces)
    if not text.strip():
        raise UnreadableFileError("empty")
    titles = (heading.text for heading in built.headings if heading.level == 1)
    language = _language(notebook)
    yield Document(
        file.name,
        text,
        next(titles, PurePosixPath(file.name).stem),
        {"language": language} if language else {},
        tuple(built.headings),
        markup=built.markup,
        code=built.code,
        parts=tuple(built.parts),
    )


class _Builder:
    """The text so far, and what is known of it."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.headings: list[Heading] = []
        self.markup: list[tuple[int, int]] = []
        self.code: list[tuple[int, int]] = []
        self.parts: list[Part] = []
        self._length = 0

    def add(self, cell: dict[str, Any], number: int) -> None:
        source = _text(cell.get("source", cell.get("input")))
        kind = cell.get("cell_type")
        if kind == "code":
            source = "\n\n".join(piece for piece in (source, _outputs(cell.get("outputs"))) if piece.strip())
        if not source.strip():
            return
        if self.pieces:
            self._append("\n\n")
        at = self._length
        self.parts.append(Part(at, "cell", number))
        if kind == "markdown":
            parsed = markdown.parse(source)
            self.headings += (
                replace(one, char_start=at + one.char_start, char_end=at + one.char_end) for one in parsed.headings
            )
            self.markup += ((at + start, at + end) for start, end in parsed.markup)
            self.code += ((at + start, at + end) for start, end in parsed.code)
        elif kind == "code":
            self.code.append((at, at + len(source)))
        elif kind == "heading":  # of nbformat 3
            level = cell.get("level")
            level = level if isinstance(level, int) else 1
            self.headings.append(Heading(at, level, " ".join(source.split()), at + len(source)))
        self._append(source)

    def _append(self, piece: str) -> None:
        self.pieces.append(piece)
        self._length += len(piece)


def _cells(notebook: Any) -> Sequence[Any]:
    """The cells; nbformat 3 has them on sheets."""
    if isinstance(notebook, dict):
        if isinstance(cells := notebook.get("cells"), list):
            return cells
        if isinstance(sheets := notebook.get("worksheets"), list):
            lists = (sheet["cells"] for sheet in sheets if isinstance(sheet, dict) and "cells" in sheet)
            return [cell for cells in lists if isinstance(cells, list) for cell in cells]
    raise UnreadableFileError('no "cells": not a notebook of nbformat 3 or 4')


def _text(value: object) -> str:
    """A string of a notebook, which may be a list of its lines."""
    if isinstance(value, list):
        value = "".join(item for item in value if isinstance(item, str))
    return value.replace("\r\n", "\n").replace("\r", "\n").strip("\n") if isinstance(value, str) else ""


def _outputs(outputs: object) -> str:
    """What a cell printed, as text."""
    found = []
    for output in outputs if isinstance(outputs, list) else ():
        if not isinstance(output, dict):
            continue
        kind, data = output.get("output_type"), output.get("data")
        if kind == "stream":
            found.append(_text(output.get("text")))
        elif kind in _OUTPUTS:
            found.append(_text(data.get("text/plain") if isinstance(data, dict) else output.get("text")))
        elif kind in ("error", "pyerr"):
            found.append(f"{_text(output.get('ename'))}: {_text(output.get('evalue'))}")
    return _ESCAPES.sub("", "\n".join(one for one in found if one))[:_OUTPUT_CHARS]


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for part, key in (("language_info", "name"), ("kernelspec", "language"), ("kernelspec", "name")):
        found = metadata.get(part) if isinstance(metadata, dict) else None
        if isinstance(found, dict) and isinstance(found.get(key), str) and found[key]:
            return str(found[key])
    return ""
