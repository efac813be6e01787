"""Small copies of the SimpleViT zoo, of the hyper-representation papers' trials and of the small transformers."""

import json
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.zootool.formats.converting import random_state, save
from tests.zootool.nets.modules import SimpleVit
from zootool.nets.vit import SimpleVitConfig

VIT_SETTINGS = {
    "image_size": 32, "patch_size": 8, "num_classes": 10, "dim": 16, "dim_head": 8, "depth": 2, "heads": 2,
    "mlp_dim": 24, "learning_rate": 0.001, "batch_size": 128, "num_epochs": 25, "num_steps": 0,
}  # fmt: skip
VIT_CONFIG = SimpleVitConfig(3, patch_size=8, dim=16, depth=2, num_heads=2, head_dim=8, mlp_dim=24, num_classes=10)


def vit_state(seed: int) -> OrderedDict[str, torch.Tensor]:
    """With the keys of today's SimpleViT, nothing at its initial value."""
    shapes = {key: tuple(tensor.shape) for key, tensor in SimpleVit(VIT_CONFIG).state_dict().items()}
    return OrderedDict(random_state(shapes, seed))


def old_vit_state(seed: int) -> OrderedDict[str, torch.Tensor]:
    """As older versions save it: patches embedded by a linear layer alone, and the last norm in the head."""
    state = vit_state(seed)
    names = {
        "to_patch_embedding.2.": "to_patch_embedding.1.", "transformer.norm.": "linear_head.0.",
        "linear_head.": "linear_head.1.",
    }  # fmt: skip
    old = OrderedDict()
    for key, tensor in state.items():
        if key.startswith(("to_patch_embedding.1.", "to_patch_embedding.3.")):
            continue
        prefix = next((prefix for prefix in names if key.startswith(prefix)), "")
        old[names.get(prefix, "") + key.removeprefix(prefix)] = tensor
    return old


