"""A process that reads and cuts files for another one.

Parsers are given whatever lies in people's folders. Here a crash, a hang or a bomb of a file ends a process that
nobody misses: it has limits of memory, and the one that asked ends it when it takes too long (`indexer/pool.py`). What
goes back is JSON, from which nothing can be run.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

from semsearch.corpus.chunking import Chunker
from semsearch.corpus.formats import ReadOptions, format_of
from semsearch.corpus.readers import read
from semsearch.corpus.walk import SourceFile
from semsearch.encoder.tokenizer import Tokenizer
from semsearch.errors import UnreadableFileError
from semsearch.indexer.files import digest_of
from semsearch.types import Passage

# Address space that a process may take, in bytes; a third of it or so is taken by libraries before it begins.
MEMORY_LIMIT = 3 * 2**30
# A process that has so much after a file is ended, and says so with its last answer.
_MEMORY_KEPT = 2**29
# The last answer of a file is one of these.
ENDS = ("end", "skipped")
_LENGTH = struct.Struct(">I")
# As `dataclasses.astuple`, which copies each value.
_values_of = attrgetter(*(field.name for field in fields(Passage)))


def send(stream: BinaryIO, value: object) -> None:
    """Write one value."""
    content = json.dumps(value, default=str).encode()
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one value.

    Raises:
        EOFError: The other side has gone.
    """
    head = stream.read(_LENGTH.size)
    content = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if not content:
        raise EOFError
    return json.loads(content)


def main() -> None:
    """Read the files that are asked for on stdin, until it ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What a library prints must not get among the answers.
    os.dup2(2, 1)
    # Ctrl-C goes to each process of a terminal; the one that asked decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setup = receive(requests)
    tokenizer = Tokenizer.from_json(setup["tokenizer"], setup["max_seq_length"])
    chunker = Chunker(tokenizer.token_starts, setup["max_tokens"], **setup["cutting"])
    options = ReadOptions(**setup["read_options"])
    _limit_memory()
    send(answers, ["ready"])
    while True:
        try:
            path, name, size, mtime_ns = receive(requests)
        except EOFError:
            return
        file = SourceFile(Path(path), name, size, mtime_ns)
        for answer in answers_of(file, options, chunker):
            leaves = answer[0] in ENDS and _memory() > _MEMORY_KEPT
            send(answers, (answer, leaves))
            if leaves:
                return


def answers_of(file: SourceFile, options: ReadOptions, chunker: Chunker) -> Iterator[Sequence[Any]]:
    """What is known of a file before it is read; its documents, each with its passages; and how it ended."""
    try:
        format_of(file.name)
        # The hash comes before the text: if the file changes in between, the next update reads it again.
        yield "file", *digest_of(file)
        empty = True
        for document in read(file, options):
            if passages := [(_values_of(passage), text) for passage, text in chunker.chunk(document)]:
                empty = False
                yield "document", document.title, document.metadata, passages
        if empty:
            raise UnreadableFileError("empty")
        yield ("end",)
    except UnreadableFileError as error:
        yield "skipped", str(error)
    except MemoryError:
        yield "skipped", f"reading it takes more than {MEMORY_LIMIT / 2**30:g} GiB of memory"
    except RecursionError:
        yield "skipped", "nested too deeply"
    except Exception as error:
        # A parser that meets what its author did not think of; its own words may help.
        yield "skipped", f"cannot be read: {type(error).__name__}: {error}"[:200]


def setup_of(tokenizer: Tokenizer, max_tokens: int, cutting: dict[str, int], options: ReadOptions) -> dict[str, Any]:
    """What a worker is told first."""
    return {
        "tokenizer": tokenizer.to_json(),
        "max_seq_length": tokenizer.max_seq_length,
        "max_tokens": max_tokens,
        "cutting": cutting,
        "read_options": asdict(options),
    }


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _memory() -> int:
    """Bytes of memory that this process has; 0 where nothing tells."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
