"""Per-epoch zoos of the hyper-representation papers: `{zoo}/{trial}/checkpoint_{epoch}/checkpoints`.

A trial has its settings in params.json (or config.json) and a line for each epoch in result.json. Checkpoints and lines
are matched by `training_iteration`, which counts from 0 or 1: the offset that leaves fewer checkpoints without a line
is taken for the whole zoo. Layers are known by order and shape, since their numbers shift with dropout. The published
CNNs are known by their kernels: (5, 5, 2) has a max pooling of 2 behind its first two convolutions, (3, 3, 3) behind
all three; the pooling comes before the activation. MLPs are linear layers in a row.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from zootool.architecture import Activation, Architecture, Pooling, Timestamp
from zootool.architecture.kinds import KINDS
from zootool.errors import FormatError, MissingError, printable
from zootool.formats.checked_values import finite_number, fraction, plain_name, whole_number
from zootool.formats.collection import CollectedImages, usual_images
from zootool.formats.skeleton import NUMBER, TEXT, WHOLE, FileReader, Network, first_folders, holds
from zootool.nets.lay_out import Entry, lay_out
from zootool.untrusted.bounded_text import read_json, read_json_lines
from zootool.untrusted.file_stack import Tensors

_SETTINGS = ("params.json", "config.json")
_METRICS = {
    "train_accuracy": "train_acc", "train_loss": "train_loss", "validation_accuracy": "val_acc",
    "validation_loss": "val_loss", "test_accuracy": "test_acc", "test_loss": "test_loss",
}  # fmt: skip
"""Our columns, and what result.json calls them."""
_MAX_HYPER_COLUMNS = 200
_MAX_TEXT = 1_000
# What no tensor and no setting says; the second for networks with convolutions.
_ASSUMED = (
    "layers are taken in the order in which they were saved, since their numbers shift with dropout",
    "the max poolings are taken for those of the papers' CNN with these kernels, before the activation",
)
_ACTIVATIONS = {
    "leakyrelu": "leaky_relu", "leaky_relu": "leaky_relu", "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid",
    "silu": "silu", "gelu": "gelu", "elu": "elu",
}  # fmt: skip
_ACTIVATION_KEYS = ("model::nlin", "model.nlin", "nlin", "activation")
_POOLED: dict[tuple[int, ...], tuple[bool, ...]] = {(5, 5, 2): (True, True, False), (3, 3, 3): (True, True, True)}
_MAX_LAYERS = 64
_IMAGE_SETS = ("fashion-mnist", "mnist", "usps", "cifar100", "cifar10", "svhn", "stl10")
_WRITTEN_AS = {"fashion": "fashion-mnist", "fmnist": "fashion-mnist", "cifar_100": "cifar100", "cifar_10": "cifar10"}


@dataclass(frozen=True)
class _Trial:
    """What a trial's files say: its settings, and its metrics by training_iteration."""

    settings: Mapping[str, Any]
    results: Mapping[int, Mapping[str, float | None]]


