"""The tables as Markdown and as a page: ours beside the paper's, with the scale wherever they differ in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dng.baselines.methods import METHODS
from dng.bench.efficiency import PUBLISHED as PUBLISHED_COSTS
from dng.bench.generalization.contenders import NAMES
from dng.bench.page import Page, Section
from dng.bench.table import Table
from dng.bench.tables.cells import Cell
from dng.bench.tables.published import PUBLISHED, TITLES, published
from zootool.files import write_bytes_atomic

_TWO_STAGE_TITLES = {"inr2jls": "INR2JLS", "inr2array": "NFT (INR2ARRAY and classifier)"}
_NOT_COMPARABLE = (
    "The paper's numbers were measured on whole zoos with its own budgets. A cell of scale {scale} says how methods "
    "compare under this budget on this zoo, not how they compare with the paper."
)


@dataclass(frozen=True)
class TablesResult:
    """All cells that are there, what methods couldn't take, the cells that aren't done, and Table 5."""

    scale: str
    zoos: dict[str, str]
    cells: tuple[Cell, ...]
    refused: dict[str, str]
    missing: tuple[str, ...] = ()
    costs: tuple[Table, ...] = ()

    def tables(self) -> list[Table]:
        """One per table of the paper that has a cell."""
        return [_table(self, number) for number in TITLES if any(cell.table == number for cell in self.cells)]


def title_of(method: str) -> str:
    """What reports call a method."""
    if method in _TWO_STAGE_TITLES:
        return _TWO_STAGE_TITLES[method]
    return METHODS[method].title if method in METHODS else NAMES.get(method, method)


def _table(result: TablesResult, number: int) -> Table:
    cells = {(cell.method, cell.column): cell for cell in result.cells if cell.table == number}
    columns = list(dict.fromkeys(column for _, column in cells))
    rows = []
    for method in dict.fromkeys(method for method, _ in cells):
        own = [cells.get((method, column)) for column in columns]
        size = next(cell.num_parameters for cell in own if cell is not None)
        texts = [_text(result, number, method, column, cells.get((method, column))) for column in columns]
        rows.append((title_of(method), f"{size:,}", *texts, _elsewhere(number, method, columns)))
    refused = {place: reason for place, reason in result.refused.items() if place.startswith(f"table-{number}/")}
    note = _NOT_COMPARABLE.format(scale=result.scale)
    header = ("method", "parameters", *(f"{column} ({result.scale})" for column in columns), "published (paper scale)")
    return Table(TITLES[number], header, tuple(rows), " ".join([note, *_reasons(refused)]))


def _text(result: TablesResult, number: int, method: str, column: str, cell: Cell | None) -> str:
    if cell is None:
        return "-"
    wanted = published(number, method, column)
    return cell.text() if wanted is None else f"{cell.text()} [{result.scale}; published {wanted}]"


def _reasons(refused: dict[str, str]) -> list[str]:
    return [f"{place}: {reason}." for place, reason in refused.items()]


def _missing(places: Sequence[str]) -> list[str]:
    return [f"not measured yet: {', '.join(places)}"] if places else []


def _elsewhere(number: int, method: str, columns: Sequence[str]) -> str:
    """What the paper has for the method in columns that weren't run here."""
    others = PUBLISHED[number].get(method, {})
    return "; ".join(f"{column} {text}" for column, text in others.items() if column not in columns) or "-"


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
