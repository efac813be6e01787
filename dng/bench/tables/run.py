"""Running the tables: every cell is a job of its own, in a folder of its own, finished when its cell.json is there.

Engines spread the jobs over processes and machines that see the folder, as they do the units of a build; shares of them
may also be started by hand. The last one to finish, or any later run, puts the tables together.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

from dng.bench.comparison.training import check_revision
from dng.bench.efficiency import Case, run_efficiency
from dng.bench.generalization.settings import generalization_settings
from dng.bench.published import CONTROLS, PUBLISHED, published_column
from dng.bench.table import Table
from dng.bench.tables.cells import RUNS, CellJob
from dng.bench.tables.page import TablesResult, write_page
from dng.bench.tables.scales import Scale, scale
from dng.data import Zoo
from dng.methods.registry import METHODS, zoo_kind
from dng.runs.on_zoo import batches_per_epoch
from dng.runs.two_stage import TWO_STAGE, two_stage_preset
from dng.training.claim import claim, read_json
from zootool.engines.engine import Engine, run_here
from zootool.errors import UsageError, printable
from zootool.files import write_json_atomic
from zootool.progress import Reporter, silent
from zootool.records import from_plain

TABLES_OF = {"inr": (1, 7), "small-cnn": (2,), "wild-park": (2,), "vit": (8,)}
"""The tables that a zoo of a kind can have a column in."""
MEASURABLE = (1, 2, 5, 7, 8)
COSTS = "table-5"


def table_jobs(
    zoos: Sequence[Zoo], only: Collection[int], scale_name: str, out: Path, device: str = "cpu"
) -> list[CellJob]:
    """The cells of the chosen tables that these zoos can fill, each measured in `out`. Raises UsageError."""
    chosen = scale(scale_name)
    unknown = sorted(set(only) - set(MEASURABLE))
    if unknown:
        raise UsageError(
            f"the paper's table {unknown[0]} isn't one of {', '.join(map(str, MEASURABLE))}",
            hint="Tables 3, 4 and 6 are ablations: `zoo bench inr-classification --ablation`",
        )
    jobs = []
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
        for table in sorted(fitting):
            for name in (*PUBLISHED[table], *CONTROLS[table]):
                if _takes(name, kind):
                    jobs.append(_job(table, name, zoo, scale_name, chosen, out, device))
    return sorted(jobs, key=lambda job: job.table)


def _job(table: int, method: str, zoo: Zoo, scale_name: str, chosen: Scale, out: Path, device: str) -> CellJob:
    column = column_of(zoo)
    # The same cell has the same number whatever else is asked for: two runs in a folder then never share one.
    number = crc32(f"{table}/{column}/{method}".encode())
    return CellJob(
        folder=out, number=number, device=device, table=table, method=method, column=column, zoo=zoo,
        scale_name=scale_name, scale=chosen,
    )  # fmt: skip


def _takes(name: str, kind: str) -> bool:
    return METHODS[name].model is None or kind in METHODS[name].presets


def column_of(zoo: Zoo) -> str:
    """The column of the paper's tables that a zoo belongs to: its image set, or a published zoo's own name."""
    found = str(zoo.info.provenance.get("format", ""))
    if found in ("cnn-wild-park", "simple-vit-zoo"):
        return found
    names = [source.name for source in zoo.info.sources]
    return names[0].replace("/", "-") if len(names) == 1 else zoo.info.name


def run_tables(
    jobs: Sequence[CellJob],
    scale_name: str,
    out: Path,
    *,
    engine: Engine = run_here,
    share: tuple[int, int] = (0, 1),
    report: Reporter = silent,
) -> TablesResult:
    """Measure this share of the jobs, then put the tables together.

    Raises UsageError where `out` holds cells of another scale, zoo or budget.
    """
    chosen = scale(scale_name)
    two_stage = {name: two_stage_preset(name, chosen.two_stage).plain() for name in TWO_STAGE}
    claim(out / "settings.json", {"scale": scale_name, "settings": asdict(chosen), "two_stage": two_stage})
    for job in {job.column_place: job for job in jobs}.values():
        claim(out / job.column_place / "zoo.json", {"zoo_id": job.zoo.id, "predictors": _predictors(job)})
    for job in jobs:
        # A cell that is done isn't opened again, so that nobody else would look.
        check_revision(job.method, job.path.parent / RUNS, 0)
    waiting = [job for job in jobs[share[0] :: share[1]] if not job.path.exists()]
    # The largest networks first: what takes longest shouldn't be left for the end, when other workers are idle.
    _measure(sorted(waiting, key=_num_nodes, reverse=True), engine, report)
    return put_together(jobs, scale_name, out)


def measure_costs(cases: Sequence[Case], device: str, batch: int, runs: int, out: Path, report: Reporter) -> None:
    """Table 5: what a network costs each method on `device`, in `out`; measured once, by one process alone."""
    path = out / COSTS / f"{device.replace(':', '-')}.json"
    if not path.exists():
        result = run_efficiency(cases, device, batch, runs, report)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, [asdict(table) for table in result.tables()])


def _zoos(jobs: Sequence[CellJob]) -> dict[str, str]:
    """The id of each column's zoo: zoos of CNNs and of SIRENs on the same images are columns of different tables."""
    return {job.column_place: job.zoo.id for job in jobs}


def _predictors(job: CellJob) -> dict[str, Any] | None:
    """The settings of the predictors of accuracy, which depend on the zoo; None for other tables."""
    if job.table not in (2, 8):
        return None
    architectures = job.zoo.architectures.values()
    settings = generalization_settings(job.scale.generalization, architectures, batches_per_epoch(job.zoo)).plain()
    return {name: settings[name] for name in ("dng", "num_parameters")}


def _num_nodes(job: CellJob) -> int:
    return max(architecture.num_nodes for architecture in job.zoo.architectures.values())


def _measure(jobs: Sequence[CellJob], engine: Engine, report: Reporter) -> None:
    total, done = sum(map(len, jobs)), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report("filling tables (percents of trainings)", done, total)

    if jobs:
        advance(0)
        deque(engine(jobs, advance), maxlen=0)


def put_together(jobs: Sequence[CellJob], scale_name: str, out: Path) -> TablesResult:
    """Write results.json, tables.md and report.html of the cells that are there and the costs that were measured."""
    cells, refused, missing = [], {}, []
    for job in jobs:
        found = job.read()
        if found is None:
            missing.append(job.place)
        elif isinstance(found, str):
            refused[job.place] = found
        else:
            cells.append(found)
    paths = sorted((out / COSTS).glob("*.json"))
    costs = [from_plain(Table, table, str(path)) for path in paths for table in read_json(path)]
    known = {job.column_place: column for job in jobs if (column := published_column(job.zoo)) is not None}
    result = TablesResult(scale_name, _zoos(jobs), tuple(cells), refused, tuple(missing), tuple(costs), known)
    write_page(result, out)
    write_json_atomic(out / "results.json", asdict(result))
    return result
