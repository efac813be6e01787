import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli.main import app
from dng.bench import tables as module
from dng.bench.certainty import accuracy_interval
from dng.bench.comparison import EqualBudget
from dng.bench.efficiency import efficiency_cases
from dng.bench.harness import Case, jobs_of, put_together, run, write_report
from dng.bench.published_numbers import CONTROLS, PUBLISHED, PUBLISHED_COSTS, published, published_column
from dng.bench.tables import SCALES, TableCell, Tables, measure_costs, scale, table_cells
from dng.bench.tables_page import Cell, TablesResult
from dng.methods import plain
from dng.methods.registry import METHODS
from dng.training.loop import TrainConfig
from dng.zoo_data import siren_architecture
from tests.dng.bench.cnn_zoos import NARROW, WIDE, write_run_zoo
from tests.zootool.store.small_stores import random_tensors
from zootool import open_zoo
from zootool.engines.engine import Engine, choose_engine, run_here
from zootool.engines.job import Advance, Job, OutcomeT
from zootool.errors import UsageError
from zootool.progress import silent
from zootool.store import write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import Zoo

FEW = EqualBudget(TrainConfig(steps=2, batch_size=16, lr=1e-3, validate_every=2), 110_000)


@pytest.fixture
def small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCALES, "demo", replace(scale("demo"), seeds=2, encoders=FEW, with_probes=FEW))
    monkeypatch.setattr(plain, "MAX_TREES", 20)


@pytest.fixture
def cnns(tmp_path: Path) -> Zoo:
    return write_run_zoo(tmp_path / "cnns.zoo", NARROW, WIDE)


@pytest.fixture
def one_seed(small_scale: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCALES, "demo", replace(scale("demo"), seeds=1))


