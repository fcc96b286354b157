"""Zip files with XML inside, which most document formats are, opened with the care that strangers' files need."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from lxml import etree

from semsearch.corpus.readers.builder import one_line
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError

# No document unpacks to more, and none that is larger than a book or two is nothing but repetition: pictures do not
# shrink, and the XML of real documents shrinks to a tenth or a twentieth. Sheets of equal cells come closest.
_MAX_UNPACKED, _MAX_RATIO, _RATIO_FROM = 2**30, 200, 100 * 2**20
_ENCRYPTED = "encrypted; save it without a password"
# How a compound file starts, and what in it a document is called that was encrypted.
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_REASON_LENGTH = 120


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """Whatever goes wrong inside makes the file unreadable as a `name`, and says why in short.

    Libraries meet files that nobody thought of with whatever exception comes of it: KeyError, AttributeError, and in
    those written in Rust a panic, which is no Exception.
    """
    try:
        yield
    except (UnreadableFileError, MemoryError, FileNotFoundError, PermissionError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = one_line(str(error))
        if isinstance(error, KeyError) or not reason:
            reason = f"{type(error).__name__} {reason}".strip()
        if len(reason) > _REASON_LENGTH:
            reason = f"{reason[:_REASON_LENGTH]}…"
        raise UnreadableFileError(f"not a readable {name}: {reason}") from None


@contextmanager
def opened(file: SourceFile) -> Iterator[IO[bytes]]:
    """The file, which is a zip file whose members, all unpacked, are of a reasonable size.

    Raises:
        UnreadableFileError: They are not, or the file is empty or encrypted.
        zipfile.BadZipFile: It is no zip file.
    """
    with file.path.open("rb") as stream:
        start = stream.read(len(_COMPOUND_FILE))
        if not start:
            raise UnreadableFileError("empty")
        if start == _COMPOUND_FILE:
            check_compound(stream)
            raise UnreadableFileError("of a format before 2007; save it anew")
        with zipfile.ZipFile(stream) as package:
            check(package)
        yield stream


def check_compound(stream: IO[bytes]) -> None:
    """Refuse a compound file, as Office wrote before 2007, that is the shell of an encrypted document.

    Raises:
        UnreadableFileError: It is.
    """
    stream.seek(0)
    if stream.read(len(_COMPOUND_FILE)) == _COMPOUND_FILE and _ENCRYPTED_PACKAGE in stream.read():
        raise UnreadableFileError(_ENCRYPTED)
    stream.seek(0)


def check(package: zipfile.ZipFile) -> None:
    """Refuse a zip bomb, and what is encrypted in the way of zip files or of OpenDocument.

    Raises:
        UnreadableFileError: It is one of these.
    """
    members = package.infolist()
    unpacked, packed = sum(one.file_size for one in members), sum(one.compress_size for one in members)
    limit = _MAX_UNPACKED if unpacked < packed * _MAX_RATIO else _RATIO_FROM
    if unpacked > limit:
        raise UnreadableFileError(
            f"unpacks to {unpacked / 2**20:.0f} MiB, which is over the limit of {limit / 2**20:g} MiB"
        )
    manifest = "META-INF/manifest.xml"
    if any(one.flag_bits & 1 for one in members) or (
        manifest in package.namelist() and b"encryption-data" in package.read(manifest)
    ):
        raise UnreadableFileError(_ENCRYPTED)


def parse_xml(data: bytes) -> Any:
    """The root element of an XML document; entities of its own are not expanded, nothing is fetched."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    return etree.fromstring(data, parser)


def core_metadata(package: Any, relationship: str) -> dict[str, Any]:
    """What an Office document says about itself: of its package, as python-docx or python-pptx open it.

    The libraries' own way makes up what is missing: a title, an author, the present time.
    """
    try:
        part = package.part_related_by(relationship)
    except KeyError:
        return {}
    # In the one library the part has them, in the other it is them.
    core = getattr(part, "core_properties", part)
    names = ("title", "author", "subject", "keywords", "category", "language", "created", "modified")
    metadata = {}
    for name in names:
        value: Any = getattr(core, name, None)
        metadata[name] = value.isoformat() if hasattr(value, "isoformat") else one_line(value or "")
    return metadata
