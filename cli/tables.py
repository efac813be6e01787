"""A benchmark's table on the terminal."""

from typing import TYPE_CHECKING

from cli.console import show_table as show_drawn
from cli.console import shown

if TYPE_CHECKING:
    from dng.bench.table import Table


def show_table(table: "Table") -> None:
    """Print `table`: the first column to the left, numbers to the right."""
    from rich.table import Table as RichTable

    drawn = RichTable(title=table.caption, title_justify="left", caption=table.note or None, caption_justify="left")
    for index, name in enumerate(table.header):
        # On a narrow terminal a number and its spread stand below one another, but names stay readable.
        drawn.add_column(name, justify="right" if index else "left", min_width=None if index else 12)
    for row in table.rows:
        drawn.add_row(*map(shown, row))
    show_drawn(drawn)
