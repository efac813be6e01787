"""Running the tables: every cell is a job of its own, in a folder of its own, finished when its cell.json is there.

Shares of the jobs may run as several processes on any machines that see the folder; the last one to finish, or any
later run, puts the tables together.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from dng.baselines.methods import METHODS, RefusedError, zoo_kind
from dng.bench.data import Zoo
from dng.bench.tables.cells import Cell, Job
from dng.bench.tables.page import TablesResult, write_page
from dng.bench.tables.published import CONTROLS, PUBLISHED
from dng.bench.tables.scales import scale
from dng.claim import claim
from zootool.errors import UsageError
from zootool.files import write_json_atomic
from zootool.progress import Reporter, silent
from zootool.records import from_plain

TABLES_OF = {"inr": (1, 7), "small-cnn": (2,), "wild-park": (2,), "vit": (8,)}
"""The tables that a zoo of a kind can have a column in."""
MEASURABLE = (1, 2, 5, 7, 8)


def table_jobs(zoos: Sequence[Zoo], only: Collection[int], scale_name: str) -> list[Job]:
    """The cells of the chosen tables that these zoos can fill. Raises UsageError."""
    scale(scale_name)
    unknown = sorted(set(only) - set(MEASURABLE))
    if unknown:
        raise UsageError(
            f"the paper's table {unknown[0]} isn't one of {', '.join(map(str, MEASURABLE))}",
            hint="Tables 3, 4 and 6 are ablations: `zoo bench inr-classification --ablation`",
        )
    jobs = []
    for zoo in zoos:
        kind = zoo_kind(zoo.architectures.values())
        for table in TABLES_OF[kind]:
            if table in only:
                methods = [name for name in (*PUBLISHED[table], *CONTROLS[table]) if _takes(name, kind)]
                jobs += [Job(table, name, column_of(zoo), zoo, scale_name) for name in methods]
    return sorted(jobs, key=lambda job: job.table)


def _takes(name: str, kind: str) -> bool:
    return name not in METHODS or kind in METHODS[name].presets


def column_of(zoo: Zoo) -> str:
    """The column of the paper's tables that a zoo belongs to: its image set, or a published zoo's own name."""
    found = str(zoo.info.provenance.get("format", ""))
    if found in ("cnn-wild-park", "simple-vit-zoo"):
        return found
    names = [source.name for source in zoo.info.sources]
    return names[0].replace("/", "-") if len(names) == 1 else zoo.info.name


def run_tables(
    jobs: Sequence[Job],
    scale_name: str,
    out: Path,
    share: tuple[int, int] = (0, 1),
    costs: dict[str, object] | None = None,
    report: Reporter = silent,
) -> TablesResult:
    """Measure this share of the jobs, then put together the cells that are there.

    A method that can't take a zoo leaves its reason in the place of a cell. `costs` is Table 5, as JSON values.
    """
    ids = {job.column: job.zoo.id for job in jobs}
    claim(out / "settings.json", {"scale": scale_name, "settings": asdict(scale(scale_name))})
    for column, zoo_id in ids.items():
        claim(out / "zoos" / f"{column}.json", {"zoo_id": zoo_id})
    for index, job in enumerate(jobs):
        path = out / job.folder / "cell.json"
        if index % share[1] == share[0] and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomic(path, _measure(job, path.parent, report))
    cells, refused = _read(jobs, out)
    found = TablesResult(scale_name, ids, tuple(cells), refused, costs)
    write_page(found, out)
    write_json_atomic(out / "results.json", asdict(found))
    return found


def _measure(job: Job, folder: Path, report: Reporter) -> dict[str, object]:
    try:
        return {"cell": asdict(job.measure(folder / "runs", report))}
    except RefusedError as error:
        return {"refused": error.message}


def _read(jobs: Sequence[Job], out: Path) -> tuple[list[Cell], dict[str, str]]:
    cells, refused = [], {}
    for job in jobs:
        path = out / job.folder / "cell.json"
        if not path.exists():
            continue
        plain = json.loads(path.read_text(encoding="utf-8"))
        if "refused" in plain:
            refused[job.folder] = str(plain["refused"])
        else:
            cells.append(from_plain(Cell, plain["cell"], str(path)))
    return cells, refused
