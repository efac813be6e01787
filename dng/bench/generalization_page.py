"""What the generalisation benchmark measured, its tables and its page: who predicted how well, and on what zoo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from dng.bench.certainty import Scores, chance_interval, last_of_runs, over_seeds, spread, too_few
from dng.bench.figures import BLUE, GREY, ORANGE, dynamic_graph, panel, plain
from dng.bench.generalization_data import AccuracyZoo
from dng.bench.page import Drawing, Page, Section, Table
from dng.bench.published_numbers import LAST, SCORED, Scored, published_column, published_taus
from dng.methods.registry import METHODS, PREDICTORS
from dng.zoo_data import Zoo

NAMES = {name: METHODS[name].title for name in PREDICTORS}
"""The models, and what reports call them."""

MAX_WIDTH = 1.0
"""Half of all that a tau can be: an interval as wide as that tells next to nothing."""

_HYPER_PARAMETERS = 4
_ALL = "The interval is over test runs (bootstrap); 'tau, all' is over all checkpoints."
_VARIED = (
    " Models that read graphs were trained on networks varied by what leaves their accuracy as it is: outputs in "
    "another order, kernels mirrored, neurons rescaled. Trees and the flat MLP saw them as they are."
)


@dataclass(frozen=True)
class ModelResult:
    """One model over the seeds: scores on each test run's last checkpoint, and on all checkpoints.

    `interval` is a 95 % bootstrap interval over test runs of the mean tau on last checkpoints, None where most draws
    rank nothing.
    """

    model: str
    last: tuple[Scores, ...]
    all_checkpoints: tuple[Scores, ...]
    interval: tuple[float, float] | None
    validation_tau: tuple[float, ...]
    num_parameters: int
    picked: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class GeneralizationResult:
    """What the benchmark measured on one zoo."""

    zoo_id: str
    zoo_name: str
    preset: str
    target: str
    seeds: int
    runs: dict[str, int]
    networks: dict[str, int]
    notes: tuple[str, ...]
    models: tuple[ModelResult, ...]
    updates: str = ""
    skipped: bool = False

    def model(self, name: str) -> ModelResult:
        """The result of the model `name`."""
        return next(found for found in self.models if found.model == name)

    def objection(self, name: str) -> str:
        """Why the tau of the model `name` on last checkpoints is no number to quote, or nothing."""
        found = self.model(name)
        undefined = [scores.undefined for scores in found.last if scores.undefined]
        if undefined:
            where = f" under {len(undefined)} of {self.seeds} seeds" if len(undefined) < self.seeds else ""
            return undefined[0] + where
        is_wide = found.interval is None or found.interval[1] - found.interval[0] > MAX_WIDTH
        return too_few(self.runs["test"], "test runs", is_wide)


def results_table(result: GeneralizationResult) -> Table:
    """Scores over seeds, the headline first."""
    return Table(
        f"Test accuracy predicted from weights, on test runs' last checkpoints, {over_seeds(result.seeds)}",
        ("model", "tau", "95 % interval", "R²", "MAE", "tau, all"),
        tuple(_row(result, model) for model in result.models),
        verdict(result),
    )


def _row(result: GeneralizationResult, model: ModelResult) -> tuple[str, ...]:
    few, r2 = too_few(result.runs["test"], "test runs"), [found.r2 for found in model.last if found.r2 is not None]
    interval = "-" if model.interval is None else f"{model.interval[0]:.3f} - {model.interval[1]:.3f}"
    undefined = next((found.undefined for found in model.all_checkpoints if found.undefined), "")
    return (
        NAMES[model.model],
        result.objection(model.model) or spread(taus(model.last), 3),
        interval,
        "-" if few or len(r2) < len(model.last) else spread(r2, 3),
        spread([found.mae for found in model.last], 3),
        "-" if few else undefined or spread(taus(model.all_checkpoints), 3),
    )


def verdict(result: GeneralizationResult) -> str:
    """Who is ahead, in a sentence; or that it can't be told."""
    updates = f"Whatever learns by updates makes {result.updates} networks, the same batches for all."
    ranked = sorted((m for m in result.models if not result.objection(m.model)), key=lambda m: -mean_tau(m))
    ahead = ""
    if not ranked:
        low, high = chance_interval(result.runs["test"])
        ahead = (
            f"No tau is quoted. 95 % of random orders of {result.runs['test']} networks have a tau between {low:.2f} "
            f"and {high:.2f}. "
        )
    if len(ranked) > 1:
        first, second = ranked[:2]
        ahead = (
            f"On this zoo the best tau on last checkpoints is that of the {NAMES[first.model]} "
            f"({mean_tau(first):.3f}), {mean_tau(first) - mean_tau(second):.3f} above that of the "
            f"{NAMES[second.model]}. "
        )
    return f"{ahead}{_ALL} {updates}".rstrip()


def taus(found: Sequence[Scores]) -> list[float]:
    """Kendall's tau by seed, where it is defined."""
    return [scores.kendall_tau for scores in found if scores.kendall_tau is not None]


def mean_tau(model: ModelResult) -> float:
    """The headline, where nothing objects to it: the mean over seeds of Kendall's tau on last checkpoints."""
    return fmean(taus(model.last))


def published_table(result: GeneralizationResult, zoo: Zoo) -> Table | None:
    """Published taus beside ours over the same networks; None for a zoo that none was published of."""
    column = published_column(zoo)
    theirs = published_taus(column)
    if column is None or not theirs:
        return None
    own = {model.model: _tau_over(result, model, SCORED[column]) for model in result.models}
    names = dict.fromkeys((*own, *theirs))
    return Table(
        f"Kendall's tau over {SCORED[column]} of the test runs",
        ("model", f"here ({result.preset})", "published (paper scale)"),
        tuple((NAMES[name], own.get(name, "-"), theirs.get(name, "-")) for name in names),
        "Measured by others, on the whole zoo and with their budgets: no comparison unless the scale is the same.",
    )


