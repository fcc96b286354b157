"""Options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Place(click.Path):
    """A path, or where it is allowed the URL of an object store."""

    def __init__(self, *, url: bool = False, **how: Any) -> None:
        super().__init__(path_type=Path, **how)
        self._url = url

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As a path, or as text if it is a URL."""
        if isinstance(value, str) and "://" in value:
            if not self._url:
                self.fail(f"{value!r} is a URL, which `index` and `serve` can use with --cluster alone", param, ctx)
            return value
        return super().convert(value, param, ctx)


def _indexes(*, url: bool = False) -> Callable[[Command], Command]:
    return click.option(
        "--indexes",
        type=Place(url=url, file_okay=False),
        default=Path("indexes"),
        envvar="SEMSEARCH_INDEXES",
        show_default=True,
        help=f"Folder that the indexes are in{', or with --cluster its URL' if url else ''} (also SEMSEARCH_INDEXES).",
    )


indexes_option, indexes_or_url_option = _indexes(), _indexes(url=True)
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
