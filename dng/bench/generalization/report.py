"""The page and table of a generalisation benchmark: who predicted how well, and what the zoo looks like."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from dng.bench import figures
from dng.bench.certainty import too_few
from dng.bench.figures import plain, png_bytes
from dng.bench.generalization.contenders import NAMES
from dng.bench.generalization.material import Material, read_material
from dng.bench.generalization.run import GeneralizationResult, ModelResult, predictions_of, read_answers
from dng.bench.generalization.scores import Scores, chance_interval, last_of_runs
from dng.bench.page import Page, ReportFigure, Section, report_figure
from dng.bench.published import LAST, SCORED, Scored, published_column, published_taus
from dng.bench.table import Table, spread
from dng.data import Zoo
from zootool.files import write_bytes_atomic

_BLUE, _GREY, _ORANGE = "#2b6cb0", "#a0aec0", "#dd6b20"
_HYPER_PARAMETERS = 4
_ALL = "The interval is over test runs (bootstrap); 'tau, all' is over all checkpoints."

_VARIED = (
    " Models that read graphs were trained on networks varied by what leaves their accuracy as it is: outputs in "
    "another order, kernels mirrored, neurons rescaled. Trees and the flat MLP saw them as they are."
)


def results_table(result: GeneralizationResult) -> Table:
    """Scores over seeds, the headline first."""
    rows = [_row(result, model) for model in result.models]
    seeds = f"mean ± standard deviation over {result.seeds} seeds" if result.seeds > 1 else "one seed"
    return Table(
        f"Test accuracy predicted from weights, on test runs' last checkpoints, {seeds}",
        ("model", "tau", "95 % interval", "R²", "MAE", "tau, all"),
        tuple(rows),
        verdict(result),
    )


def _row(result: GeneralizationResult, model: ModelResult) -> tuple[str, ...]:
    objection, few = result.objection(model.model), too_few(result.runs["test"], "test runs")
    interval = "-" if model.interval is None else f"{model.interval[0]:.3f} - {model.interval[1]:.3f}"
    undefined = next((found.undefined for found in model.all_checkpoints if found.undefined), "")
    return (
        NAMES[model.model],
        objection or spread(taus(model.last), 3),
        interval,
        "-" if few or any(found.r2 is None for found in model.last) else _r2(model),
        spread([found.mae for found in model.last], 3),
        "-" if few else undefined or spread(taus(model.all_checkpoints), 3),
    )


def _r2(model: ModelResult) -> str:
    return spread([found.r2 for found in model.last if found.r2 is not None], 3)


def verdict(result: GeneralizationResult) -> str:
    """Who is ahead, in a sentence; or that it can't be told."""
    updates = f"Whatever learns by updates makes {result.updates} networks, the same batches for all."
    ranked = sorted((m for m in result.models if not result.objection(m.model)), key=lambda m: -mean_tau(m))
    if not ranked:
        low, high = chance_interval(result.runs["test"])
        return (
            f"No tau is quoted. 95 % of random orders of {result.runs['test']} networks have a tau between {low:.2f} "
            f"and {high:.2f}. {_ALL} {updates}".rstrip()
        )
    ahead = ""
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


def write_report(result: GeneralizationResult, zoo: Zoo, out: Path) -> Path:
    """Write table.md, scatter.png and report.html into the run's folder; returns the page's path."""
    material = read_material(zoo, result.target)
    table = results_table(result)
    write_bytes_atomic(out / "table.md", table.markdown().encode("utf-8"))
    scatter = _scatter(result, material, out)
    write_bytes_atomic(out / "scatter.png", png_bytes(scatter, dpi=150))
    Page(
        title=f"Predicting test accuracy from weights: {zoo.info.name}",
        subtitle=f"{sum(result.networks.values()):,} checkpoints of {sum(result.runs.values()):,} runs; split by run.",
        numbers=_numbers(result),
        notes=result.notes,
        sections=(
            Section(
                "Who predicts how well",
                "The headline is Kendall's tau on each test run's last checkpoint; over all checkpoints it also counts "
                "how far a run has come, which is easier. Each model is picked on validation; the test split is read "
                "once. The hyper-parameters were given to none." + (_VARIED if result.preset != "paper" else ""),
                (report_figure(scatter, "Predicted against true accuracy, test runs' last checkpoints"),),
                table,
            ),
            *_published(result, zoo),
            _zoo_section(zoo, material),
            _graph_section(zoo),
        ),
        facts={
            "command": f"zoo bench generalization --zoo {zoo.info.name}.zoo --preset {result.preset} "
            f"--seeds {result.seeds}",
            "zoo id": result.zoo_id,
            "seconds": f"{sum(model.seconds for model in result.models):.0f} in the calls that finished the trainings",
        },
    ).write(out / "report.html")
    return out / "report.html"


def _numbers(result: GeneralizationResult) -> tuple[tuple[str, str], ...]:
    found = []
    for model in result.models:
        objection = result.objection(model.model)
        name = f"tau, {NAMES[model.model]}"
        found.append(("-", f"{name}: {objection}") if objection else (f"{mean_tau(model):.3f}", name))
    return (*found, (f"{result.runs['test']:,}", "test runs"))