def _tau_over(result: GeneralizationResult, model: ModelResult, scored: Scored) -> str:
    found = model.last if scored == LAST else model.all_checkpoints
    undefined = next((scores.undefined for scores in found if scores.undefined), "")
    return undefined or too_few(result.runs["test"], "test runs") or spread(taus(found), 3)


def generalization_page(result: GeneralizationResult, data: AccuracyZoo, predictions: Mapping[str, np.ndarray]) -> Page:
    """The report; `predictions` are each model's under seed 0, in the order of the test split."""
    zoo, published = data.zoo, published_table(result, data.zoo)
    text = (
        "The headline is Kendall's tau on each test run's last checkpoint; over all checkpoints it also counts how far "
        "a run has come, which is easier. Each model is picked on validation; the test split is read once. The "
        "hyper-parameters were given to none." + (_VARIED if result.preset != "paper" else "")
    )
    graph = (
        "The first network as a dynamic graph: each event adds a layer's nodes and the edges that lead to them "
        "(kernels summed; red positive, blue negative), and deletes what inference no longer needs (hollow)."
    )
    caption = "Predicted against true accuracy, test runs' last checkpoints"
    scatter = Drawing(_scatter(result, data, predictions), caption, "scatter.png")
    sections = [Section("Who predicts how well", text, (scatter,), results_table(result))]
    if published is not None:
        sections.append(Section("Beside what was published", "The same quantity in both columns.", table=published))
    sections.append(_zoo_section(data))
    drawn = Drawing(dynamic_graph(zoo.graph(0)), "Inference as a walk over timestamps")
    sections.append(Section("The dynamic graph", graph, (drawn,)))
    return Page(
        title=f"Predicting test accuracy from weights: {zoo.info.name}",
        subtitle=f"{sum(result.networks.values()):,} checkpoints of {sum(result.runs.values()):,} runs; split by run.",
        numbers=(*(_number(result, model) for model in result.models), (f"{result.runs['test']:,}", "test runs")),
        notes=result.notes,
        sections=tuple(sections),
        facts={
            "command": f"zoo bench generalization --zoo {zoo.info.name}.zoo --preset {result.preset} "
            f"--seeds {result.seeds}",
            "zoo id": result.zoo_id,
            "seconds": f"{sum(model.seconds for model in result.models):.0f} in the calls that finished the trainings",
        },
    )


def _number(result: GeneralizationResult, model: ModelResult) -> tuple[str, str]:
    objection, name = result.objection(model.model), f"tau, {NAMES[model.model]}"
    return ("-", f"{name}: {objection}") if objection else (f"{mean_tau(model):.3f}", name)


def _scatter(result: GeneralizationResult, data: AccuracyZoo, predictions: Mapping[str, np.ndarray]) -> Figure:
    last = data.last("test")
    measured = data.accuracies[data.split("test")][last]
    figure = Figure(figsize=(3.2 * len(result.models), 3.2))
    axes = np.atleast_1d(figure.subplots(1, len(result.models), sharey=True))
    for axis, model in zip(axes, result.models, strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        axis.scatter(measured, predictions[model.model][last], s=10, color=BLUE, alpha=0.7)
        tau = result.objection(model.model) or f"tau {model.last[0].kendall_tau:.3f}"
        axis.set_title(f"{NAMES[model.model]}\n{tau} (seed 0)", fontsize=9)
        axis.set_xlabel("true test accuracy")
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
    figure.axes[0].set_ylabel("predicted")
    return plain(figure)


def _zoo_section(data: AccuracyZoo) -> Section:
    last = last_of_runs(data.runs, data.steps)
    drawn = [Drawing(_histogram(data, last), "Test accuracy: last checkpoints, and all")]
    drawn += [Drawing(figure, f"Accuracy against {name}") for name, figure in _hyper_parameters(data, last)]
    text = f"Accuracies of the {len(last):,} runs, and against what they were trained with."
    return Section("The zoo", text, tuple(drawn))


def _histogram(data: AccuracyZoo, last: np.ndarray) -> Figure:
    figure, axis = panel("test accuracy", "networks")
    bins = np.linspace(0, 1, 41).tolist()
    axis.hist(data.accuracies, bins=bins, color=GREY, label="all checkpoints")
    axis.hist(data.accuracies[last], bins=bins, color=BLUE, label="last checkpoints")
    axis.legend(frameon=False, fontsize=8)
    return figure


def _hyper_parameters(data: AccuracyZoo, last: np.ndarray) -> list[tuple[str, Figure]]:
    """Accuracy against the numeric hyper-parameters that vary, those first that go along with it most."""
    table, found = data.zoo.nets, []
    for name in [column for column in table.columns if column.startswith("hp_")]:
        values = table[name].to_numpy()[last]
        if values.dtype.kind not in "if" or len(np.unique(values)) < 3:
            continue
        ranks = np.argsort(np.argsort(values))
        strength = abs(np.corrcoef(ranks, data.accuracies[last])[0, 1])
        found.append((strength, name.removeprefix("hp_"), values))
    drawn = []
    for _, name, values in sorted(found, key=lambda item: -item[0])[:_HYPER_PARAMETERS]:
        figure, axis = panel(name, "test accuracy")
        axis.scatter(values, data.accuracies[last], s=8, color=ORANGE, alpha=0.6)
        if values.min() > 0 and values.max() / values.min() > 30:
            axis.set_xscale("log")
        drawn.append((name, figure))
    return drawn
