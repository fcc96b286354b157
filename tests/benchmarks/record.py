"""What was measured on what: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_LIBRARIES = ("semsearch", "torch", "transformers", "sentence-transformers", "faiss-cpu", "numpy")


def machine() -> dict[str, Any]:
    """The processor, its cores, and the libraries' versions."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    return {
        "cpu": fields.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "python": platform.python_version(),
        "versions": {library: version(library) for library in _LIBRARIES},
    }


def report(
    title: str, unit: str, values: Mapping[str, Sequence[float]], *, base: str, notes: Mapping[str, str], json_to: str
) -> None:
    """Print medians and their ratios to the median of `base`, and write them to a file if one is named.

    Args:
        title: What was measured on what.
        unit: Of the values.
        values: Of each contender, one value a round; the rounds were interleaved.
        base: The contender that the others are compared with.
        notes: More of a contender, for the table's last column.
        json_to: Path of the JSON record, or empty for none.
    """
    medians = {name: statistics.median(rounds) for name, rounds in values.items()}
    ratios = {name: median / medians[base] for name, median in medians.items()}
    print(f"{title}; medians of {len(values[base])} interleaved rounds")
    for name, median in medians.items():
        print(f"  {name:<34} {median:>10,.3f} {unit}  ratio {ratios[name]:.3f}  {notes.get(name, '')}")
    if json_to:
        record = {"title": title, "unit": unit, "base": base, "machine": machine(), "medians": medians}
        content = json.dumps({**record, "ratios": ratios, "rounds": values, "notes": notes}, indent=2)
        Path(json_to).write_text(content + "\n", encoding="utf-8")