@contextmanager
def holding(folder: Path, number: int) -> Iterator[None]:
    """Another process that holds a job until the block ends."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom zootool.engines.claims import Claims\n"
        "with Claims(Path(sys.argv[1])) as claims, claims.unit(int(sys.argv[2])) as held:\n"
        "    print(held, flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(folder), str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield
        process.stdin.close()


def no_work(jobs: Iterable[Job[OutcomeT]], advance: Advance) -> Iterator[OutcomeT]:
    """An engine that leaves everything to others."""
    return iter(())


def only(jobs: list[TableCell], *methods: str) -> list[TableCell]:
    return [job for job in jobs if job.method in methods]


def test_a_zoo_has_a_column_in_the_tables_of_its_kind(digits_zoo: Zoo, cnns: Zoo, tmp_path: Path) -> None:
    jobs = table_cells([digits_zoo, cnns], {1, 2, 7, 8})
    assert {(job.table, job.column) for job in jobs} == {(1, "digits"), (7, "digits"), (2, "cnns")}
    methods = {table: [job.method for job in jobs if job.table == table] for table in (1, 2, 7)}
    assert methods[1] == [*PUBLISHED[1], *CONTROLS[1]]
    # NFN and NFT can't take networks of several shapes.
    assert methods[2] == ["ng-gnn", "ng-t", "dng", "statistics"]
    assert methods[7] == ["ng-gnn", "ng-t", "dng", "nfn-hnp", "nft"]


def test_cells_are_measured_over_seeds_and_set_beside_the_paper(
    small_scale: None, digits_zoo: Zoo, cnns: Zoo, tmp_path: Path
) -> None:
    jobs = only(table_cells([digits_zoo, cnns], {2, 7}), "dng", "statistics")
    found = run(Tables(jobs, "demo"), tmp_path / "out")
    assert [(cell.table, cell.method, len(cell.scores)) for cell in found.cells] == [
        (2, "dng", 2), (2, "statistics", 2), (7, "dng", 2)
    ]  # fmt: skip
    generalization, classification = found.tables()
    assert classification.rows[0][0] == "DNG-Encoder"
    assert " ± " in classification.rows[0][3]
    assert "mnist: 96.60 ± 0.09" in classification.rows[0][4]
    assert (classification.rows[0][2], generalization.rows[1][2]) == ("2 of 16", "-")
    assert generalization.header[3:5] == ("cnns, last checkpoints (demo)", "cnns, all checkpoints (demo)")
    for place, scored in ((3, "scores"), (4, "all_checkpoints")):
        assert generalization.rows[0][place] == f"{fmean(getattr(found.cells[0], scored)):.3f} ± " + (
            f"{stdev(getattr(found.cells[0], scored)):.3f}"
        )
    assert "not how they compare with the paper" in classification.note
    page = (tmp_path / "out" / "report.html").read_text()
    assert "scale demo" in page
    assert "96.60" in page
    assert generalization.markdown() in (tmp_path / "out" / "tables.md").read_text()


def test_finished_cells_are_kept_and_shares_meet_in_one_folder(
    small_scale: None, cnns: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = only(table_cells([cnns], {2}), "dng", "statistics")
    first = run(Tables(jobs, "demo"), tmp_path / "out", share=(0, 2))
    assert [cell.method for cell in first.cells] == ["dng"]
    second = run(Tables(jobs, "demo"), tmp_path / "out", share=(1, 2))
    assert [cell.method for cell in second.cells] == ["dng", "statistics"]
    assert (first.missing, second.missing) == (("table-2/cnns/statistics",), ())
    monkeypatch.setattr(Case, "keep", None)
    assert run(Tables(jobs, "demo"), tmp_path / "out").cells == second.cells


def test_workers_measure_what_one_process_does(one_seed: None, digits_zoo: Zoo, cnns: Zoo, tmp_path: Path) -> None:
    def found(out: Path, engine: Engine) -> list[tuple[object, ...]]:
        jobs = only(table_cells([digits_zoo, cnns], {2, 7}), "dng", "nfn-hnp")
        cells = run(Tables(jobs, "demo"), out, engine=engine).cells
        return [(cell.table, cell.method, cell.scores, cell.num_parameters) for cell in cells]

    shared = found(tmp_path / "shared", choose_engine(workers=2))
    assert len(shared) == 3
    assert shared == found(tmp_path / "alone", run_here)


def test_a_cell_that_another_process_measures_is_left_to_it(one_seed: None, cnns: Zoo, tmp_path: Path) -> None:
    (job,) = only(table_cells([cnns], {2}), "statistics")
    bench = Tables([job], "demo")
    with holding(tmp_path, jobs_of(bench, bench.cases(), tmp_path)[0].number):
        found = run(bench, tmp_path, engine=run_here)
    assert (found.cells, found.missing) == ((), ("table-2/cnns/statistics",))
    assert "not measured yet: table-2/cnns/statistics" in (tmp_path / "report.html").read_text()
    assert run(bench, tmp_path, engine=run_here).missing == ()


def test_a_cell_has_its_number_whatever_else_is_asked_for(digits_zoo: Zoo, cnns: Zoo, tmp_path: Path) -> None:
    def numbers(cells: list[TableCell]) -> dict[str, int]:
        bench = Tables(cells, "demo")
        return {job.label: job.number for job in jobs_of(bench, bench.cases(), tmp_path)}

    everything = numbers(table_cells([digits_zoo, cnns], {1, 2, 7}))
    assert len(set(everything.values())) == len(everything)
    assert numbers(table_cells([cnns], {2})).items() <= everything.items()


def test_progress_counts_a_hundred_for_each_training(one_seed: None, cnns: Zoo, tmp_path: Path) -> None:
    jobs = only(table_cells([cnns], {2}), "dng", "statistics")
    seen: list[tuple[int, int]] = []
    run(Tables(jobs, "demo"), tmp_path, lambda stage, done, total: seen.append((done, total)), engine=run_here)
    # The trees are trained without steps.
    assert seen[0] == (0, 200)
    assert seen[-1] == (200, 200)
    assert sorted(seen) == seen
    assert (50, 200) in seen


def test_cells_of_the_largest_networks_are_measured_first(
    one_seed: None, digits_zoo: Zoo, cnns: Zoo, tmp_path: Path
) -> None:
    order: list[str] = []

    def remember(jobs: Iterable[Job[OutcomeT]], advance: Advance) -> Iterator[OutcomeT]:
        order.extend(job.label for job in jobs)
        return iter(())

    jobs = only(table_cells([cnns, digits_zoo], {2, 7}), "dng")
    run(Tables(jobs, "demo"), tmp_path, engine=remember)
    assert [job.place for job in jobs] == ["table-2/cnns/dng", "table-7/digits/dng"]
    assert order == ["table-7/digits/dng", "table-2/cnns/dng"]


def test_learning_rates_and_the_classifier_of_codes_are_trainings_too() -> None:
    assert scale("demo").num_trainings(1, "inr2jls") == scale("demo").num_trainings(1, "inr2array") == 2
    assert scale("demo").num_trainings(7, "dng") == 1
    assert scale("cpu").num_trainings(7, "dng") == 2 + 2
    assert scale("cpu").num_trainings(8, "dng") == 2


def test_a_zoo_without_a_column_in_the_wanted_tables_is_refused(digits_zoo: Zoo, cnns: Zoo, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="digits is of kind inr, which stands in Table 1 and 7 only, wanted is 2"):
        table_cells([cnns, digits_zoo], {2})


def test_costs_are_measured_once_and_set_beside_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = efficiency_cases()[:1]
    measure_costs(cases, "cpu", 2, 5, tmp_path, silent)
    bench = Tables([], "demo")
    found = put_together(bench, tmp_path)
    write_report(bench, found, tmp_path)
    assert cases[0].name in found.costs[0].rows[0][0]
    page = (tmp_path / "report.html").read_text()
    assert page.count(">Tables 5 and 8: costs<") == len(found.costs) + len(PUBLISHED_COSTS)
    monkeypatch.setattr(module, "run_efficiency", None)
    measure_costs(cases, "cpu", 2, 5, tmp_path, silent)
    assert put_together(bench, tmp_path).costs == found.costs


def test_a_method_that_cant_take_a_zoo_leaves_its_reason(
    small_scale: None, digits_zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = replace(FEW, num_parameters=1_000)
    monkeypatch.setitem(SCALES, "demo", replace(scale("demo"), with_probes=tight))
    jobs = only(table_cells([digits_zoo], {1}), "dng-probes")
    found = run(Tables(jobs, "demo"), tmp_path / "out")
    assert found.cells == ()
    assert "more than a budget of 1,000" in found.refused["table-1/digits/dng-probes"]
    assert "more than a budget of 1,000" in (tmp_path / "out" / "report.html").read_text()


def test_another_zoo_or_scale_needs_another_folder(small_scale: None, cnns: Zoo, tmp_path: Path) -> None:
    jobs = only(table_cells([cnns], {2}), "statistics")
    run(Tables(jobs, "demo"), tmp_path / "out")
    with pytest.raises(UsageError, match="holds a run with scale=demo"):
        run(Tables(jobs, "cpu"), tmp_path / "out")
    other = write_run_zoo(tmp_path / "other" / "cnns.zoo", NARROW)
    with pytest.raises(UsageError, match="holds a run with zoo_id"):
        run(Tables(only(table_cells([other], {2}), "statistics"), "demo"), tmp_path / "out")


def test_every_table_has_a_zoo_of_its_own_in_a_column(
    small_scale: None, digits_zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "column_of", lambda zoo: "same")
    cnns = write_run_zoo(tmp_path / "cnns.zoo", NARROW)
    jobs = table_cells([digits_zoo, cnns], {2, 7})
    found = run(Tables(jobs, "demo"), tmp_path / "out", engine=no_work)
    assert found.zoos == {"table-2/same": cnns.id, "table-7/same": digits_zoo.id}
    other = write_run_zoo(tmp_path / "other" / "cnns.zoo", WIDE)
    for zoo, table in ((cnns, 2), (digits_zoo, 7)):
        run(Tables(table_cells([zoo], {table}), "demo"), tmp_path / "out", engine=no_work)
    with pytest.raises(UsageError, match="holds a run with zoo_id"):
        run(Tables(table_cells([other], {2}), "demo"), tmp_path / "out", engine=no_work)


def test_cells_at_another_scale_say_so_beside_the_published_number() -> None:
    cell = Cell(7, "dng", "mnist", (41.0, 43.0), 400_000, 1.0)
    found = TablesResult("cpu", {"table-7/mnist": "x"}, (cell,), {}, published={"table-7/mnist": "mnist"})
    (table,) = found.tables()
    assert table.rows[0][3] == "42.0 ± 1.4 [cpu; published 96.60 ± 0.09]"
    assert table.header[3] == "mnist (cpu)"
    (unknown,) = replace(found, published={}).tables()
    assert unknown.rows[0][3:] == (
        "42.0 ± 1.4",
        "mnist: 96.60 ± 0.09; fashion-mnist: 78.40 ± 0.61; cifar10: 54.00 ± 0.07",
    )


@pytest.mark.parametrize(("column", "place"), [("cifar10", 3), ("cnn-wild-park", 4), ("simple-vit-zoo", 4)])
def test_a_published_tau_stands_in_the_column_over_the_same_checkpoints(column: str, place: int) -> None:
    table = 8 if column == "simple-vit-zoo" else 2
    cell = Cell(table, "dng", "here", (0.4, 0.6), 400_000, 1.0, all_checkpoints=(0.7, 0.9), updates="5 of 8")
    key = f"table-{table}/here"
    (found,) = TablesResult("cpu", {key: "x"}, (cell,), {}, published={key: column}).tables()
    assert found.header[3:5] == ("here, last checkpoints (cpu)", "here, all checkpoints (cpu)")
    texts = {3: "0.500 ± 0.141", 4: "0.800 ± 0.141"}
    assert found.rows[0][place] == f"{texts[place]} [cpu; published {published(table, 'dng', column)}]"
    assert found.rows[0][7 - place] == texts[7 - place]


def test_a_zoo_on_the_same_images_is_not_a_published_one(tmp_path: Path, digits_zoo: Zoo) -> None:
    """Our own CNNs on CIFAR-10 aren't the Small CNN Zoo, and those of several shapes not the Wild Park."""
    for found, expected in (("", {}), ("small-cnn-zoo", {"table-2/cifar10": "cifar10"})):
        zoo = write_run_zoo(tmp_path / f"{found}.zoo", NARROW, WIDE, published=(found, "cifar10"))
        jobs = table_cells([zoo], {2})
        assert run(Tables(jobs, "demo"), tmp_path / f"out-{found}", engine=no_work).published == expected
    assert published_column(digits_zoo) is None


