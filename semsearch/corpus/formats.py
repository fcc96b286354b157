"""What can be read: file formats, the modules that read them, and the libraries that these need."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePosixPath

from semsearch.errors import UnreadableFileError


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read.

    Attributes:
        text_field: Of records (JSON Lines, CSV, TSV), the field that is the text; empty for the usual names.
        title_field: As `text_field`, of the title.
        id_field: As `text_field`, of what a record is known by.
        max_file_size: Bytes above which a file is skipped; None for what is usual in its format.
    """

    text_field: str = ""
    title_field: str = ""
    id_field: str = ""
    max_file_size: int | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        name: As people call it.
        module: Of `semsearch.corpus.readers`, what reads it.
        suffixes: Of its files' names, in lower case, with the dot.
        libraries: What the module imports of the extra `documents`.
        max_file_size: Bytes above which a file is skipped unless options say otherwise.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    # A novel is about 1 MiB; text that is larger than ten of them is a dump or a log.
    max_file_size: int = 10 * 2**20

    def size_limit(self, options: ReadOptions) -> int:
        """Bytes above which a file is skipped."""
        return self.max_file_size if options.max_file_size is None else options.max_file_size

    @property
    def missing(self) -> tuple[str, ...]:
        """The libraries that are not installed."""
        return tuple(name for name in self.libraries if find_spec(name) is None)


# Pictures make documents large, not text; and records are read one at a time.
_LARGE, _ENDLESS = 100 * 2**20, 2**63
FORMATS = (
    Format("Markdown", "markdown", (".md", ".markdown", ".mdown", ".mkd", ".qmd", ".rmd")),
    Format("HTML", "html", (".html", ".htm", ".xhtml")),
    Format("plain text", "text", (".txt", ".text", "")),
    Format("reStructuredText", "rst", (".rst", ".rest")),
    Format("AsciiDoc", "adoc", (".adoc", ".asciidoc")),
    Format("Org", "org", (".org",)),
    Format("LaTeX", "latex", (".tex", ".latex", ".ltx")),
    Format("PDF", "pdf", (".pdf",), ("pypdfium2",), _LARGE),
    Format("DOCX", "docx", (".docx", ".docm", ".dotx"), ("docx", "lxml"), _LARGE),
    Format("PPTX", "pptx", (".pptx", ".pptm", ".ppsx", ".potx"), ("pptx", "lxml"), _LARGE),
    Format("spreadsheet", "sheets", (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), ("python_calamine", "lxml"), _LARGE),
    Format("OpenDocument", "opendocument", (".odt", ".ott", ".odp", ".otp"), ("lxml",), _LARGE),
    Format("EPUB", "epub", (".epub",), ("lxml",), _LARGE),
    # Most of it is pictures.
    Format("Jupyter notebook", "notebook", (".ipynb",), max_file_size=_LARGE),
    Format("mail", "mail", (".eml",), max_file_size=_LARGE),
    Format("mailbox", "mail", (".mbox", ".mbx"), max_file_size=_ENDLESS),
    Format("JSON Lines", "records", (".jsonl", ".ndjson"), max_file_size=_ENDLESS),
    Format("CSV", "delimited", (".csv", ".tsv"), max_file_size=_ENDLESS),
    Format(
        "source code",
        "code",
        tuple(
            ".asm .awk .bash .bat .c .cc .cfg .clj .cljs .cmake .cpp .cs .css .cu .cxx .dart .el .erl .ex .exs "
            ".f90 .fs .go .gradle .graphql .groovy .h .hh .hpp .hrl .hs .hxx .ini .java .jl .js .jsx .kt .kts "
            ".less .lisp .lua .m .mjs .ml .mli .mm .nim .nix .pas .php .pl .pm .proto .ps1 .py .pyi .r .rb .rs "
            ".sass .scala .scm .scss .sh .sql .svelte .swift .tcl .tf .thrift .toml .ts .tsx .vb .vim .vue .yaml "
            ".yml .zig .zsh".split()
        ),
    ),
)
_BY_SUFFIX = {suffix: one for one in FORMATS for suffix in one.suffixes}


def format_of(name: str) -> Format:
    """The format of a file, by its name.

    Raises:
        UnreadableFileError: None that can be read here.
    """
    # A file without a suffix is often README, LICENSE or Makefile; if it is not text, decoding says so.
    suffix = PurePosixPath(name).suffix.lower()
    if (found := _BY_SUFFIX.get(suffix)) is None:
        raise UnreadableFileError(f"unsupported type {suffix}")
    if found.missing:
        raise UnreadableFileError(f"{found.name} needs the extra `documents`: pip install 'semsearch[documents]'")
    return found
