"""The tables as Markdown and as a page: ours beside the paper's, with the scale wherever they differ in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dng.bench.efficiency import PUBLISHED as PUBLISHED_COSTS
from dng.bench.page import Page, Section
from dng.bench.published import ALL, LAST, PUBLISHED, SCORED, TITLES, Scored, published
from dng.bench.table import Table
from dng.bench.tables.cells import Cell
from dng.methods.registry import METHODS
from zootool.files import write_bytes_atomic

_NOT_COMPARABLE = (
    "The paper's numbers were measured on whole zoos with its own budgets. A cell of scale {scale} says how methods "
    "compare under this budget on this zoo, not how they compare with the paper."
)


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


def title_of(method: str) -> str:
    """What reports call a method."""
    return METHODS[method].title if method in METHODS else method


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
        named = (title_of(method), f"{own[0].num_parameters:,}", updates)
        rows.append((*named, *texts, _elsewhere(result, number, method, columns)))
    refused = {place: reason for place, reason in result.refused.items() if place.startswith(f"table-{number}/")}
    names = [f"{column}{f', {kind}' if kind else ''} ({result.scale})" for column, kind in scored]
    header = ("method", "parameters", "updates", *names, "published (paper scale)")
    notes = [_NOT_COMPARABLE.format(scale=result.scale), *_unequal([row[2] for row in rows]), *_reasons(refused)]
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


def _reasons(refused: dict[str, str]) -> list[str]:
    return [f"{place}: {reason}." for place, reason in refused.items()]


def _missing(places: Sequence[str]) -> list[str]:
    return [f"not measured yet: {', '.join(places)}"] if places else []


def _elsewhere(result: TablesResult, number: int, method: str, columns: Sequence[str]) -> str:
    """What the paper has for the method on zoos that weren't run here."""
    here = {result.published.get(f"table-{number}/{column}") for column in columns}
    others = {known: text for known, text in PUBLISHED[number].get(method, {}).items() if known not in here}
    named = {known: f"{known}, {SCORED[known]}" if number in (2, 8) else known for known in others}
    return "; ".join(f"{named[known]}: {text}" for known, text in others.items()) or "-"


def write_page(result: TablesResult, out: Path) -> Path:
    """Write tables.md and report.html; returns the page's path."""
    tables = result.tables()
    costs = [*result.costs, *PUBLISHED_COSTS] if result.costs else []
    everything = [*tables, *costs]
    write_bytes_atomic(out / "tables.md", "\n".join(table.markdown() for table in everything).encode("utf-8"))
    num_zoos = len(set(result.zoos.values()))
    comparable = _NOT_COMPARABLE.format(scale=result.scale)
    Page(
        title=f"The paper's tables at scale {result.scale}",
        subtitle=f"Cells: {len(result.cells)}, zoos: {num_zoos}. {comparable}",
        numbers=(),
        notes=(*_reasons(result.refused), *_missing(result.missing)),
        sections=(
            *(Section(table.caption.partition(":")[0], "", table=table) for table in tables),
            *(Section("Tables 5 and 8: costs", "", table=table) for table in costs),
        ),
        facts={
            "command": f"zoo bench tables --scale {result.scale}",
            **{f"zoo {k}": v for k, v in result.zoos.items()},
        },
    ).write(out / "report.html")
    return out / "report.html"