@pytest.mark.parametrize(
    ("recipe", "found", "expected"),
    [
        ({}, "nfn-siren", "mnist"),
        ({"init": "random", "steps": 5000, "lr": 5e-5, "target": [-1.0, 1.0]}, "", "mnist"),
        ({"init": "shared", "steps": 5000, "lr": 5e-5, "target": [-1.0, 1.0]}, "", None),
        ({"init": "random", "steps": 1000, "lr": 5e-5, "target": [-1.0, 1.0]}, "", None),
        ({}, "mnist-inrs", None),
    ],
)
def test_sirens_are_published_ones_where_they_were_fitted_like_them(
    tmp_path: Path, recipe: dict, found: str, expected: str | None
) -> None:
    siren = siren_architecture(2, (32, 32), 1)
    table = pa.table({"net_id": ["a", "b"]})
    info = SourceInfo(
        "x", sources=(ImageSource("mnist", "0" * 64, (28, 28, 1)),), recipe=recipe, provenance={"format": found}
    )
    write_store(tmp_path / "x.zoo", MemorySource(info, [Block(siren, random_tensors(siren, 2, 0), table)]))
    assert published_column(open_zoo(tmp_path / "x.zoo")) == expected


def test_few_test_networks_give_no_score() -> None:
    few = Cell(7, "dng", "x", (100.0,), 10, 1.0, objection="3 test networks: too few", interval=(43.85, 100.0))
    assert few.text() == "3 test networks: too few (43.9 - 100.0)"
    assert Cell(2, "dng", "x", (None,), 10, 1.0, objection="constant prediction").text() == "constant prediction"
    low, high = accuracy_interval(1.0, 3)
    assert (round(low, 2), high) == (0.44, 1.0)


