"""The paper's tables of results, run again at a stated scale: every cell is a case of its own.

Engines spread the cells over processes and machines that see the folder, as they do the units of a build; shares of
them may also be started by hand. The last one to finish, or any later run, puts the tables together. A run keeps
TABLE/COLUMN/METHOD/cell.json, the trainings behind it in runs/, and Table 5 in table-5/DEVICE.json.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from dng.bench.certainty import accuracy_interval, too_few
from dng.bench.comparison import CLASSIFICATION, ClassifierComparison, EqualBudget, as_of_now, updates_of
from dng.bench.efficiency import CostCase, run_efficiency
from dng.bench.generalization import Generalization
from dng.bench.generalization_data import generalization_settings
from dng.bench.harness import SETTINGS, TRAINING, Benchmark, Case, called, measure
from dng.bench.inr_classification import INRClassification
from dng.bench.page import Page, Section, Table
from dng.bench.published_numbers import CONTROLS, PUBLISHED, PUBLISHED_COSTS, published_column
from dng.bench.tables_page import Cell, TablesResult, not_comparable, reasons
from dng.methods.building import RefusedError
from dng.methods.registry import METHODS, TWO_STAGE, zoo_kind
from dng.runs.on_zoo import Place, batches_per_epoch
from dng.runs.two_stage import two_stage_preset
from dng.training.distributed import local_device
from dng.training.same_settings import read_json
from dng.zoo_data import Zoo
from zootool.errors import UsageError, printable
from zootool.files import write_json_atomic
from zootool.progress import Reporter
from zootool.records import from_plain

TABLES_OF = {"inr": (1, 7), "small-cnn": (2,), "wild-park": (2,), "vit": (8,)}
"""The tables that a zoo of a kind can have a column in."""
MEASURABLE = (1, 2, 5, 7, 8)
COSTS, RUNS = "table-5", "runs"


@dataclass(frozen=True)
class Scale:
    """Seeds, the budget of methods that classify INRs without probes (Table 7) and with (Table 1), and presets.

    `two_stage` is the preset of INR2JLS and INR2ARRAY (Table 1), `generalization` that of Tables 2 and 8.
    """

    seeds: int
    encoders: EqualBudget
    with_probes: EqualBudget
    two_stage: str
    generalization: str

    def budget(self, table: int) -> EqualBudget:
        """That of the methods in a table of INR classification."""
        return self.with_probes if table == 1 else self.encoders

    def num_trainings(self, table: int, method: str) -> int:
        """How many trainings a cell takes: the classifier of codes is one too, other methods try learning rates."""
        if method in TWO_STAGE:
            return 2 * self.seeds
        if table in (2, 8):
            return self.seeds
        rates = len(self.budget(table).learning_rates)
        return self.seeds + (rates if rates > 1 else 0)


_DEMO, _CPU, _PAPER = (CLASSIFICATION[name] for name in ("demo", "cpu", "paper"))
# NG-T takes a hundred times as long as the DNG-Encoder, and all methods make equally many steps.
_SHORT = replace(
    _DEMO, training=replace(_DEMO.training, steps=40, batch_size=16, lr=3e-3, warmup_per_step=0.1, validate_every=20)
)

SCALES: dict[str, Scale] = {
    "demo": Scale(1, _SHORT, _SHORT, "demo", "demo"),
    "cpu": Scale(2, _CPU, _CPU, "cpu", "quick"),
    "paper": Scale(3, _PAPER, replace(_PAPER, num_parameters=6_000_000), "paper", "paper"),
}


def scale(name: str) -> Scale:
    """The scale of this name. Raises UsageError."""
    return called("scale", name, SCALES)


@dataclass(frozen=True, eq=False)
class TableCell:
    """A method on the zoo of a table's column: what is to be measured."""

    table: int
    method: str
    column: str
    zoo: Zoo

    @property
    def place(self) -> str:
        """Where it goes, below the run's folder."""
        return f"{self.column_place}/{self.method}"

    @property
    def column_place(self) -> str:
        """Where its zoo's column of the table goes."""
        return f"table-{self.table}/{self.column}"


