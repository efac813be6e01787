"""Small copies of the sets of SIRENs, as their authors' scripts write them."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from tests.zootool.formats.converting import random_state, save

Network = tuple[int, int, int]
"""Copy, label, index."""


def nfn_state(seed: int, num_outputs: int = 1) -> OrderedDict[str, torch.Tensor]:
    shapes = {
        "net.0.linear.weight": (32, 2), "net.0.linear.bias": (32,), "net.1.linear.weight": (32, 32),
        "net.1.linear.bias": (32,), "net.2.weight": (num_outputs, 32), "net.2.bias": (num_outputs,),
    }  # fmt: skip
    return OrderedDict(random_state(shapes, seed))


def nfn_folder(copy: int, label: int) -> str:
    """As the public loaders ask for them: copy 0 without a suffix, then `_aug0`, `_aug1`, ..."""
    return f"randinit_smaller_aug{copy - 1}_{label}s" if copy else f"randinit_smaller_{label}s"


def write_nfn(root: Path, networks: list[Network], num_outputs: int = 1) -> dict[str, OrderedDict[str, torch.Tensor]]:
    """net_id -> the state_dict that was saved for it."""
    states = {}
    for seed, (copy, label, index) in enumerate(networks):
        state = nfn_state(seed, num_outputs)
        save(state, root / nfn_folder(copy, label) / f"net{index}.pth")
        states[f"{index:06d}-{copy:02d}"] = state
    return states


def write_nfn_converted(root: Path, networks: list[Network], num_outputs: int = 1) -> dict[str, Any]:
    """The same as {'e', 'b'}, weight by weight from source to target, as the published converter loops."""
    states = {}
    for seed, (copy, label, index) in enumerate(networks):
        state = nfn_state(seed, num_outputs)
        weights = [tensor for key, tensor in state.items() if key.endswith("weight")]
        edges = [weight[j, i] for weight in weights for i in range(weight.shape[1]) for j in range(weight.shape[0])]
        biases = torch.cat([tensor for key, tensor in state.items() if key.endswith("bias")])
        save({"e": torch.stack(edges), "b": biases}, root / nfn_folder(copy, label) / f"net{index}.pt")
        states[f"{index:06d}-{copy:02d}"] = state
    return states


def seq_state(seed: int, width: int = 32, num_outputs: int = 1) -> OrderedDict[str, torch.Tensor]:
    shapes = {
        "seq.0.weight": (width, 2), "seq.0.bias": (width,), "seq.1.weight": (width, width), "seq.1.bias": (width,),
        "seq.2.weight": (num_outputs, width), "seq.2.bias": (num_outputs,),
    }  # fmt: skip
    return OrderedDict(random_state(shapes, seed))


def seq_output(state: dict[str, torch.Tensor], coordinates: torch.Tensor, offset: float) -> torch.Tensor:
    """What such a network computes, written out."""
    x = torch.sin(30 * (coordinates @ state["seq.0.weight"].T + state["seq.0.bias"]))
    x = torch.sin(30 * (x @ state["seq.1.weight"].T + state["seq.1.bias"]))
    return x @ state["seq.2.weight"].T + state["seq.2.bias"] + offset


def write_mnist_inrs(root: Path, networks: list[tuple[str, int, int]]) -> dict[str, Any]:
    """`networks` are ("training" or "testing", label, image id)."""
    states = {}
    for seed, (part, label, image) in enumerate(networks):
        state = seq_state(seed)
        save(state, root / f"mnist_png_{part}_{label}_{image}" / "checkpoints" / "model_final.pth")
        states[f"{image + 60_000 * (part == 'testing'):06d}"] = state
    return states


def write_mnist_splits(path: Path, splits: dict[str, list[tuple[str, int, int]]]) -> None:
    """With the absolute paths of somebody else's machine, and labels as texts."""
    content = {
        split: {
            "path": [
                f"/home/someone/training/mnist-inrs/mnist_png_{p}_{label}_{i}/checkpoints/model_final.pth"
                for p, label, i in networks
            ],
            "label": [str(label) for _, label, _ in networks],
        }
        for split, networks in splits.items()
    }
    path.write_text(json.dumps(content))


def write_fmnist_inrs(root: Path, networks: list[tuple[str, int, Any]]) -> dict[str, Any]:
    """`networks` are (folder, number, label): the label goes into the state_dict as it is."""
    states = {}
    for seed, (folder, number, label) in enumerate(networks):
        state = seq_state(seed)
        save(OrderedDict([*state.items(), ("label", label)]), root / folder / f"model_{number}.pth")
        states[f"{folder}-{number:06d}"] = state
    return states


def write_wide_inrs(root: Path, networks: list[tuple[int, int, int]], width: int = 64) -> dict[str, Any]:
    """`networks` are (label, image, seed)."""
    states = {}
    for number, (label, image, seed) in enumerate(networks):
        state = seq_state(number, width, 3)
        path = root / "ckpts" / f"{label:02d}" / f"{image:06d}_{seed:07d}.ckpt"
        save({"image_idx": image, "params": state}, path)
        states[f"{image:06d}-{seed:07d}"] = state
    return states
