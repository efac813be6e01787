"""Tensors and a small JSON note in one safetensors file, written atomically."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from zootool.errors import FormatError, MissingError
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