def test_unequal_budgets_are_named_and_equal_ones_not() -> None:
    cells = [Cell(1, name, "x", (50.0,), 10, 1.0, updates=updates) for name, updates in
             (("dng", "40 of 16"), ("nft", "40 of 16"), ("inr2jls", "1,000 of 64 + 600 of 64"))]  # fmt: skip
    (unequal,) = TablesResult("demo", {}, tuple(cells), {}).tables()
    (equal,) = TablesResult("demo", {}, tuple(cells[:2]), {}).tables()
    assert "unequal budgets" in unequal.note
    assert "unequal budgets" not in equal.note
    assert [row[2] for row in unequal.rows] == [cell.updates for cell in cells]


@pytest.mark.parametrize("name", list(SCALES))
def test_at_every_scale_methods_of_one_stage_have_equal_updates(name: str) -> None:
    chosen = scale(name)
    one, other = chosen.budget(1).training, chosen.budget(7).training
    assert (one.steps, one.batch_size) == (other.steps, other.batch_size)
    # Within a table all share one budget, which has no setting of a single method.
    assert not {field for field in asdict(chosen.budget(1)) if field in METHODS}


def test_cells_of_another_budget_are_refused_with_the_reason(
    one_seed: None, cnns: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = only(table_cells([cnns], {2}), "statistics")
    run(Tables(jobs, "demo"), tmp_path / "out")
    path = tmp_path / "out" / "table-2" / "cnns" / "zoo.json"
    older = json.loads(path.read_text())
    older["predictors"]["dng"]["training"]["steps"] = 16
    path.write_text(json.dumps(older))
    with pytest.raises(UsageError, match=r"training\.steps=16, this one has predictors\.dng\.training\.steps=100"):
        run(Tables(jobs, "demo"), tmp_path / "out")


def test_published_numbers_are_the_papers() -> None:
    assert published(1, "inr2jls", "cifar100") == "42.4 ± 0.32"
    assert published(2, "dng", "cnn-wild-park") == "0.8743 ± 0.0021"
    assert published(8, "ng-t", "simple-vit-zoo") == "0.8917 ± 0.002"
    assert published(7, "nft", "mnist") is None
    assert all(METHODS[method].title != method for rows in PUBLISHED.values() for method in rows)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--only", "3"], "table 3 isn't one of", "--ablation"),
        (["--only", "one"], "can't read --only", "--only 1,2,7"),
        (["--scale", "dem"], "there is no scale 'dem'", "demo"),
        (["--unit", "5/4"], "5/4", ""),
    ],
)
def test_wrong_commands(words: list[str], message: str, hint: str, cnns: Zoo, tmp_path: Path) -> None:
    command = ["bench", "tables", "--zoo", str(tmp_path / "cnns.zoo"), "--out", str(tmp_path / "out"), *words]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert message in done.output
    assert hint in done.output


def test_the_command_fills_the_tables_of_given_zoos(
    small_scale: None, cnns: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PUBLISHED, 2, {})
    command = ["bench", "tables", "--zoo", str(tmp_path / "cnns.zoo"), "--out", str(tmp_path / "out"), "--only", "2,7"]
    done = CliRunner().invoke(app, [*command, "--workers", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert [cell["method"] for cell in json.loads(done.stdout)["cells"]] == ["statistics"]
    assert "left out: no zoo here fits Table 7" in CliRunner().invoke(app, command).stdout
