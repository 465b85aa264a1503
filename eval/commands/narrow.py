"""Tables on narrow terminals: fewer columns that can be read, in place of all that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MIN_COLUMNS = 2
USUAL_WIDTH = 80
"""What tables are made for: from here on all columns are shown, and long cells take lines."""


def narrowed(table: Table, console: Console) -> Table:
    """The table without the columns that leave no room for whole words; it says which those are.

    Intervals go first, from the right, then the last columns; the first names the rows and stays.
    All stay from ``USUAL_WIDTH`` on.
    """
    from rich.measure import Measurement

    if console.width >= USUAL_WIDTH:
        return table
    left_out = []
    while (
        len(table.columns) > MIN_COLUMNS
        and Measurement.get(console, console.options.update(max_width=10_000), table).minimum
        > console.width
    ):
        names = [str(column.header).strip() for column in table.columns]
        at = max((i for i, name in enumerate(names) if name == "95 %"), default=len(names) - 1)
        table.columns.pop(at)
        left_out.append(names[at])
    if left_out:
        table.caption = f"No room for: {', '.join(reversed(left_out))}. --json has all."
        table.caption_justify = "left"
    return table