def table_cells(zoos: Sequence[Zoo], only: Collection[int]) -> list[TableCell]:
    """The cells of the chosen tables that these zoos can fill. Raises UsageError."""
    unknown = sorted(set(only) - set(MEASURABLE))
    if unknown:
        raise UsageError(
            f"the paper's table {unknown[0]} isn't one of {', '.join(map(str, MEASURABLE))}",
            hint="Tables 3, 4 and 6 are ablations: `zoo bench inr-classification --ablation`",
        )
    cells = []
    for zoo in zoos:
        kind = zoo_kind(zoo.architectures.values())
        fitting = set(only).intersection(TABLES_OF[kind])
        if not fitting:
            tables = " and ".join(map(str, TABLES_OF[kind]))
            raise UsageError(
                f"{printable(zoo.info.name)} is of kind {kind}, which stands in Table {tables} only, "
                f"wanted is {', '.join(map(str, sorted(only)))}",
                hint=f"--only {','.join(map(str, TABLES_OF[kind]))}, or another --zoo",
            )
        cells += [
            TableCell(table, name, column_of(zoo), zoo)
            for table in sorted(fitting)
            for name in (*PUBLISHED[table], *CONTROLS[table])
            if METHODS[name].model is None or kind in METHODS[name].presets
        ]
    return sorted(cells, key=lambda cell: cell.table)


def column_of(zoo: Zoo) -> str:
    """The column of the paper's tables that a zoo belongs to: its image set, or a published zoo's own name."""
    found = str(zoo.info.provenance.get("format", ""))
    if found in ("cnn-wild-park", "simple-vit-zoo"):
        return found
    names = [source.name for source in zoo.info.sources]
    return names[0].replace("/", "-") if len(names) == 1 else zoo.info.name


@dataclass(frozen=True)
class Measured:
    """What a cell.json holds: the cell, or why the method can't take the zoo."""

    cell: Cell | None = None
    refused: str | None = None


@dataclass(eq=False)
class Tables(Benchmark[TablesResult]):
    """Cells of the paper's tables at a scale. Folders with cells of another scale, zoo or budget are refused."""

    name: ClassVar[str] = "tables"
    tables_file: ClassVar[str] = "tables.md"

    cells: Sequence[TableCell]
    scale_name: str
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.scale = scale(self.scale_name)

    def settings(self) -> dict[str, dict[str, Any]]:
        two_stage = {name: two_stage_preset(name, self.scale.two_stage).plain() for name in TWO_STAGE}
        wanted: dict[str, dict[str, Any]] = {
            SETTINGS: {"scale": self.scale_name, "settings": asdict(self.scale), "two_stage": two_stage}
        }
        for place, cell in self._columns().items():
            wanted[f"{place}/zoo.json"] = {"zoo_id": cell.zoo.id, "predictors": self._predictors(cell)}
        return wanted

    def cases(self) -> list[Case]:
        return [
            Case(
                f"{cell.place}/cell.json",
                Measured,
                partial(_measure, cell, self.scale_name, self.scale, self.device),
                as_of_now(cell.method, f"{cell.place}/{RUNS}/seed-0"),
                size=max(architecture.num_nodes for architecture in cell.zoo.architectures.values()),
                length=TRAINING * self.scale.num_trainings(cell.table, cell.method),
            )
            for cell in self.cells
        ]

    def result(self, answers: Mapping[str, Measured], out: Path) -> TablesResult:
        found = {cell.place: answers.get(f"{cell.place}/cell.json") for cell in self.cells}
        paths = sorted((out / COSTS).glob("*.json"))
        columns = self._columns()
        return TablesResult(
            scale=self.scale_name,
            zoos={place: cell.zoo.id for place, cell in columns.items()},
            cells=tuple(answer.cell for answer in found.values() if answer is not None and answer.cell is not None),
            refused={place: answer.refused for place, answer in found.items() if answer and answer.refused is not None},
            missing=tuple(place for place, answer in found.items() if answer is None),
            costs=tuple(from_plain(Table, table, str(path)) for path in paths for table in read_json(path)),
            published={
                place: known for place, cell in columns.items() if (known := published_column(cell.zoo)) is not None
            },
        )

    def _columns(self) -> dict[str, TableCell]:
        """A cell of each column: zoos of CNNs and of SIRENs on the same images are columns of different tables."""
        return {cell.column_place: cell for cell in self.cells}

    def _predictors(self, cell: TableCell) -> dict[str, Any] | None:
        """The settings of the predictors of accuracy, which depend on the zoo; None for other tables."""
        if cell.table not in (2, 8):
            return None
        architectures, batches = cell.zoo.architectures.values(), batches_per_epoch(cell.zoo)
        settings = generalization_settings(self.scale.generalization, architectures, batches).plain()
        return {name: settings[name] for name in ("dng", "num_parameters")}

    def tables(self, result: TablesResult) -> list[Table]:
        return [*result.tables(), *result.costs]

    def page(self, result: TablesResult, out: Path) -> Page:
        costs = [*result.costs, *PUBLISHED_COSTS] if result.costs else []
        missing = [f"not measured yet: {', '.join(result.missing)}"] if result.missing else []
        return Page(
            title=f"The paper's tables at scale {result.scale}",
            subtitle=f"Cells: {len(result.cells)}, zoos: {len(set(result.zoos.values()))}. "
            f"{not_comparable(result.scale)}",
            notes=(*reasons(result.refused), *missing),
            sections=(
                *(Section(table.caption.partition(":")[0], "", table=table) for table in result.tables()),
                *(Section("Tables 5 and 8: costs", "", table=table) for table in costs),
            ),
            facts={
                "command": f"zoo bench tables --scale {result.scale}",
                **{f"zoo {place}": zoo_id for place, zoo_id in result.zoos.items()},
            },
        )


