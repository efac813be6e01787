"""A benchmark as somebody adds one: what it says of itself, and what the harness makes of that."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dng.bench.harness import SETTINGS, Benchmark, Case, measure, run
from dng.bench.page import Table
from zootool.engines.engine import Engine, choose_engine
from zootool.errors import FormatError, UsageError
from zootool.progress import Reporter


@dataclass(frozen=True)
class Sum:
    """What is kept of a case: it could be an accuracy."""

    total: int


@dataclass(frozen=True)
class SumsResult:
    """Everything that was measured."""

    sums: tuple[Sum, ...]
    skipped: bool = False


@dataclass(eq=False)
class Sums(Benchmark[SumsResult]):
    """The sums of the numbers below 1, 2, 3 .."""

    name: ClassVar[str] = "sums"
    count: int
    step: int = 1

    def settings(self) -> dict[str, dict[str, Any]]:
        return {SETTINGS: {"step": self.step}}

    def cases(self) -> list[Case]:
        return [Case(f"below-{n}/sum.json", Sum, partial(add_up, n, self.step)) for n in range(1, self.count + 1)]

    def result(self, answers: Mapping[str, Sum], out: Path) -> SumsResult:
        return SumsResult(tuple(answers.values()))

    def tables(self, result: SumsResult) -> list[Table]:
        rows = tuple((f"<{n}>", str(found.total)) for n, found in enumerate(result.sums, start=1))
        return [Table("Sums of numbers", ("below", "sum"), rows)]


def add_up(bound: int, step: int, out: Path, report: Reporter) -> Sum:
    report("training sums", bound, bound)
    return Sum(sum(range(0, bound, step)))


def stop_at_three(stage: str, done: int, total: int) -> None:
    if total == 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize("engine", [None, choose_engine(), choose_engine(workers=2)])
def test_a_stopped_run_goes_on_and_leaves_the_same(tmp_path: Path, engine: Engine | None) -> None:
    whole = run(Sums(4), tmp_path / "whole")
    assert [found.total for found in whole.sums] == [0, 1, 3, 6]
    with pytest.raises(KeyboardInterrupt):
        run(Sums(4), tmp_path / "stopped", stop_at_three)
    kept = sorted(path.parent.name for path in (tmp_path / "stopped").rglob("sum.json"))
    assert kept == ["below-1", "below-2"]
    assert not (tmp_path / "stopped" / "results.json").exists()
    seen: list[int] = []
    resumed = run(Sums(4), tmp_path / "stopped", lambda stage, done, total: seen.append(total), engine=engine)
    assert resumed == whole
    assert seen[-2:] == ([3, 4] if engine is None else [200, 200])
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("whole", "stopped")]
    assert results[0] == results[1]


def test_a_finished_run_is_read_and_its_results_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(Sums(2), tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    monkeypatch.setattr(Case, "keep", None)
    assert measure(Sums(2), tmp_path).skipped
    assert (tmp_path / "results.json").read_bytes() == before


def test_another_runs_folder_is_refused_with_the_difference(tmp_path: Path) -> None:
    run(Sums(2), tmp_path)
    with pytest.raises(UsageError, match="holds a run with step=1, this one has step=2") as caught:
        run(Sums(2, step=2), tmp_path)
    assert caught.value.hint == "choose another folder, or remove that one"
    (tmp_path / "below-1" / "sum.json").write_text(json.dumps({"total": "much"}))
    with pytest.raises(FormatError, match=r"below-1/sum\.json\.total must be an integer"):
        run(Sums(3), tmp_path)


def test_an_answer_of_another_revision_is_refused(tmp_path: Path) -> None:
    @dataclass(eq=False)
    class Revised(Sums):
        def cases(self) -> list[Case]:
            agrees = {"below-1/method.json": {"revision": 2}}
            return [Case("below-1/sum.json", Sum, partial(add_up, 1, 1), agrees)]

    run(Revised(1), tmp_path)
    (tmp_path / "below-1" / "method.json").write_text(json.dumps({"revision": 1}))
    with pytest.raises(UsageError, match="below-1 holds a run with revision=1, this one has revision=2"):
        run(Revised(1), tmp_path)


def test_tables_and_page_are_written(tmp_path: Path) -> None:
    run(Sums(2), tmp_path)
    assert "| <2> | 1 |" in (tmp_path / "table.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "zoo bench sums" in page
    assert "&lt;2&gt;" in page
    assert "<2>" not in page
    assert "src=" not in page


def test_shares_meet_in_one_folder(tmp_path: Path) -> None:
    first = measure(Sums(3), tmp_path, share=(0, 2))
    assert [found.total for found in first.sums] == [0, 3]
    assert [found.total for found in measure(Sums(3), tmp_path, share=(1, 2)).sums] == [0, 1, 3]
