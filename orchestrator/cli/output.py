"""What commands show, wherever it goes: a terminal of any width, a pipe, a file.

Left alone, rich takes 80 columns where there is no terminal, and squeezes what does not fit until
numbers stand one digit above the other. Here a table in a pipe gets the width that it needs. On a
terminal numbers and names stay whole, texts fold at words, and columns for which there is no room
come in a second table beneath, behind the first column again: nothing is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Column, Table

NAME_CHARS = 24
"""Cells up to here are names and numbers, and stay whole; longer ones are texts, which may fold."""
WORD_CHARS = 40
"""Words of texts stay whole up to here: ids and file names are copied."""
TEXT_CHARS = 72
"""Where texts fold although there is room: longer lines are hard to read."""
_ANY = 100_000
"""The width of a pipe."""


def teller(as_json: bool) -> Callable[[object], None]:
    """Tells people, on stderr, what is being done; nobody else."""
    if as_json:
        return lambda what: None
    return lambda what: typer.echo(f"  {what} ...", err=True)


def print_parts(*parts: RenderableType) -> None:
    """Print to stdout. ``COLUMNS`` has a say over pipes, too."""
    from rich.console import Console
    from rich.table import Table

    has_width = sys.stdout.isatty() or os.environ.get("COLUMNS")
    # No emoji: ids like a:train:1 are no trams.
    console = Console(emoji=False, highlight=False, width=None if has_width else _ANY)
    for part in parts:
        if not isinstance(part, Table):
            console.print(part)
            continue
        # By themselves: in the table they would fold at its width, not at the terminal's.
        if part.title:
            console.print(part.title, style="table.title")
        for table in fitted(part, console.width):
            console.print(table)
        if part.caption:
            console.print(part.caption, style="table.caption")


def fitted(table: Table, width: int) -> list[Table]:
    """The table in as many parts as it takes to be readable within ``width`` characters, without
    title and caption. A part has two columns at least; the first is in all."""
    rooms = [_Room.of(column) for column in table.columns]
    if not rooms:
        return [table]
    parts = [[0]]
    for j in range(1, len(rooms)):
        here = [*parts[-1], j]
        if len(here) > 2 and sum(rooms[i].least for i in here) + _edges(table, len(here)) > width:
            parts.append([0, j])
        else:
            parts[-1] = here
    return [
        _part(table, part, _widths([rooms[i] for i in part], width - _edges(table, len(part))))
        for part in parts
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Room:
    """Characters that a column takes."""

    least: int
    wanted: int

    @classmethod
    def of(cls, column: Column) -> _Room:
        head_word, head = _measured(column.header)
        cells = [_measured(cell) for cell in column.cells]
        word = max((word for word, _ in cells), default=0)
        line = max((line for _, line in cells), default=0)
        is_text = line > NAME_CHARS
        least = max(NAME_CHARS, min(word, WORD_CHARS)) if is_text else line
        return cls(
            least=max(least, head_word, 1),
            wanted=max(min(line, TEXT_CHARS), word, head, 1),
        )


def _measured(cell: RenderableType) -> tuple[int, int]:
    """Characters of the longest word and of the longest line."""
    from rich.measure import Measurement

    console = _ruler()
    found = Measurement.get(console, console.options, cell)
    return found.minimum, found.maximum


@cache
def _ruler() -> Console:
    from rich.console import Console

    return Console(emoji=False, width=_ANY)


def _widths(rooms: Sequence[_Room], available: int) -> list[int]:
    """What each column gets: its least, and then a character more in turn; less only where there
    is no room for that."""
    widths = [room.least for room in rooms]
    while sum(widths) > available and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    wanting = [i for i, room in enumerate(rooms) if widths[i] < room.wanted]
    while wanting and sum(widths) < available:
        i = min(wanting, key=widths.__getitem__)
        widths[i] += 1
        if widths[i] >= rooms[i].wanted:
            wanting.remove(i)
    return widths


def _edges(table: Table, n: int) -> int:
    """What borders and padding of n columns take."""
    return _measured(_part(table, [0] * n, [1] * n))[1] - n


def _part(table: Table, columns: Sequence[int], widths: Sequence[int]) -> Table:
    part = copy(table)
    part.title = part.caption = None
    part.columns, part.rows = [], []
    chosen = [table.columns[j] for j in columns]
    for column, width in zip(chosen, widths, strict=True):
        part.add_column(
            column.header, justify=column.justify, style=column.style, width=width, overflow="fold"
        )
    for row, cells in zip(table.rows, zip(*(c.cells for c in chosen), strict=True), strict=True):
        part.add_row(*cells, style=row.style, end_section=row.end_section)
    return part