def measure_costs(cases: Sequence[CostCase], device: str, batch: int, runs: int, out: Path, report: Reporter) -> None:
    """Table 5: what a network costs each method on `device`, in `out`; measured once, by one process alone."""
    path = out / COSTS / f"{device.replace(':', '-')}.json"
    if not path.exists():
        result = run_efficiency(cases, device, batch, runs, report)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, [asdict(table) for table in result.tables()])


def _measure(cell: TableCell, scale_name: str, chosen: Scale, device: str, out: Path, report: Reporter) -> Measured:
    folder, place = out / cell.place / RUNS, Place(local_device(device))
    try:
        if cell.table in (2, 8):
            return Measured(_generalization(cell, chosen, place, folder, report))
        if cell.method in TWO_STAGE:
            return Measured(_two_stage(cell, chosen, place, folder, report))
        return Measured(_encoder(cell, scale_name, chosen, place, folder, report))
    except RefusedError as error:
        return Measured(refused=error.message)


def _two_stage(cell: TableCell, chosen: Scale, place: Place, out: Path, report: Reporter) -> Cell:
    results = []
    for seed in range(chosen.seeds):
        preset = two_stage_preset(cell.method, chosen.two_stage).with_seed(seed)
        bench = INRClassification(cell.zoo, chosen.two_stage, preset, place=place)
        results.append(measure(bench, out / f"{seed}", report))
    seconds = sum(result.seconds for result in results)
    accuracies = [result.test_accuracy for result in results]
    return _accuracies(cell, accuracies, results[0].num_parameters, seconds, results[0].updates)


def _encoder(cell: TableCell, scale_name: str, chosen: Scale, place: Place, out: Path, report: Reporter) -> Cell:
    budget = chosen.budget(cell.table)
    bench = ClassifierComparison(cell.zoo, scale_name, [cell.method], budget, chosen.seeds, place)
    (result,) = measure(bench, out, report).methods
    seconds = sum(answer.seconds for answer in result.answers)
    size = result.answers[0].num_parameters
    return _accuracies(cell, result.accuracies, size, seconds, updates_of(budget.training))


def _accuracies(cell: TableCell, accuracies: Sequence[float], size: int, seconds: float, updates: str) -> Cell:
    count = len(cell.zoo.select(split="test"))
    low, high = accuracy_interval(fmean(accuracies), count)
    percents = tuple(100 * accuracy for accuracy in accuracies)
    return Cell(
        cell.table, cell.method, cell.column, percents, size, seconds, updates=updates,
        objection=too_few(count, "test networks"), interval=(100 * low, 100 * high),
    )  # fmt: skip


def _generalization(cell: TableCell, chosen: Scale, place: Place, out: Path, report: Reporter) -> Cell:
    bench = Generalization(cell.zoo, chosen.generalization, [cell.method], chosen.seeds, place=place)
    found = measure(bench, out, report)
    (result,) = found.models
    last, everything = (
        tuple(scores.kendall_tau for scores in scored) for scored in (result.last, result.all_checkpoints)
    )
    return Cell(
        cell.table, cell.method, cell.column, last, result.num_parameters, result.seconds, everything,
        "" if cell.method == "statistics" else found.updates, found.objection(cell.method), result.interval,
    )  # fmt: skip
