"""A small copy of the Small CNN Zoo: rows of one matrix, in TensorFlow's layout."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

LAYOUT: list[tuple[str, tuple[int, ...]]] = [
    ("conv2d/bias:0", (16,)), ("conv2d/kernel:0", (3, 3, 1, 16)), ("conv2d_1/bias:0", (16,)),
    ("conv2d_1/kernel:0", (3, 3, 16, 16)), ("conv2d_2/bias:0", (16,)), ("conv2d_2/kernel:0", (3, 3, 16, 16)),
    ("dense/bias:0", (10,)), ("dense/kernel:0", (16, 10)),
]  # fmt: skip
NUM_PARAMETERS = 4970
STEPS = (0, 1, 2, 3, 20, 40, 60, 80, 86)
SETTINGS = {
    "config.activation": "relu", "config.b_init": "zeros", "config.dataset": "cifar10",
    "config.dnn_architecture": "cnn", "config.dropout": 0.1, "config.epochs": 86,
    "config.epochs_between_checkpoints": 20, "config.init_std": 0.05, "config.l2reg": 1e-6,
    "config.learning_rate": 0.003, "config.num_layers": 3, "config.num_units": 16, "config.optimizer": "adam",
    "config.random_seed": 42, "config.train_fraction": 0.5, "config.w_init": "he_normal",
}  # fmt: skip


def metric_rows(num_runs: int, steps: tuple[int, ...] = STEPS) -> list[dict[str, Any]]:
    """A row for every step of every run; every second run has tanh."""
    return [
        SETTINGS
        | {
            "config.activation": ("relu", "tanh")[run % 2],
            "modeldir": f"/cns/somewhere/{run:03d}",
            "step": step,
            "test_accuracy": (run * len(steps) + place) / (num_runs * len(steps)),
            "test_loss": 2.0,
            "train_accuracy": 0.5,
            "train_loss": float("nan") if step == 0 else 1.5,
        }
        for run in range(num_runs)
        for place, step in enumerate(steps)
    ]


def write_metrics(path: Path, rows: list[dict[str, Any]], with_index: bool = True) -> None:
    text = io.StringIO()
    names = list(rows[0])
    writer = csv.writer(text)
    writer.writerow([""] * with_index + names)
    for number, row in enumerate(rows):
        writer.writerow([number] * with_index + [row[name] for name in names])
    path.write_bytes(gzip.compress(text.getvalue().encode()))


def write_layout(path: Path, layout: list[tuple[str, tuple[int, ...]]] = LAYOUT) -> None:
    lines, start = ["varname,start_idx,end_idx,shape"], 0
    for name, shape in layout:
        end = start + int(np.prod(shape))
        lines.append(f'sequential/{name},{start},{end},"{shape}"')
        start = end
    path.write_text("\n".join(lines) + "\n")


def write_small_cnn_zoo(root: Path, rows: list[dict[str, Any]]) -> np.ndarray:
    """The matrix that was saved: (networks, 4970)."""
    root.mkdir(parents=True, exist_ok=True)
    weights = (0.2 * np.random.default_rng(0).standard_normal((len(rows), NUM_PARAMETERS))).astype(np.float32)
    np.save(root / "weights.npy", weights)
    write_layout(root / "layout.csv")
    write_metrics(root / "metrics.csv.gz", rows)
    return weights


def torch_state(row: np.ndarray) -> dict[str, torch.Tensor]:
    """A row as torch's state_dict, cut by the numbers of the published layout."""
    bounds = [(0, 16), (16, 160), (160, 176), (176, 2480), (2480, 2496), (2496, 4800), (4800, 4810), (4810, 4970)]
    parts = [torch.from_numpy(row[start:end].copy()) for start, end in bounds]
    state = {}
    for i in range(3):
        sources = 1 if i == 0 else 16
        state[f"layers.{i}.weight"] = parts[2 * i + 1].reshape(3, 3, sources, 16).permute(3, 2, 0, 1)
        state[f"layers.{i}.bias"] = parts[2 * i]
    return state | {"fc.weight": parts[7].reshape(16, 10).T, "fc.bias": parts[6]}


def keras_output(row: np.ndarray, images: torch.Tensor, activation: str) -> torch.Tensor:
    """What the row's network computes: three convolutions of stride 2 without padding, mean over pixels, dense."""
    state = torch_state(row)
    x = images
    for i in range(3):
        x = functional.conv2d(x, state[f"layers.{i}.weight"], state[f"layers.{i}.bias"], stride=2)
        x = torch.relu(x) if activation == "relu" else torch.tanh(x)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
