"""Tensors and a small JSON note in one safetensors file, written atomically."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import safe_open
from torch import Tensor, nn

from zootool.errors import FormatError, MissingError, printable
from zootool.files import write_bytes_atomic


def save_tensors(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Write `tensors` with `note` (JSON values) as the file's metadata. One file, so the two can't drift apart."""
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    content = safetensors.torch.save(contiguous, metadata={"note": json.dumps(note, sort_keys=True)})
    write_bytes_atomic(path, content)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote. Raises MissingError, or FormatError where the file isn't ours."""
    if not path.exists():
        raise MissingError(f"{path} doesn't exist", hint="train the model first")
    try:
        with safe_open(path, framework="pt") as source:
            note = json.loads((source.metadata() or {})["note"])
            return {key: source.get_tensor(key) for key in source.keys()}, note  # noqa: SIM118 (no mapping)
    except (KeyError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise FormatError(f"{path} is no checkpoint of a model: {error}") from error


def put_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Give `model` the weights from `path`. Raises FormatError naming what doesn't fit."""
    own = model.state_dict()
    wrong = (
        [f"lacks {printable(name, 80)}" for name in own.keys() - weights.keys()]
        + [f"has {printable(name, 80)}, which the model hasn't" for name in weights.keys() - own.keys()]
        + [
            f"has {printable(name, 80)} of shape {tuple(weights[name].shape)}, the model's is {tuple(own[name].shape)}"
            for name in own.keys() & weights.keys()
            if own[name].shape != weights[name].shape
        ]
    )
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise FormatError(
            f"{path}: the weights don't fit the model: the file {min(wrong)}{more}",
            hint="another version of the model made them: train it anew in another folder, or load them with that one",
        )
    model.load_state_dict(weights)