def _scatter(result: GeneralizationResult, material: Material, out: Path) -> Figure:
    test = material.split("test")
    last = last_of_runs(material.runs[test], material.steps[test])
    measured = material.accuracies[test][last]
    figure = Figure(figsize=(3.2 * len(result.models), 3.2))
    axes = np.atleast_1d(figure.subplots(1, len(result.models), sharey=True))
    for axis, model in zip(axes, result.models, strict=True):
        predicted = predictions_of(read_answers(out, model.model, result.seeds), material)[0][last]
        axis.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8)
        axis.scatter(measured, predicted, s=10, color=_BLUE, alpha=0.7)
        objection = result.objection(model.model)
        tau = objection or f"tau {model.last[0].kendall_tau:.3f}"
        axis.set_title(f"{NAMES[model.model]}\n{tau} (seed 0)", fontsize=9)
        axis.set_xlabel("true test accuracy")
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
    figure.axes[0].set_ylabel("predicted")
    return plain(figure)


def published_table(result: GeneralizationResult, zoo: Zoo) -> Table | None:
    """Published taus beside ours over the same networks; None for a zoo that none was published of."""
    column = published_column(zoo)
    theirs = published_taus(column)
    if column is None or not theirs:
        return None
    own = {model.model: _tau_over(result, model, SCORED[column]) for model in result.models}
    names = dict.fromkeys((*own, *theirs))
    rows = tuple((NAMES[name], own.get(name, "-"), theirs.get(name, "-")) for name in names)
    return Table(
        f"Kendall's tau over {SCORED[column]} of the test runs",
        ("model", f"here ({result.preset})", "published (paper scale)"),
        rows,
        "Measured by others, on the whole zoo and with their budgets: no comparison unless the scale is the same.",
    )


def _tau_over(result: GeneralizationResult, model: ModelResult, scored: Scored) -> str:
    found = model.last if scored == LAST else model.all_checkpoints
    undefined = next((scores.undefined for scores in found if scores.undefined), "")
    return undefined or too_few(result.runs["test"], "test runs") or spread(taus(found), 3)


def _published(result: GeneralizationResult, zoo: Zoo) -> tuple[Section, ...]:
    table = published_table(result, zoo)
    return (
        ()
        if table is None
        else (Section("Beside what was published", "The same quantity in both columns.", table=table),)
    )


def _zoo_section(zoo: Zoo, material: Material) -> Section:
    last = last_of_runs(material.runs, material.steps)
    drawn = [report_figure(_histogram(material, last), "Test accuracy: last checkpoints, and all")]
    against = _hyper_parameters(zoo, material, last)
    drawn += [report_figure(figure, f"Accuracy against {name}") for name, figure in against]
    text = f"Accuracies of the {len(last):,} runs, and against what they were trained with."
    return Section("The zoo", text, tuple[ReportFigure, ...](drawn))


def _histogram(material: Material, last: np.ndarray) -> Figure:
    figure = Figure(figsize=(4.6, 2.6))
    axis = figure.subplots()
    bins = np.linspace(0, 1, 41).tolist()
    axis.hist(material.accuracies, bins=bins, color=_GREY, label="all checkpoints")
    axis.hist(material.accuracies[last], bins=bins, color=_BLUE, label="last checkpoints")
    axis.set_xlabel("test accuracy")
    axis.set_ylabel("networks")
    axis.legend(frameon=False, fontsize=8)
    return plain(figure)


def _hyper_parameters(zoo: Zoo, material: Material, last: np.ndarray) -> list[tuple[str, Figure]]:
    """Accuracy against the numeric hyper-parameters that vary, those first that go along with it most."""
    table = zoo.nets
    found = []
    for name in [column for column in table.columns if column.startswith("hp_")]:
        values = table[name].to_numpy()[last]
        if values.dtype.kind not in "if" or len(np.unique(values)) < 3:
            continue
        ranks = np.argsort(np.argsort(values))
        strength = abs(np.corrcoef(ranks, material.accuracies[last])[0, 1])
        found.append((strength, name.removeprefix("hp_"), values))
    drawn = []
    for _, name, values in sorted(found, key=lambda item: -item[0])[:_HYPER_PARAMETERS]:
        figure = Figure(figsize=(4.6, 2.6))
        axis = figure.subplots()
        axis.scatter(values, material.accuracies[last], s=8, color=_ORANGE, alpha=0.6)
        if values.min() > 0 and values.max() / values.min() > 30:
            axis.set_xscale("log")
        axis.set_xlabel(name)
        axis.set_ylabel("test accuracy")
        drawn.append((name, plain(figure)))
    return drawn


def _graph_section(zoo: Zoo) -> Section:
    graph = zoo.graph(0)
    edges = [edge[0].numpy() for edge in graph.edges]
    biases = [node[0, :, 0].numpy() for node in graph.nodes]
    drawn = figures.dynamic_graph(zoo.architecture_of(0), edges, biases)
    text = (
        "The first network as a dynamic graph: each event adds a layer's nodes and the edges that lead to them "
        "(kernels summed; red positive, blue negative), and deletes what inference no longer needs (hollow)."
    )
    return Section("The dynamic graph", text, (report_figure(drawn, "Inference as a walk over timestamps"),))
