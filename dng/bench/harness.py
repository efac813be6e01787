"""One harness for every benchmark: each case is measured once, its answer kept, and all are put together.

What a run leaves in its folder:

    settings.json ..       what was asked for, written first; a run that asks for something else is refused
    ANSWER.json ..         the answer of each case, such as a method under a seed, kept as soon as it is there
    results.json           everything that was measured, put together
    table.md report.html   the same for people; figures lie beside the page

So whatever is stopped goes on, and whatever is finished is read. A benchmark is a `Benchmark` in a file of its own and
a command of `cli/bench.py`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar
from zlib import crc32

import torch

from dng.bench.page import Page, Section, Table
from dng.training.same_settings import claim, read_json
from zootool.engines.claims import Claims
from zootool.engines.engine import Engine
from zootool.engines.job import Advance, Job, Outcome
from zootool.errors import UsageError, did_you_mean, printable
from zootool.files import write_bytes_atomic, write_json_atomic
from zootool.progress import Reporter, silent
from zootool.records import from_plain

RESULTS, SETTINGS, PAGE = "results.json", "settings.json", "report.html"
TRAINING = 100
"""What a progress bar counts for a training: percents."""

Result = TypeVar("Result")
Choice = TypeVar("Choice")


@dataclass(frozen=True, eq=False)
class Case:
    """One thing to measure: the file of its answer, the answer's type (a dataclass), and how it is measured.

    `measure(folder, report)` is given the run's folder, for trainings that go on where they were stopped. `agrees` says
    what files in there have to hold, where there are any: of an answer that is kept nobody else would look. Engines
    begin with the largest `size`, and progress counts `length` steps.
    """

    file: str
    answer: type
    measure: Callable[[Path, Reporter], Any]
    agrees: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    size: int = 0
    length: int = TRAINING

    @property
    def place(self) -> str:
        """The folder of the answer, below the run's."""
        return str(Path(self.file).parent)

    def read(self, out: Path) -> Any:
        """The kept answer, or None. Raises FormatError where the file isn't one of ours."""
        path = out / self.file
        return from_plain(self.answer, read_json(path), str(path)) if path.exists() else None

    def keep(self, out: Path, report: Reporter) -> None:
        """Measure it and keep the answer."""
        answer = self.measure(out, report)
        (out / self.file).parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(out / self.file, asdict(answer))


class Benchmark(ABC, Generic[Result]):
    """What a benchmark measures and how it is shown; its constructor refuses what can't be measured.

    `Result` is a frozen dataclass, with a field `skipped` where it says that nothing was left to do. Where the one case
    keeps its answer in results.json, that is the result.
    """

    name: ClassVar[str]
    tables_file: ClassVar[str] = "table.md"
    device: str = "cpu"

    @abstractmethod
    def settings(self) -> dict[str, dict[str, Any]]:
        """By file, what this run asks for (JSON values): every later run in its folder has to ask for the same."""

    @abstractmethod
    def cases(self) -> Sequence[Case]:
        """What is to be measured, in this order."""

    @abstractmethod
    def result(self, answers: Mapping[str, Any], out: Path) -> Result:
        """Everything put together, from the answers by file; engines may have left some to other processes."""

    @abstractmethod
    def tables(self, result: Result) -> Sequence[Table]:
        """The tables for people."""

    def page(self, result: Result, out: Path) -> Page:
        """The report; here the tables, and the settings that are no records."""
        sections = tuple(Section("", "", table=table) for table in self.tables(result))
        asked = self.settings().get(SETTINGS, {})
        plain = {key: str(value) for key, value in asked.items() if not isinstance(value, dict)}
        return Page(f"zoo bench {self.name}", f"{len(self.cases())} cases", sections, plain)

    def claim(self, out: Path) -> None:
        """Raise UsageError where `out` holds a run that asked for something else."""
        for name, wanted in self.settings().items():
            claim(out / name, wanted)

    def notes(self, result: Result) -> Sequence[str]:
        """What people should know before they read the tables."""
        return ()

    def machine_readable(self, result: Result) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(result)  # type: ignore[call-overload]


def called(kind: str, name: str, choices: Mapping[str, Choice]) -> Choice:
    """The choice called `name`. Raises UsageError, saying what `kind` of thing there isn't."""
    if name not in choices:
        raise UsageError(f"there is no {kind} {printable(name, 60)!r}", hint=did_you_mean(name, choices))
    return choices[name]