class HyperRepresentations(FileReader):
    """Every checkpoint of every trial; steps are training iterations."""

    NAME = "hyper-representations"
    TITLE = "zoos of the hyper-representation papers: trials of checkpoints by epoch"
    PARTS = (r"checkpoint_(\d{1,9})", "checkpoints")
    COLUMNS = pa.schema(
        {"net_id": TEXT, "split": TEXT, "run_id": TEXT, "training_step": WHOLE}
        | dict.fromkeys((*_METRICS, "ggap"), NUMBER)
    )
    GROUP = "run_id"
    RUN = ("trial", "run_id")
    # The papers' own shares.
    SHARES = (0.7, 0.15, 0.15)
    NOTHING = ("holds no trials of this format", "give the folder of the trials")
    TWICE = ("are of one epoch", "keep one of them")

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether a folder in `path` is a trial: with result.json, settings and a checkpoint."""
        return any(
            (trial / "result.json").is_file()
            and any((trial / name).is_file() for name in _SETTINGS)
            and holds(trial, *cls.PARTS)
            for trial in first_folders(path)[:20]
        )

    def network(self, file: Path, match: re.Match[str]) -> Network | None:
        folder = file.parent.parent
        # A trial one folder deeper down belongs to another zoo.
        if folder.parent != self.path:
            return None
        trial = plain_name(folder.name, f"a trial in {self.shown}")
        return Network(file, (trial, int(match[1])), {"run_id": trial})

    def complete(self) -> None:
        """Training iterations, and their metrics."""
        trials = dict.fromkeys(network.row["run_id"] for network in self.networks)
        self._trials = {trial: _read_trial(self.path / trial) for trial in trials}
        epochs = [(self._trials[trial].results, epoch) for trial, epoch in (n.place for n in self.networks)]
        unmatched = [sum(epoch + offset not in results for results, epoch in epochs) for offset in (0, 1)]
        self._offset = int(unmatched[1] < unmatched[0])
        for network in self.networks:
            trial, epoch = network.place
            step = epoch + self._offset
            metrics = self._trials[trial].results.get(step, {})
            train, test = metrics.get("train_accuracy"), metrics.get("test_accuracy")
            network.row.update({"net_id": f"{trial}/{step:06d}", "training_step": step, **metrics})
            network.row["ggap"] = None if train is None or test is None else train - test

    def architecture(self, network: Network) -> Architecture:
        settings = self._trials[network.row["run_id"]].settings
        return _trial_architecture(self.tensors(network), settings, printable(network.source))

    def table(self) -> pa.Table:
        settings = [self._trials[network.row["run_id"]].settings for network in self.networks]
        table = super().table()
        for name, column in _hyper_columns(settings).items():
            table = table.append_column(name, column)
        return table

    def about(self) -> dict[str, Any]:
        without = sum("test_accuracy" not in network.row for network in self.networks)
        notes = [f"{without:,} checkpoints have no line in result.json: their metrics are null"] if without else []
        if self._offset:
            notes.append("checkpoints are numbered from 0 and training iterations from 1: they were matched so")
        are_cnns = [any(timestamp.kind == "conv" for timestamp in a.timestamps) for a in self.architectures]
        return {
            "kind": "cnn" if are_cnns[0] else "mlp",
            "image_sets": self._image_sets(),
            "conventions": {
                "training_step": f"training_iteration: the checkpoint's number plus {self._offset}",
                "ggap": "train_accuracy - test_accuracy",
            },
            "notes": notes,
            "assumptions": tuple(_ASSUMED if is_cnn else _ASSUMED[:1] for is_cnn in are_cnns),
        }

    def _image_sets(self) -> tuple[CollectedImages, ...]:
        """The one that the settings or the folder's name say, where they name one."""
        settings = [trial.settings for trial in self._trials.values()]
        named = {str(value) for record in settings for key, value in record.items() if key.startswith("dataset")}
        for text in (*sorted(named), self.path.absolute().name):
            words = re.sub(r"[^a-z0-9]+", "_", text.lower())
            for name in (*_WRITTEN_AS, *_IMAGE_SETS):
                if name.replace("-", "_") in words:
                    return (usual_images(_WRITTEN_AS.get(name, name)),)
        return ()


def _read_trial(folder: Path) -> _Trial:
    file = next((folder / name for name in _SETTINGS if (folder / name).is_file()), None)
    if file is None or not (folder / "result.json").is_file():
        raise MissingError(f"{printable(folder)} lacks params.json or result.json", hint="get the trial again")
    settings = read_json(file)
    if not isinstance(settings, dict):
        raise FormatError(f"{printable(file)} holds a {type(settings).__name__}, wanted are settings")
    results = {}
    where = printable(folder / "result.json")
    for line in read_json_lines(folder / "result.json"):
        if not isinstance(line, dict):
            raise FormatError(f"{where} has a line that is no object")
        metrics = {}
        for name, theirs in _METRICS.items():
            parse = fraction if name.endswith("accuracy") else finite_number
            metrics[name] = parse(line.get(theirs), f"{where}: {theirs}")
        # A training that was resumed writes some epochs again: the later line belongs to the checkpoint.
        results[whole_number(line.get("training_iteration"), f"{where}: training_iteration")] = metrics
    return _Trial(settings, results)


