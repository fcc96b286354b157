"""Files to documents: plain text, source code, Markdown, HTML, and BEIR's `corpus.jsonl`."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from semsearch.corpus import markdown
from semsearch.corpus.html import extract
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

# A novel is about 1 MiB; what is larger than ten of them is a dump or a log. A corpus.jsonl has no limit: it
# is read a line at a time.
MAX_FILE_SIZE = 10 * 1024 * 1024

_MARKDOWN = frozenset({".md", ".markdown", ".mdown", ".mkd", ".qmd", ".rmd"})
_HTML = frozenset({".html", ".htm", ".xhtml"})
_TEXT = frozenset({".txt", ".text", ".rst", ".adoc", ".asciidoc", ".org", ".tex"})
_SOURCE = frozenset(
    ".asm .awk .bash .bat .c .cc .cfg .clj .cljs .cmake .cpp .cs .css .cu .cxx .dart .el .erl .ex .exs .f90 .fs .go "
    ".gradle .graphql .groovy .h .hh .hpp .hrl .hs .hxx .ini .java .jl .js .jsx .kt .kts .less .lisp .lua .m .mjs "
    ".ml .mli .mm .nim .nix .pas .php .pl .pm .proto .ps1 .py .pyi .r .rb .rs .sass .scala .scm .scss .sh .sql "
    ".svelte .swift .tcl .tf .thrift .toml .ts .tsx .vb .vim .vue .yaml .yml .zig .zsh".split()
)

# The longer marks first: that of UTF-16 is the start of that of UTF-32.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read(file: SourceFile) -> Iterator[Document]:
    """Yield the documents of a file: one, but for a BEIR corpus, which has one a line.

    Raises:
        UnreadableFileError: The type is not supported, or the file is binary, not UTF-8 or UTF-16, too
            large, empty, or not permitted; before the first document, never after one.
    """
    try:
        yield from _reader_for(file)(file)
    except OSError as error:
        raise UnreadableFileError(f"cannot be read: {error.strerror}") from None


def check_type(file: SourceFile) -> None:
    """Look at a file's name alone.

    Raises:
        UnreadableFileError: The type is not supported.
    """
    _reader_for(file)


def _reader_for(file: SourceFile) -> Callable[[SourceFile], Iterator[Document]]:
    suffix = PurePosixPath(file.name).suffix.lower()
    if suffix == ".jsonl":
        return _read_beir
    if suffix in _MARKDOWN:
        return _read_markdown
    if suffix in _HTML:
        return _read_html
    # A file without a suffix is often README, LICENSE or Makefile; if it is not text, decoding says so.
    if suffix in _TEXT or suffix in _SOURCE or not suffix:
        return _read_text
    raise UnreadableFileError(f"unsupported type {suffix}")


def _read_text(file: SourceFile) -> Iterator[Document]:
    name = PurePosixPath(file.name)
    title = name.stem if name.suffix.lower() in _TEXT else name.name
    yield Document(file.name, _decode(file), title)


def _read_markdown(file: SourceFile) -> Iterator[Document]:
    text = _decode(file)
    parsed = markdown.parse(text)
    title = parsed.metadata.get("title")
    if not (isinstance(title, str) and title.strip()):
        first = parsed.headings[0] if parsed.headings else None
        title = first.text if first and first.level == 1 else PurePosixPath(file.name).stem
    yield Document(
        file.name,
        text,
        title.strip(),
        parsed.metadata,
        parsed.headings,
        body_start=parsed.body_start,
        markup=parsed.markup,
    )


def _read_html(file: SourceFile) -> Iterator[Document]:
    page = extract(_decode(file))
    if not page.text.strip():
        raise UnreadableFileError("empty")
    first = page.headings[0].text if page.headings else PurePosixPath(file.name).stem
    yield Document(file.name, page.text, page.title or first, {}, page.headings, line_numbers=page.line_numbers)


def _read_beir(file: SourceFile) -> Iterator[Document]:
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


def _decode(file: SourceFile) -> str:
    r"""The file's text, its line ends as `\n`, as Python's own text mode reads it."""
    if file.size > MAX_FILE_SIZE:
        raise UnreadableFileError(f"{file.size / 2**20:.1f} MiB is over the limit of {MAX_FILE_SIZE // 2**20} MiB")
    data = file.path.read_bytes()
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data:
        raise UnreadableFileError("binary")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"not {encoding.upper()} text: byte {error.start}") from None
    if not text.strip():
        raise UnreadableFileError("empty")
    return text.replace("\r\n", "\n").replace("\r", "\n")
