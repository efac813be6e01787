"""What fills the paper's tables: ours beside the paper's, with the scale wherever they differ in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dng.bench.certainty import spread
from dng.bench.page import Table
from dng.bench.published_numbers import ALL, LAST, PUBLISHED, SCORED, TITLES, Scored, published
from dng.methods.registry import METHODS


@dataclass(frozen=True)
class Cell:
    """What was measured: a score per seed (percent, or tau), the model's size and seconds of training and testing.

    A tau is over last checkpoints in `scores`, and over all in `all_checkpoints`. `updates` says how long the method
    learned, `objection` why its scores are no numbers to quote; `interval` is then what they leave open.
    """

    table: int
    method: str
    column: str
    scores: tuple[float | None, ...]
    num_parameters: int
    seconds: float
    all_checkpoints: tuple[float | None, ...] = ()
    updates: str = ""
    objection: str = ""
    interval: tuple[float, float] | None = None

    def text(self, scored: Scored = LAST) -> str:
        """Mean and sample standard deviation; or why there is none, with the interval."""
        digits = 3 if self.table in (2, 8) else 1
        scores = [score for score in (self.scores if scored == LAST else self.all_checkpoints) if score is not None]
        if not self.objection and scores:
            return spread(scores, digits)
        bounds = "" if self.interval is None else " ({:.{d}f} - {:.{d}f})".format(*self.interval, d=digits)
        return (self.objection or "constant prediction") + bounds


@dataclass(frozen=True)
class TablesResult:
    """All cells that are there, what methods couldn't take, the cells that aren't done, and Table 5.

    `published` has the paper's column of each column of ours whose zoo the paper's numbers are of.
    """

    scale: str
    zoos: dict[str, str]
    cells: tuple[Cell, ...]
    refused: dict[str, str]
    missing: tuple[str, ...] = ()
    costs: tuple[Table, ...] = ()
    published: dict[str, str] = field(default_factory=dict)

    def tables(self) -> list[Table]:
        """One per table of the paper that has a cell."""
        return [_table(self, number) for number in TITLES if any(cell.table == number for cell in self.cells)]


def not_comparable(scale: str) -> str:
    """What everybody should know who sees our numbers beside the paper's."""
    return (
        "The paper's numbers were measured on whole zoos with its own budgets. A cell of scale "
        f"{scale} says how methods compare under this budget on this zoo, not how they compare with the paper."
    )


def reasons(refused: dict[str, str]) -> list[str]:
    """Why methods can't take zoos, cell by cell."""
    return [f"{place}: {reason}." for place, reason in refused.items()]


def _table(result: TablesResult, number: int) -> Table:
    cells = {(cell.method, cell.column): cell for cell in result.cells if cell.table == number}
    columns = list(dict.fromkeys(column for _, column in cells))
    # A tau over all checkpoints is another quantity than one over last ones: each has a column.
    scored = [(column, kind) for column in columns for kind in ((LAST, ALL) if number in (2, 8) else (None,))]
    rows = []
    for method in dict.fromkeys(method for method, _ in cells):
        own = [cell for column in columns if (cell := cells.get((method, column))) is not None]
        updates = " / ".join(dict.fromkeys(cell.updates or "-" for cell in own))
        texts = [_text(result, cells.get((method, column)), column, kind) for column, kind in scored]
        named = (METHODS[method].title, f"{own[0].num_parameters:,}", updates)
        rows.append((*named, *texts, _elsewhere(result, number, method, columns)))
    refused = {place: reason for place, reason in result.refused.items() if place.startswith(f"table-{number}/")}
    names = [f"{column}{f', {kind}' if kind else ''} ({result.scale})" for column, kind in scored]
    header = ("method", "parameters", "updates", *names, "published (paper scale)")
    notes = [not_comparable(result.scale), *_unequal([row[2] for row in rows]), *reasons(refused)]
    return Table(TITLES[number], header, tuple(rows), " ".join(notes))


def _unequal(updates: Sequence[str]) -> list[str]:
    """A warning where those that learn by updates don't make equally many of the same size."""
    is_equal = len(set(updates) - {"-"}) <= 1
    return [] if is_equal else ["Methods have unequal budgets here: compare the updates before the scores."]


def _text(result: TablesResult, cell: Cell | None, column: str, scored: Scored | None) -> str:
    if cell is None:
        return "-"
    text, known = cell.text(scored or LAST), result.published.get(f"table-{cell.table}/{column}")
    wanted = None if known is None else published(cell.table, cell.method, known)
    if known is None or wanted is None or scored not in (None, SCORED.get(known)):
        return text
    return f"{text} [{result.scale}; published {wanted}]"


def _elsewhere(result: TablesResult, number: int, method: str, columns: Sequence[str]) -> str:
    """What the paper has for the method on zoos that weren't run here."""
    here = {result.published.get(f"table-{number}/{column}") for column in columns}
    others = {known: text for known, text in PUBLISHED[number].get(method, {}).items() if known not in here}
    named = {known: f"{known}, {SCORED[known]}" if number in (2, 8) else known for known in others}
    return "; ".join(f"{named[known]}: {text}" for known, text in others.items()) or "-"
