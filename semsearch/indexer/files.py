"""What is known of a file by its bytes alone."""

from __future__ import annotations

import hashlib
import time

from semsearch.corpus.walk import SourceFile


def digest_of(file: SourceFile) -> tuple[int, str]:
    """When a file was looked at, in nanoseconds since the epoch, and the SHA-256 of its content or ""."""
    seen_ns = time.time_ns()
    try:
        with file.path.open("rb") as content:
            return seen_ns, hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return seen_ns, ""  # reading it will say why
