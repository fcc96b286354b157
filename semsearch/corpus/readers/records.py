"""Records: BEIR's `corpus.jsonl`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """One document a line: `_id`, `title` and `text`; what else stands there is metadata, and so is `_id`.

    The layout is that of BEIR (Thakur et al. 2021, https://github.com/beir-cellar/beir).
    """
    # All of it is checked before any of it is passed on: half a corpus looks like a whole one.
    for _ in _beir_records(file):
        pass
    for number, record in _beir_records(file):
        text = record.pop("text")
        title = record.pop("title")
        lines = text.count("\n") + 1
        # A record without a text of its own is still found by its title.
        yield Document(file.name, text if text.strip() else title, title, record, line_numbers=(number,) * lines)


def _beir_records(file: SourceFile) -> Iterator[tuple[int, dict[str, Any]]]:
    empty = True
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError):
                raise UnreadableFileError(f"line {number} is not JSON in UTF-8") from None
            if not isinstance(record, dict):
                raise UnreadableFileError(f"line {number} is not a JSON object")
            for key in ("_id", "title", "text"):
                if not isinstance(record.get(key), str):
                    raise UnreadableFileError(
                        f'line {number} has no "{key}" that is a string: not a BEIR corpus (_id, title, text)'
                    )
            record["title"] = _LONE_SURROGATE.sub("\ufffd", record["title"])
            record["text"] = _LONE_SURROGATE.sub("\ufffd", record["text"])
            empty = empty and not (record["title"] + record["text"]).strip()
            yield number, record
    if empty:
        raise UnreadableFileError("empty")