def run(bench: Benchmark[Result], out: Path, report: Reporter = silent, **how: Any) -> Result:
    """`measure`, then tables and page."""
    result = measure(bench, out, report, **how)
    write_report(bench, result, out)
    return result


def measure(
    bench: Benchmark[Result],
    out: Path,
    report: Reporter = silent,
    *,
    engine: Engine | None = None,
    share: tuple[int, int] = (0, 1),
) -> Result:
    """Measure the cases that have no answer yet, and put all together.

    An engine spreads them, of every `share[1]` cases one from case `share[0]` on, over processes that see the folder.
    Raises UsageError where `out` holds a run that asked for something else, FormatError where an answer isn't ours.
    """
    bench.claim(out)
    cases = bench.cases()
    for case in cases:
        for name, wanted in case.agrees.items():
            if (out / name).exists():
                claim(out / name, dict(wanted))
    waiting = [case for case in cases[share[0] :: share[1]] if not (out / case.file).exists()]
    if engine is None:
        for case in waiting:
            case.keep(out, report)
    else:
        _spread(jobs_of(bench, waiting, out), engine, report)
    result = put_together(bench, out)
    return result if waiting or not hasattr(result, "skipped") else replace(result, skipped=True)  # type: ignore[type-var]


def put_together(bench: Benchmark[Result], out: Path) -> Result:
    """The result of the answers that are there, as results.json too."""
    found = {case.file: case.read(out) for case in bench.cases()}
    answers = {name: answer for name, answer in found.items() if answer is not None}
    result = bench.result(answers, out)
    if RESULTS not in found:
        write_json_atomic(out / RESULTS, asdict(result))  # type: ignore[call-overload]
    return result


def write_report(bench: Benchmark[Result], result: Result, out: Path) -> Path:
    """Write the page, its figures, and its tables as Markdown; returns the page's path."""
    page = bench.page(result, out)
    tables = [section.table.markdown() for section in page.sections if section.table is not None]
    write_bytes_atomic(out / bench.tables_file, "\n".join(tables).encode("utf-8"))
    page.write(out / PAGE)
    return out / PAGE


@dataclass(frozen=True, eq=False, kw_only=True)
class CaseJob(Job[Outcome]):
    """A case as engines hand it out. It takes one thread unless told otherwise."""

    case: Case

    def __len__(self) -> int:
        return self.case.length

    @property
    def label(self) -> str:
        """What errors call it."""
        return self.case.place

    def run(self, advance: Advance) -> Outcome:
        """Measure the case, unless another process is at it or has done it; what it had begun is kept."""
        with Claims(self.folder) as claims, claims.unit(self.number) as held:
            if not held:
                return Outcome(self.number, "claimed")
            if (self.folder / self.case.file).exists():
                advance(len(self))
                return Outcome(self.number, "found")
            progress = _Progress(len(self), advance)
            with _threads(self.threads):
                self.case.keep(self.folder, progress.report)
            progress.finish()
        return Outcome(self.number, "built")


def jobs_of(bench: Benchmark, cases: Sequence[Case], out: Path) -> list[CaseJob]:
    """What engines hand out of these cases.

    The largest first: what takes longest shouldn't be left for the end, when other workers are idle. And the same case
    has the same number whatever else is asked for: two runs in a folder then never share one.
    """
    return [
        CaseJob(folder=out, number=crc32(case.place.encode()), device=bench.device, case=case)
        for case in sorted(cases, key=lambda case: case.size, reverse=True)
    ]


def _spread(jobs: Sequence[CaseJob], engine: Engine, report: Reporter) -> None:
    total, done = sum(map(len, jobs)), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report("filling tables (percents of trainings)", done, total)

    if jobs:
        advance(0)
        deque(engine(jobs, advance), maxlen=0)


class _Progress:
    """What one training after the other reports, as percents of each."""

    def __init__(self, total: int, advance: Advance) -> None:
        self.left, self.advance = total, advance
        self.percent = 0

    def report(self, stage: str, done: int, total: int) -> None:
        """How far a training is; a smaller number than before is the next one's."""
        if not stage.startswith("training"):
            return
        percent = TRAINING * done // total
        self._move(percent - self.percent if percent >= self.percent else percent)
        self.percent = percent

    def finish(self) -> None:
        """Whatever wasn't reported is done as well: what trains without steps, or was there already."""
        self._move(self.left)

    def _move(self, count: int) -> None:
        count = min(count, self.left)
        self.left -= count
        if count:
            self.advance(count)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