def _hyper_columns(settings: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Columns hp_* of the numbers, texts and switches in some records, a row for each; other values are left out.

    A column is numeric where every value is, else text. Raises FormatError for absurdly many.
    """
    keys = list(dict.fromkeys(key for record in settings for key, value in record.items() if _is_plain(value)))
    if len(keys) > _MAX_HYPER_COLUMNS:
        raise FormatError(f"there are {len(keys)} hyper-parameters, at most {_MAX_HYPER_COLUMNS} become columns")
    columns: dict[str, pa.Array] = {}
    for key in keys:
        name = "hp_" + re.sub(r"[^0-9A-Za-z_]+", "_", str(key))[:80].strip("_")
        if name in columns:
            raise FormatError(f"two hyper-parameters would become the column {name}", hint="rename one of them")
        columns[name] = _column([record.get(key) for record in settings])
    return columns


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | bool) or (isinstance(value, str) and len(value) <= _MAX_TEXT)


def _column(values: Sequence[Any]) -> pa.Array:
    values = [value if _is_plain(value) else None for value in values]
    kinds = {type(value) for value in values if value is not None}
    if not kinds <= {int, float} and kinds != {bool}:
        return pa.array([None if value is None else printable(value, _MAX_TEXT) for value in values], TEXT)
    try:
        return pa.array(values, NUMBER if float in kinds or not kinds else None)
    except (OverflowError, pa.ArrowException):
        # A whole number that int64 can't hold, or float64 not exactly: one of 300 digits is infinite.
        return pa.array(
            [None if value is None else float(value) if abs(value) < 1e308 else math.inf for value in values]
        )


def _trial_architecture(tensors: Tensors, settings: Mapping[str, Any], shown: str) -> Architecture:
    """The architecture of a trial's networks. Raises FormatError for layers that none of the papers' networks has."""
    layers = _layers(tensors, shown)
    activation = _activation(settings, shown)
    kernels = tuple(tensors[weight].shape[2] for weight, _ in layers if len(tensors[weight].shape) == 4)
    pooled = _POOLED.get(kernels, ())
    if kernels and not pooled:
        raise FormatError(
            f"{shown} has convolutions of {kernels}, the papers' CNNs have {', '.join(map(str, _POOLED))}",
            hint="convert it as a plain folder with a declared architecture",
        )
    timestamps: list[Timestamp] = []
    entries = []
    before: tuple[int, ...] = ()
    for number, (weight, bias) in enumerate(layers, start=1):
        shape = tensors[weight].shape
        kind = "conv" if len(shape) == 4 else "flatten_linear" if len(before) == 4 else "linear"
        width = before[0] if before else shape[1]
        is_fit = shape[1] % max(width, 1) == 0 if kind == "flatten_linear" else shape[1] == width
        if not is_fit or len(before) == 2 < len(shape):
            raise FormatError(f"{shown} has a layer of {shape} behind one of {width} nodes")
        timestamps.append(
            Timestamp(
                kind,
                **KINDS[kind].sizes(shape, width),
                has_bias=bias is not None,
                activation=activation if number < len(layers) else Activation(),
                output_pooling=Pooling("max", 2, 2) if number <= len(pooled) and pooled[number - 1] else None,
            )
        )
        for key, role in ((weight, "weight"), (bias, "bias")):
            if key is not None:
                entries.append(Entry(key, tensors[key].shape, role, number, tensors[key].dtype))
        before = shape
    try:
        return lay_out(timestamps[0].num_sources, timestamps, entries, family="cnn" if kernels else "mlp")
    except FormatError as error:
        raise FormatError(f"{shown} has layers that don't fit together: {error.message}") from error


def _layers(tensors: Tensors, shown: str) -> list[tuple[str, str | None]]:
    """(weight, bias) of every layer in the file's order. The numbers in the keys say nothing."""
    layers: list[tuple[str, str | None]] = []
    for key, tensor in tensors.items():
        prefix, _, part = key.rpartition(".")
        if part == "weight" and len(tensor.shape) in (2, 4):
            layers.append((key, None))
        elif part == "bias" and layers and layers[-1] == (f"{prefix}.weight", None) and len(tensor.shape) == 1:
            layers[-1] = (layers[-1][0], key)
        else:
            raise FormatError(
                f"{shown} has {printable(key, 80)!r} of {tensor.shape}, wanted are layers in a row",
                hint="convert it as a plain folder with a declared architecture",
            )
    if not 1 <= len(layers) <= _MAX_LAYERS:
        raise FormatError(f"{shown} has {len(layers)} layers, 1 to {_MAX_LAYERS} are read")
    return layers


def _activation(settings: Mapping[str, Any], shown: str) -> Activation:
    found = next((settings[key] for key in _ACTIVATION_KEYS if key in settings), None)
    if not isinstance(found, str) or found.lower() not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise FormatError(f"{shown}: its settings have the activation {printable(found, 40)!r}, known are {known}")
    return Activation(_ACTIVATIONS[found.lower()])
