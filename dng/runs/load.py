"""What a trained model needs to be used again: its kind, architecture and settings, beside its weights.

model.json has a version. A file of an older one is brought up to date as it is read, by one function per step.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dng.methods.inr2array import INR2Array, INR2ArrayConfig
from dng.methods.registry import READERS, method
from dng.models.ablations import MemoryDecoder, ReconstructionConfig, WeightDecoder
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.model import Model, Reader
from dng.training.checkpoint import load_tensors, put_weights
from dng.training.distributed import ALONE, Ranks
from dng.training.same_settings import claim, read_json
from zootool.architecture import Architecture
from zootool.errors import FormatError, MissingError, did_you_mean, printable
from zootool.records import from_plain

_SPEC = "model.json"

REPRESENTATIONS: dict[str, tuple[Callable[[Architecture, Any], Model], type]] = {
    "inr2jls": (INR2JLS, INR2JLSConfig),
    "inr2array": (lambda architecture, config: INR2Array([architecture], config), INR2ArrayConfig),
    "memory-decoder": (MemoryDecoder, ReconstructionConfig),
    "weight-decoder": (WeightDecoder, ReconstructionConfig),
}
"""Kind -> what builds the model from an Architecture and its settings, and the settings' type."""
KINDS = (*REPRESENTATIONS, "classifier", "predictor")
"""Those of models; the last two are readers, of any method."""


def write_model_spec(run_dir: Path, model: Model, ranks: Ranks = ALONE) -> None:
    """Write what `load` needs to build `model` again, before its training starts.

    Raises UsageError where `run_dir` holds a run of another model.
    """
    spec = {"version": VERSION, "kind": model.kind, "architecture": model.architecture.to_dict()}
    if isinstance(model, Reader):
        spec |= {"method": model.method, "num_outputs": model.num_outputs}
    claim(run_dir / _SPEC, spec | {"config": asdict(model.config)}, ranks, up_to_date)


def load(run_dir: Path | str) -> Model:
    """The trained model of a run, in evaluation mode, with the weights that validation picked.

    `run_dir` is the folder of one training, or of a benchmark that has one in it. Raises MissingError where there is
    no run, FormatError where its files don't fit together.
    """
    folder = model_dir(Path(run_dir))
    model = _build(up_to_date(read_json(folder / _SPEC)), str(folder / _SPEC))
    put_weights(model, load_tensors(path := folder / "best.safetensors")[0], path)
    return model.eval()


def model_dir(run_dir: Path) -> Path:
    """The folder with the model of a run: itself, or the one training in it that a benchmark keeps its model in."""
    candidates = [run_dir, *(run_dir / kind for kind in KINDS)]
    found = next((folder for folder in candidates if (folder / _SPEC).exists()), None)
    if found is None:
        raise MissingError(f"{run_dir} holds no trained model", hint="train one with `zoo train`")
    return found


def _build(spec: Any, where: str) -> Model:
    kind = spec.get("kind") if isinstance(spec, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise FormatError(f"{where} describes a model of the kind {kind!r}", hint=did_you_mean(str(kind), KINDS))
    if spec["version"] != VERSION:
        raise FormatError(
            f"{where} has the version {printable(spec['version'], 20)}, known are 1 to {VERSION}",
            hint="read it with the release of zootool that wrote it, or a newer one",
        )
    architecture = Architecture.from_dict(spec.get("architecture"), f"{where}: architecture")
    if kind in REPRESENTATIONS:
        build, config_type = REPRESENTATIONS[kind]
        return build(architecture, from_plain(config_type, spec.get("config"), f"{where}: config"))
    name, num_outputs = spec.get("method"), spec.get("num_outputs")
    if name not in READERS or type(num_outputs) is not int or num_outputs < 1:
        raise FormatError(
            f"{where} describes a {kind} with {printable(num_outputs, 20)} outputs by the method {printable(name, 60)}",
            hint=did_you_mean(str(name), READERS),
        )
    reader = method(name).reader()
    config = from_plain(type(next(iter(reader.presets.values()))), spec.get("config"), f"{where}: config")
    model = reader([architecture], num_outputs, config)  # type: ignore[missing-argument]
    model.predicts = "class" if kind == "classifier" else "accuracy"
    return model


def up_to_date(spec: Any) -> Any:
    """The contents of a model.json as the present version would have written it."""
    if isinstance(spec, dict):
        spec = {"version": 1} | spec
        while type(version := spec["version"]) is int and version in _STEPS:
            spec = _STEPS[version](spec) | {"version": version + 1}
    return spec


def _from_1(spec: dict[str, Any]) -> dict[str, Any]:
    """Classifiers and predictors were the DNG-Encoder's alone, and counted their outputs in their settings."""
    config = spec.get("config")
    if spec.get("kind") not in ("classifier", "predictor") or not isinstance(config, dict):
        return spec
    renamed = {"hidden_dim": "head_dim", "dropout": "head_dropout"}
    plain = {renamed.get(key, key): value for key, value in config.items() if key != "num_outputs"}
    return spec | {"method": "dng", "num_outputs": config.get("num_outputs"), "config": plain}


_STEPS = {1: _from_1}
VERSION = 2
