"""What a trained model needs to be used again: its architecture and its settings, beside its weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dng.checkpoint import load_tensors
from dng.inr2jls import INR2JLS, INR2JLSConfig
from zootool.architecture import Architecture
from zootool.errors import FormatError, MissingError
from zootool.files import write_json_atomic
from zootool.records import from_plain

_SPEC = "model.json"


def write_model_spec(run_dir: Path, model: INR2JLS) -> None:
    """Write what `load_inr2jls` needs to build `model` again, before its training starts."""
    run_dir.mkdir(parents=True, exist_ok=True)
    architecture = model.encoder.architecture.to_dict()
    spec = {"kind": "inr2jls", "architecture": architecture, "config": asdict(model.config)}
    write_json_atomic(run_dir / _SPEC, spec)


def load_inr2jls(run_dir: Path) -> INR2JLS:
    """The trained model of a run, in evaluation mode, with the weights that validation picked.

    Raises MissingError where there is no run, FormatError where its files don't fit together.
    """
    spec = _read_spec(run_dir)
    architecture = Architecture.from_dict(spec.get("architecture"), f"{run_dir / _SPEC}: architecture")
    model = INR2JLS(architecture, from_plain(INR2JLSConfig, spec.get("config"), f"{run_dir / _SPEC}: config"))
    weights, _ = load_tensors(run_dir / "best.safetensors")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise FormatError(f"{run_dir}: the weights don't fit {_SPEC}: {error}") from error
    return model.eval()


def _read_spec(run_dir: Path) -> dict[str, Any]:
    path = run_dir / _SPEC
    if not path.exists():
        raise MissingError(f"{run_dir} holds no trained model", hint="train one with `zoo bench inr-classification`")
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(spec, dict) or spec.get("kind") != "inr2jls":
        raise FormatError(f"{path} doesn't describe an INR2JLS model")
    return spec
