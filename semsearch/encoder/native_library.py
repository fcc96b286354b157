"""The compiled `native/forward.c`: the machine's own C compiler makes it into a library, once, for this processor."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from semsearch.errors import UnsupportedModelError

logger = logging.getLogger(__name__)

_SOURCES = Path(__file__).with_name("native")
_FLAGS = "-O3 -fno-math-errno -fPIC -shared".split()
_COMPILE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Instructions:
    """A set of instructions that the library can be compiled for.

    Attributes:
        extensions: What the processor must have, as compilers name it.
        longest_sum: What the weights of one sign may add up to among eight whose products with 7 bits are added up in
            16 bits; None where products are added up in 32 bits at once.
    """

    extensions: tuple[str, ...]
    longest_sum: int | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The extensions as Linux names them."""
        return frozenset(_LINUX_NAMES.get(one, one) for one in self.extensions)


_AVX2 = ("avx2", "fma")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")
# The fastest first.
INSTRUCTIONS: Mapping[str, Instructions] = MappingProxyType(
    {
        "avx512-bf16": Instructions((*_AVX512, "avx512bf16")),
        "avx512-vnni": Instructions(_AVX512),
        "avx-vnni": Instructions((*_AVX2, "avxvnni")),
        "avx2": Instructions(_AVX2, longest_sum=(2**15 - 1) // 127),
    }
)
# What Linux calls by another name than compilers do.
_LINUX_NAMES = {"avx512vnni": "avx512_vnni", "avx512bf16": "avx512_bf16", "avxvnni": "avx_vnni"}


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library, and what it was compiled for."""

    functions: ctypes.CDLL
    instructions: Instructions


@lru_cache(maxsize=1)
def load_library() -> Library:
    """The library for the best instructions that this processor has.

    Raises:
        UnsupportedModelError: None of them, or no compiler.
    """
    there = _cpu_flags()
    fitting = next((one for one in INSTRUCTIONS.values() if one.needs <= there), None)
    if fitting is None:
        raise UnsupportedModelError(f"int8 needs Linux on a processor with {' and '.join(_AVX2)}")
    try:
        functions = _load(fitting)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnsupportedModelError(f"int8 needs a C compiler, and compiling failed: {error}") from error
    pointer = ctypes.c_void_p
    functions.semsearch_scratch.restype = ctypes.c_size_t
    functions.semsearch_scratch.argtypes = [pointer, ctypes.c_size_t, ctypes.c_size_t]
    functions.semsearch_forward.restype = None
    functions.semsearch_forward.argtypes = [pointer] * 4 + [ctypes.c_int] * 2 + [pointer]
    return Library(functions, fitting)


def _cpu_flags() -> frozenset[str]:
    """What the processor can do, as Linux names it; nothing elsewhere."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return frozenset()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return frozenset(line.split())
    return frozenset()


def _load(instructions: Instructions) -> ctypes.CDLL:
    """The library, from the user's cache or compiled now, which takes a second or two."""
    command = [*_FLAGS, *(f"-m{one}" for one in instructions.extensions)]
    sources = [path.read_bytes() for path in sorted(_SOURCES.iterdir())]
    digest = hashlib.sha256(b"\0".join([*sources, " ".join(command).encode()])).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semsearch"
    cached = cache / f"native-{digest[:16]}.so"
    if cached.exists():
        return ctypes.CDLL(str(cached))
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise FileNotFoundError("none of cc, gcc and clang is there")
    with tempfile.TemporaryDirectory(prefix="semsearch-") as folder:
        made = Path(folder) / cached.name
        command = [compiler, *command, str(_SOURCES / "forward.c"), "-o", str(made), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_SECONDS)
        library = ctypes.CDLL(str(made))
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Under its name only once it is whole, whoever else is making it.
            partial = cached.with_suffix(f".{os.getpid()}")
            shutil.copyfile(made, partial)
            os.replace(partial, cached)
        except OSError as error:
            logger.info("the compiled library is not kept, and is made anew each time: %s", error)
    return library
