"""Pages of mapped files, mapped before they are used."""

from __future__ import annotations

import ctypes
import os
import sys
import threading

# Linux 5.14; the `mmap` module has no name for it.
_MADV_POPULATE_READ = 22
# Of the machine's memory, what a file may take; a larger one is mapped as it is read.
_SHARE_OF_MEMORY = 0.25


def map_ahead(address: int, size: int, owner: object) -> None:
    """Map the pages of a mapped file in the background.

    Else the first use of each 64 KiB is a page fault, and hundreds of queries in a million vectors take twice as long.
    Where the system cannot do it nothing happens.

    Args:
        address: Where the mapping starts.
        size: Its bytes.
        owner: What keeps the mapping, and is kept until it is done.
    """
    if sys.platform != "linux" or size > _SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        return
    start = address - address % os.sysconf("SC_PAGE_SIZE")

    def populate(_: object) -> None:
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        madvise(start, address + size - start, _MADV_POPULATE_READ)

    threading.Thread(target=populate, args=(owner,), daemon=True, name="map-ahead").start()
