"""The forward-fit experiment's table, plot and page."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dng.bench.figures import plain, png_bytes
from dng.bench.forward_fit.model import KINDS, Kind
from dng.bench.forward_fit.results import ForwardFitResult
from dng.bench.page import Page, Section, report_figure
from dng.training.train import read_metrics
from zootool.files import write_bytes_atomic

_COLOURS: dict[Kind, str] = {
    "dynamic": "#2b6cb0",
    "static-each-round": "#c53030",
    "static-last-round": "#ed8936",
    "static-equal-width": "#805ad5",
}


def write_report(result: ForwardFitResult, out: Path) -> None:
    """Write table.md, mse.png and report.html into the run's folder."""
    table = result.table()
    write_bytes_atomic(out / "table.md", table.markdown().encode("utf-8"))
    bars = mse_per_layer(result)
    write_bytes_atomic(out / "mse.png", png_bytes(bars, dpi=150))
    settings = result.settings
    mlp = "-".join(map(str, settings.widths))
    Page(
        title="Fitting the forward pass: static against dynamic graph",
        subtitle=f"{settings.num_train:,} MLPs {mlp} to learn from, {settings.num_test:,} to be tested on, "
        f"{settings.num_inputs} inputs each; {settings.epochs} epochs.",
        numbers=_ratios(result),
        notes=(),
        sections=(
            Section("Error per layer", _explanation(result), (report_figure(bars, "Test MSE per layer"),), table),
            _training_section(result, out),
        ),
        facts=_facts(result),
    ).write(out / "report.html")


def mse_per_layer(result: ForwardFitResult) -> Figure:
    """Bars of the test MSE per layer and network, with the standard deviation over seeds."""
    figure = Figure(figsize=(8.4, 3.6))
    axis = figure.subplots()
    layers = np.arange(1, result.settings.num_layers + 1)
    width = 0.8 / len(KINDS)
    for index, (kind, label) in enumerate(KINDS.items()):
        places = layers + (index - (len(KINDS) - 1) / 2) * width
        bars = axis.bar(
            places, result.mean_mse(kind), width * 0.94, yerr=result.std_mse(kind), label=label, color=_COLOURS[kind],
            capsize=3,
        )  # fmt: skip
        axis.bar_label(bars, fmt="%.2g", fontsize=6, padding=2)
    axis.set_xticks(layers, [f"layer {layer}" for layer in layers])
    axis.set_ylabel("test MSE")
    axis.margins(y=0.12)
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    return plain(figure)


def _training_section(result: ForwardFitResult, out: Path) -> Section:
    figure = Figure(figsize=(7.2, 3.0))
    axis = figure.subplots()
    for fit in result.fits:
        metrics = read_metrics(out / f"{fit.kind}-{fit.seed}")
        label = KINDS[fit.kind] if fit.seed == 0 else None
        axis.plot(
            range(1, len(metrics) + 1), [line["score"] for line in metrics], color=_COLOURS[fit.kind], label=label
        )
    axis.set_yscale("log")
    axis.set_xlabel("epoch")
    axis.set_ylabel("validation MSE, mean over layers")
    axis.legend(frameon=False, fontsize=8)
    text = "Validation error after every epoch, one line per seed. The weights with the lowest one are tested."
    return Section("Training", text, (report_figure(plain(figure), "Validation MSE over the training"),))


def _explanation(result: ForwardFitResult) -> str:
    size, wide = (result.fits_of(kind)[0].num_parameters for kind in ("dynamic", "static-equal-width"))
    hidden = {kind: result.fits_of(kind)[0].hidden_dim for kind in KINDS}
    return (
        "Each network reads an MLP's weights, biases and an input, and predicts every neuron's post-activation. On "
        f"the static graph all nodes are updated in each of {result.settings.num_layers} rounds; on the dynamic graph "
        "each layer once, at its own timestamp. Two static networks have as many parameters as the dynamic one within "
        f"5 % (hidden widths {hidden['dynamic']} dynamic, {hidden['static-each-round']} static, which has an update "
        f"per round, and edge updates besides); the third has the dynamic network's width, and {wide / size:.1f} times "
        "its parameters. The last layer has no ReLU, and targets differ in scale: their variance is the error of a "
        "constant."
    )


def _ratios(result: ForwardFitResult) -> tuple[tuple[str, str], ...]:
    dynamic = result.mean_mse("dynamic")
    controls: dict[Kind, str] = {"static-each-round": "parameters", "static-equal-width": "width"}
    return tuple(
        (f"{b / a:.2f} x", f"static / dynamic MSE at equal {equal}, layer {layer}")
        for kind, equal in controls.items()
        for layer, (a, b) in enumerate(zip(dynamic, result.mean_mse(kind), strict=True), start=1)
    )


def _facts(result: ForwardFitResult) -> dict[str, str]:
    return {
        "command": f"zoo bench forward-fit --preset {result.preset} --seeds {result.num_seeds}",
        "seconds": f"{sum(fit.seconds for fit in result.fits):.0f} in the calls that finished the trainings",
    }