def old_vit_output(state: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The older network: today's blocks, but no norms around the patches, and the last norm behind the mean."""
    vit = SimpleVit(VIT_CONFIG)
    vit.to_patch_embedding = nn.Sequential(nn.Identity(), nn.Linear(VIT_CONFIG.patch_dim, VIT_CONFIG.dim))
    vit.transformer.add_module("norm", nn.Identity())
    head = nn.Sequential(nn.LayerNorm(VIT_CONFIG.dim), nn.Linear(VIT_CONFIG.dim, VIT_CONFIG.num_classes))
    vit.add_module("linear_head", head)
    vit.load_state_dict(state)
    return vit.eval()(images)


def write_vits(root: Path, models: list[tuple[int, int]], make: Any = vit_state) -> dict[str, Any]:
    """`models` are (id, epoch)."""
    states = {}
    for model, epoch in models:
        states[f"{model:06d}-{epoch:04d}"] = make(100 * model + epoch)
        save(states[f"{model:06d}-{epoch:04d}"], root / "vit_models" / f"model_{model}_{epoch}.pth")
    (root / "stat").mkdir(exist_ok=True)
    (root / "stat" / "vit_hyperparameters.json").write_text(json.dumps(VIT_SETTINGS))
    return states


def vit_results(models: list[tuple[int, int]]) -> list[dict[str, float]]:
    return [
        {"model_id": model, "epoch": epoch, "train_accuracy": 40.0 + model, "test_accuracy": 30.0 + model}
        for model, epoch in models
    ]


CNN_SHAPES = [(8, 1, 5, 5), (6, 8, 5, 5), (4, 6, 2, 2), (20, 36), (10, 20)]
CNN3_SHAPES = [(16, 3, 3, 3), (32, 16, 3, 3), (15, 32, 3, 3), (20, 60), (10, 20)]
PLACES = {"plain": (0, 3, 6, 9, 11), "dropout": (0, 4, 8, 11, 14), "cnn3": (0, 3, 6, 10, 12)}


def trial_state(
    seed: int, shapes: Sequence[tuple[int, ...]], places: tuple[int, ...]
) -> OrderedDict[str, torch.Tensor]:
    named: dict[str, tuple[int, ...]] = {}
    for place, shape in zip(places, shapes, strict=True):
        named |= {f"module_list.{place}.weight": shape, f"module_list.{place}.bias": shape[:1]}
    return OrderedDict(random_state(named, seed))


def trial_output(state: Mapping[str, torch.Tensor], x: torch.Tensor, activation: Any, pooled: int) -> torch.Tensor:
    """The papers' CNN: its first `pooled` convolutions have a max pooling before the activation."""
    tensors = list(state.values())
    for i in range(3):
        x = functional.conv2d(x, tensors[2 * i], tensors[2 * i + 1])
        x = activation(functional.max_pool2d(x, 2, 2) if i < pooled else x)
    x = activation(functional.linear(x.flatten(1), tensors[6], tensors[7]))
    return functional.linear(x, tensors[8], tensors[9])


def write_trial(
    folder: Path,
    states: Mapping[int, Mapping[str, torch.Tensor]],
    iterations: list[int],
    *,
    name: str = "checkpoint_{:06d}",
    settings_name: str = "params.json",
    **settings: Any,
) -> None:
    """`states` by the checkpoint's number; a line of result.json for each training_iteration."""
    for epoch, state in states.items():
        save(state, folder / name.format(epoch) / "checkpoints")
    content = {"model::nlin": "tanh", "model::dropout": 0, "optim::lr": 0.0003, "seed": 7, "nested": {"a": 1}}
    (folder / settings_name).write_text(json.dumps(content | settings))
    lines = [
        {
            "train_acc": 0.5 + i / 1000, "train_loss": float("nan") if i == 0 else 1.0, "test_acc": 0.25 + i / 1000,
            "test_loss": 2.0, "val_acc": 0.3, "val_loss": 2.5, "training_iteration": i, "config": content,
        }
        for i in iterations
    ]  # fmt: skip
    (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "progress.csv").write_text("train_acc\n0.5\n")


def transformer_state(seed: int, embedding: Mapping[str, tuple[int, ...]], num_classes: int = 10) -> Any:
    shapes = dict(embedding)
    for block in range(2):
        shapes |= {
            f"encoder.{block}.attention.{part}.weight": (32, 32)
            for part in ("queries", "keys", "values", "out_projection")
        }
        shapes |= {f"encoder.{block}.fc1.weight": (64, 32), f"encoder.{block}.fc1.bias": (64,)}
        shapes |= {f"encoder.{block}.fc2.weight": (32, 64), f"encoder.{block}.fc2.bias": (32,)}
    shapes |= {"classifier.fc1.weight": (32, 32), "classifier.fc1.bias": (32,)}
    shapes |= {"classifier.fc2.weight": (num_classes, 32), "classifier.fc2.bias": (num_classes,)}
    return OrderedDict(random_state(shapes, seed))


PATCHES = {
    "embedding.conv1.weight": (32, 1, 4, 4), "embedding.conv1.bias": (32,), "embedding.pos_embedding": (49, 32),
}  # fmt: skip
WORDS = {"embedding.word.weight": (50, 32)}


def encoder_output(state: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """What the small transformers compute from embedded tokens: two heads, no skips, norms without parameters."""
    for block in range(2):
        normed = functional.layer_norm(x, (32,))
        queries, keys, values = (
            (normed @ state[f"encoder.{block}.attention.{part}.weight"].T).unflatten(-1, (2, 16)).transpose(1, 2)
            for part in ("queries", "keys", "values")
        )
        weights = (queries @ keys.transpose(-1, -2) / math.sqrt(16)).softmax(-1)
        x = (weights @ values).transpose(1, 2).flatten(2) @ state[f"encoder.{block}.attention.out_projection.weight"].T
        x = (
            functional.layer_norm(x, (32,)) @ state[f"encoder.{block}.fc1.weight"].T
            + state[f"encoder.{block}.fc1.bias"]
        )
        x = torch.relu(x) @ state[f"encoder.{block}.fc2.weight"].T + state[f"encoder.{block}.fc2.bias"]
    x = functional.layer_norm(x, (32,)).mean(1) @ state["classifier.fc1.weight"].T + state["classifier.fc1.bias"]
    return torch.relu(x) @ state["classifier.fc2.weight"].T + state["classifier.fc2.bias"]


def embedded_patches(state: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    patches = functional.conv2d(images, state["embedding.conv1.weight"], state["embedding.conv1.bias"], stride=4)
    return patches.flatten(2).transpose(1, 2) + state["embedding.pos_embedding"]
