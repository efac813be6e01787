"""The figures of reports, as matplotlib figures without global state."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy import ndarray

from zootool.graph import GraphBatch

BLUE, RED, GREY, ORANGE = "#2b6cb0", "#c53030", "#a0aec0", "#dd6b20"
_MAX_DRAWN_NODES = 32

Picture = Float[ndarray, "height width channels"]


def panel(x: str, y: str, size: tuple[float, float] = (4.6, 2.6)) -> tuple[Figure, Axes]:
    """A figure of one panel with these labels, without the frame's upper and right lines."""
    figure = Figure(figsize=size)
    axis = figure.subplots()
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    return plain(figure), axis


def plain(figure: Figure) -> Figure:
    """The figure without the frame's upper and right lines."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def gallery(rows: dict[str, list[Picture]], captions: Sequence[str]) -> Figure:
    """A row of pictures in [0, 1] per key of `rows`, a caption over each column."""
    columns = len(captions)
    figure = Figure(figsize=(0.95 * columns + 1.2, 1.05 * len(rows) + 0.4))
    axes = np.atleast_2d(figure.subplots(len(rows), columns))
    for row, (name, pictures) in enumerate(rows.items()):
        for column, picture in enumerate(pictures):
            axis = axes[row, column]
            axis.imshow(np.clip(picture, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(captions[column], fontsize=8)
        axes[row, 0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    return figure


def psnr_histogram(psnr: Float[ndarray, " networks"]) -> Figure:
    """How well the networks fit their images, in dB."""
    figure, axis = panel("PSNR of the SIREN against its image (dB)", "networks")
    axis.hist(psnr, bins=40, color=BLUE)
    axis.axvline(float(psnr.mean()), color=RED, linewidth=1, label=f"mean {psnr.mean():.1f} dB")
    axis.legend(frameon=False)
    return figure


def training_curve(metrics: Sequence[dict], loss_name: str, score_name: str, log: bool) -> Figure:
    """Training loss and validation score over the steps of one training."""
    figure = Figure(figsize=(4.6, 2.6))
    axis = figure.subplots()
    steps, scores = ([line[name] for line in metrics] for name in ("step", "score"))
    axis.plot(steps, [line["loss"] for line in metrics], color=GREY, label=f"{loss_name} (training)")
    axis.set_xlabel("training step")
    if log:
        axis.set_yscale("log")
        axis.plot(steps, scores, color=BLUE, label=f"{score_name} (validation)")
        axis.legend(frameon=False, fontsize=8)
        return plain(figure)
    axis.set_ylabel(loss_name)
    right = axis.twinx()
    right.plot(steps, scores, color=BLUE)
    right.set_ylabel(f"{score_name} (validation)", color=BLUE)
    right.set_ylim(0, 1)
    return figure


def confusion(labels: Sequence[int], predictions: Sequence[int], names: Sequence[str]) -> Figure:
    """The share of each true class (rows) that was called each class (columns)."""
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(3.6, 3.2))
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= 20:
        axis.set_xticks(range(len(names)), names, fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    figure.colorbar(image, ax=axis, shrink=0.8)
    return figure


def dynamic_graph(network: GraphBatch) -> Figure:
    """The first network of a batch: a panel per timestamp with what its event adds and what it deletes.

    Of several edges between two nodes the sum is drawn.
    """
    num_layers, counts = network.architecture.num_layers, network.architecture.node_counts
    figure = Figure(figsize=(2.6 * num_layers, 3.4))
    for layer, axis in enumerate(np.atleast_1d(figure.subplots(1, num_layers, sharey=True)), start=1):
        edges = network.edges[layer - 1][0].numpy()
        for column, count in enumerate(counts):
            biases = network.nodes[column - 1][0, :, 0].numpy() if column else None
            _draw_nodes(axis, column, count, layer, biases)
        _draw_edges(axis, layer, counts, edges)
        axis.set_title(_event(layer, counts, edges.size), fontsize=8)
        axis.set_xlim(-0.4, num_layers + 0.4)
        axis.set_xticks(range(num_layers + 1), [f"$v^{column}$" for column in range(num_layers + 1)])
        axis.set_yticks([])
        axis.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    return figure


def _event(layer: int, counts: Sequence[int], num_edges: int) -> str:
    added = f"t = {layer}\n+ {counts[layer]} nodes, + {num_edges} edges"
    if layer == 1:
        return added + "\n "
    return f"{added}\n$-$ $v^{layer - 2}$ ({counts[layer - 2]} nodes), $-$ $e^{layer - 1}$"


def _heights(count: int) -> ndarray:
    drawn = min(count, _MAX_DRAWN_NODES)
    return np.zeros(1) if drawn == 1 else np.linspace(-1, 1, drawn) * min(1.0, drawn / 12)


def _draw_nodes(axis: Axes, column: int, count: int, layer: int, biases: ndarray | None) -> None:
    heights = _heights(count)
    if column > layer:
        return
    if column < layer - 1:
        axis.scatter(np.full(len(heights), column), heights, s=9, facecolors="none", edgecolors=GREY, linewidths=0.5)
    elif biases is None:
        axis.scatter(np.full(len(heights), column), heights, s=16, color="black", zorder=3)
    else:
        scale = np.abs(biases).max() or 1.0
        axis.scatter(
            np.full(len(heights), column), heights, s=16, c=biases[: len(heights)], cmap="coolwarm",
            vmin=-scale, vmax=scale, edgecolors="black", linewidths=0.3, zorder=3,
        )  # fmt: skip


def _draw_edges(axis: Axes, layer: int, counts: Sequence[int], edges: ndarray) -> None:
    sources, targets = _heights(counts[layer - 1]), _heights(counts[layer])
    weights = edges.sum(axis=2)[: len(targets), : len(sources)]
    scale = np.abs(weights).max() or 1.0
    target, source = np.indices(weights.shape).reshape(2, -1)
    ends = np.stack([np.full(len(source), layer - 1), sources[source], np.full(len(target), layer), targets[target]], 1)
    strength = np.abs(weights).ravel() / scale
    colours = np.where(weights.ravel() > 0, RED, BLUE).tolist()
    lines = LineCollection(
        ends.reshape(-1, 2, 2).tolist(),
        colors=colours,
        linewidths=0.2 + 0.8 * strength,
        alpha=0.15 + 0.6 * strength,
        zorder=1,
    )
    axis.add_collection(lines)


def from_pixels(pixels: UInt8[ndarray, "height width channels"]) -> Picture:
    """A picture in [0, 1] from uint8 pixels."""
    return pixels.astype(np.float32) / 255
