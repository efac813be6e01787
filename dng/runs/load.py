"""What a trained model needs to be used again: its kind, architecture and settings, beside its weights."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dng.methods.inr2array import INR2Array, INR2ArrayConfig
from dng.models.ablations import MemoryDecoder, ReconstructionConfig, WeightDecoder
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.model import Model
from dng.models.predictors import AccuracyPredictor, NetworkClassifier, PredictorConfig
from dng.training.checkpoint import load_tensors, put_weights
from dng.training.claim import claim, read_json
from dng.training.distributed import ALONE, Ranks
from zootool.architecture import Architecture
from zootool.errors import FormatError, MissingError, did_you_mean
from zootool.records import from_plain

_SPEC = "model.json"

MODELS: dict[str, tuple[Callable[[Architecture, Any], Model], type]] = {
    "inr2jls": (INR2JLS, INR2JLSConfig),
    "inr2array": (lambda architecture, config: INR2Array([architecture], config), INR2ArrayConfig),
    "memory-decoder": (MemoryDecoder, ReconstructionConfig),
    "weight-decoder": (WeightDecoder, ReconstructionConfig),
    "classifier": (NetworkClassifier, PredictorConfig),
    "predictor": (AccuracyPredictor, PredictorConfig),
}
"""Kind -> what builds the model from an Architecture and its settings, and the settings' type."""


def write_model_spec(run_dir: Path, model: Model, ranks: Ranks = ALONE) -> None:
    """Write what `load` needs to build `model` again, before its training starts.

    Raises UsageError where `run_dir` holds a run of another model.
    """
    architecture = model.encoder.architecture.to_dict()
    claim(run_dir / _SPEC, {"kind": model.kind, "architecture": architecture, "config": asdict(model.config)}, ranks)


def load(run_dir: Path | str) -> Model:
    """The trained model of a run, in evaluation mode, with the weights that validation picked.

    `run_dir` is the folder of one training, or of a benchmark that has one in it. Raises MissingError where there is
    no run, FormatError where its files don't fit together.
    """
    folder = model_dir(Path(run_dir))
    spec, where = _read_spec(folder), str(folder / _SPEC)
    build, config_type = MODELS[spec["kind"]]
    architecture = Architecture.from_dict(spec.get("architecture"), f"{where}: architecture")
    model = build(architecture, from_plain(config_type, spec.get("config"), f"{where}: config"))
    put_weights(model, load_tensors(path := folder / "best.safetensors")[0], path)
    return model.eval()


def model_dir(run_dir: Path) -> Path:
    """The folder with the model of a run: itself, or the one training in it that a benchmark keeps its model in."""
    candidates = [run_dir, *(run_dir / kind for kind in MODELS)]
    found = next((folder for folder in candidates if (folder / _SPEC).exists()), None)
    if found is None:
        raise MissingError(f"{run_dir} holds no trained model", hint="train one with `zoo train`")
    return found


def _read_spec(run_dir: Path) -> dict[str, Any]:
    path = run_dir / _SPEC
    spec = read_json(path)
    kind = spec.get("kind") if isinstance(spec, dict) else None
    if not isinstance(kind, str) or kind not in MODELS:
        raise FormatError(f"{path} describes a model of the kind {kind!r}", hint=did_you_mean(str(kind), MODELS))
    return spec
