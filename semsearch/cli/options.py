"""Options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

indexes_option = click.option(
    "--indexes",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("indexes"),
    envvar="SEMSEARCH_INDEXES",
    show_default=True,
    help="Folder that the indexes are in (also SEMSEARCH_INDEXES).",
)
index_option = click.option("-i", "--index", "name", help="Name of the index; may be left out if there is only one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator; the first is shown first."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


class Size(click.ParamType[int]):
    """A number of bytes: 500K, 10M, 2G."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In bytes; units are powers of 1,024."""
        found = re.fullmatch(r"(\d{1,15})\s*([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if not found or not int(found[1]):
            self.fail(f"{value!r} is no size; give bytes, or a number with K, M or G, such as 10M", param, ctx)
        return int(int(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
