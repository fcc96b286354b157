"""Globs: which paths a pattern names."""

from __future__ import annotations

import re
from functools import lru_cache

_CACHED = 1024  # more than one filter's terms, lest each row compile them anew
_TOKEN = re.compile(r"(\*+)|(\?)|\[([!^]?+)(\]?+(?:\\.|[^\]\\])*+)\]|\\(.)|([^\\\[])", re.DOTALL)
_RANGE = re.compile(r"\\?(.)(?:-\\?(.))?", re.DOTALL)


@lru_cache(maxsize=_CACHED)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression for whole paths.

    What follows a star is taken at the first place that fits and never elsewhere (`?>`): that finds a match if there
    is one, and no glob takes long over any path.

    Raises:
        ValueError: It is no glob; says why.
    """
    if not pattern:
        raise ValueError("it is empty")
    segments = ["**" if re.fullmatch(r"\*{2,}", name) else name for name in pattern.removeprefix("/").split("/")]
    if "/" not in pattern:
        segments.insert(0, "**")
    if segments[-1] == "":
        segments[-1] = "**"
    if "" in segments:
        raise ValueError("it has nothing between two slashes")
    runs = [""]
    for segment in segments[:-1]:
        if segment == "**":
            runs.append("")
        else:
            runs[-1] += f"{_segment(segment)}/"
    middle = [f"(?>(?:[^/]+/)*?{run})" for run in runs[1:-1] if run]
    start = runs[0] + "".join(middle) + (f"(?:[^/]+/)*{runs[-1]}" if len(runs) > 1 else "")
    return re.compile(start + (r"(?s:.*)" if segments[-1] == "**" else _segment(segments[-1])))


def _segment(segment: str) -> str:
    runs = [""]
    at = 0
    while at < len(segment):
        match = _TOKEN.match(segment, at)
        if not match:
            raise ValueError("'[' is not closed" if segment[at] == "[" else "it ends in a backslash")
        at = match.end()
        star, any_one, negation, members, escaped, plain = match.groups()
        if star:
            runs.append("")
        elif any_one:
            runs[-1] += "[^/]"
        else:
            runs[-1] += _set(members, negation) if members else re.escape(escaped or plain)
    if len(runs) == 1:
        return runs[0]
    return runs[0] + "".join(f"(?>[^/]*?{run})" for run in runs[1:-1] if run) + f"[^/]*{runs[-1]}"


def _set(members: str, negation: str) -> str:
    if "[:" in members:
        raise ValueError("classes such as [:alpha:] are not known")
    ranges = [(match[1], match[2] or match[1]) for match in _RANGE.finditer(members)]
    if backwards := [f"{low}-{high}" for low, high in ranges if low > high]:
        raise ValueError(f"{backwards[0]} is backwards")
    listed = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges)
    return f"(?!/)[{negation and '^'}{listed}]"
