"""What every command shares for talking to people and machines: consoles, progress bars, errors, tables, JSON."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from zootool.errors import UsageError, ZooError, printable
from zootool.files import refuse_inside
from zootool.progress import Reporter

if TYPE_CHECKING:
    from dng.bench.page import Table

output = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
MAX_SEED = 2**63 - 1
_WIDEST = 1_000_000

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines instead of text.")]


def show_error(error: ZooError) -> None:
    """Print an error for a person: what is wrong, then what to do."""
    errors.print(f"[red]error:[/] {_lines(error.message)}", soft_wrap=True)
    if error.hint:
        errors.print(f"[cyan]next:[/]  {_lines(error.hint)}", soft_wrap=True)


def answer(as_json: bool, value: dict[str, Any], *lines: str) -> None:
    """Say what a command found or did: `value` to machines, else these lines of rich markup but the empty ones."""
    if as_json:
        print_json(value)
    else:
        for line in filter(None, lines):
            say(line)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def say(text: str) -> None:
    """Print a line of rich markup; text from files must have gone through `shown`."""
    output.print(text, soft_wrap=True)


def note(text: str) -> None:
    """`say` on standard error, where standard output is for machines."""
    errors.print(text, soft_wrap=True)


def show_table(table: "Table") -> None:
    """Print a benchmark's table: the first column to the left, numbers to the right."""
    grid = Grid(title=table.caption, title_justify="left", caption=table.note or None, caption_justify="left")
    for index, name in enumerate(table.header):
        # On a narrow terminal a number and its spread stand below one another, but names stay readable.
        grid.add_column(name, justify="right" if index else "left", min_width=None if index else 12)
    for row in table.rows:
        grid.add_row(*map(shown, row))
    show_grid(grid)


def show_grid(grid: Grid) -> None:
    """Print `grid`: no cell is ever cut, and where no terminal is, no line is wrapped and none drawn."""
    for column in grid.columns:
        column.overflow = "fold"
    if output.is_terminal:
        output.print(grid)
        return
    grid.box = None
    for column in grid.columns:
        column.no_wrap = True
    # A table takes the width of its cells, but never more than the console's.
    wide = Console(highlight=False, width=_WIDEST)
    with wide.capture() as captured:
        wide.print(grid, crop=False)
    for line in captured.get().splitlines():
        output.print(line.rstrip(), markup=False, soft_wrap=True)


def page_at(path: Path) -> Path:
    """`path`, where a page is to be written. Raises UsageError where its name says something else, and in stores."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path} is to be a page", hint=f"name it {path.with_suffix('.html')}")
    refuse_inside(path)
    return path


def shown(text: object, limit: int = 200) -> str:
    """Text from outside, safe inside rich markup: control characters and brackets are escaped."""
    return escape(printable(text, limit))


def listed(words: Iterable[object], limit: int = 60) -> str:
    """Texts from outside in one line: the first of them, and how many more there are."""
    words = list(words)
    more = f" and {len(words) - limit:,} more" if len(words) > limit else ""
    return ", ".join(map(shown, words[:limit])) + more


def _lines(text: str) -> str:
    # Errors may list things one per line; what came from files in them was made printable where it was put in.
    return escape("\n".join(printable(line, 2000) for line in text.split("\n")))


@contextmanager
def progress_bars() -> Iterator[Reporter]:
    """A reporter that draws one bar per stage on a terminal and nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report
