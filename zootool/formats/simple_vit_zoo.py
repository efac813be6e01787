"""The SimpleViT zoo: `vit_models/model_{id}_{epoch}.pth`, and what is known of them in `stat/`.

Shards `results_{a}_{b}.json` are merged with `results.json`, which may hold the last shard alone. Accuracies are given
in percent. `splits.json` lists model ids. The networks are those of several versions of vit-pytorch, told apart by
their keys: older versions embed patches by a linear layer alone (`to_patch_embedding.1`), and have the last norm behind
the mean over the tokens, as `linear_head.0`, rather than before it as `transformer.norm`. That is another network, not
only another name.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from zootool.architecture import Architecture, Pooling, Timestamp
from zootool.errors import FormatError, MissingError, printable
from zootool.formats.checked_values import Splits, find_splits, fraction, published_splits, whole_number
from zootool.formats.collection import usual_images
from zootool.formats.skeleton import NUMBER, TEXT, WHOLE, FileReader, Network
from zootool.nets.lay_out import Entry, entries_of, lay_out
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture
from zootool.untrusted.bounded_text import read_json
from zootool.untrusted.file_stack import Tensors

_RESULTS = re.compile(r"results(?:_\d{1,9}_\d{1,9})?\.json")
_ACCURACIES = ("train_accuracy", "test_accuracy")
_SIZES = ("patch_size", "num_classes", "dim", "dim_head", "depth", "heads", "mlp_dim")
_MAX_DEPTH = 64
_EMBEDDING_NORMS = ("to_patch_embedding.1.", "to_patch_embedding.3.")


class SimpleVitZoo(FileReader):
    """Every network in vit_models/, by model and epoch."""

    NAME = "simple-vit-zoo"
    TITLE = "SimpleViT zoo: vit_models/ and stat/"
    KIND = "vit"
    FOLDERS = ("vit_models",)
    PARTS = (r"model_(\d{1,9})_(\d{1,9})\.pth",)
    COLUMNS = pa.schema({
        "net_id": TEXT, "split": TEXT, "run_id": TEXT, "training_step": WHOLE, "train_accuracy": NUMBER,
        "test_accuracy": NUMBER,
    })  # fmt: skip
    RUN = ("model", "model")
    IMAGES = (usual_images("cifar10"),)

    def network(self, file: Path, match: re.Match[str]) -> Network:
        model, epoch = int(match[1]), int(match[2])
        row = {"net_id": f"{model:06d}-{epoch:04d}", "run_id": f"{model:06d}", "training_step": epoch}
        return Network(file, (model, epoch), {**row, "model": f"{model:09d}"})

    def complete(self) -> None:
        """Accuracies, from every shard; the sizes are looked for first, since without them nothing can be read."""
        self._sizes = self._read_sizes()
        merged: dict[tuple[int, ...], Mapping[str, Any]] = {}
        files = [file for file in sorted((self.path / "stat").iterdir()) if _RESULTS.fullmatch(file.name)]
        self._num_results = len(files)
        for file in files:
            for key, accuracies in _read_results(file).items():
                if merged.setdefault(key, accuracies) != accuracies:
                    raise FormatError(
                        f"{printable(file)} contradicts another results file about model {key[0]} at epoch {key[1]}",
                        hint="keep the shards of one training alone",
                    )
        for network in self.networks:
            network.row.update(merged.get(network.place, {}))

    def splits(self) -> Splits:
        """Those of stat/splits.json by model, or drawn by model."""
        file = find_splits(self.options.splits, self.path / "stat" / "splits.json")
        if file is not None:
            return published_splits(file, [network.place[0] for network in self.networks], whole_number, key=None)
        return super().splits()._replace(notes=("there is no stat/splits.json: the splits are drawn by model",))

    def _read_sizes(self) -> dict[str, int]:
        """The sizes in stat/vit_hyperparameters.json. Raises MissingError and FormatError."""
        file = self.path / "stat" / "vit_hyperparameters.json"
        if not file.is_file():
            raise MissingError(f"{printable(file)} isn't there, and heads can't be told from tensors", hint="add it")
        value = read_json(file)
        if not isinstance(value, dict):
            raise FormatError(f"{printable(file)} holds a {type(value).__name__}, wanted are hyper-parameters")
        return {key: whole_number(value.get(key), f"{printable(file)}: {key}", high=1 << 16) for key in _SIZES}

    def architecture(self, network: Network) -> Architecture:
        return _vit_architecture(self._sizes, self.tensors(network), printable(network.source))

    def about(self) -> dict[str, Any]:
        notes = [f"{self._num_results} results files were merged"] if self._num_results > 1 else []
        without = sum("test_accuracy" not in network.row for network in self.networks)
        if without:
            notes.append(f"{without:,} networks have no accuracies in stat/")
        return {
            "conventions": {"training_step": "epoch, counted from 0", "hyperparameters": self._sizes},
            "notes": (*notes, "accuracies are given in percent and stored as shares"),
        }


def _read_results(file: Path) -> dict[tuple[int, ...], Mapping[str, Any]]:
    where, value = printable(file), read_json(file)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise FormatError(f"{where} isn't a list of results")
    return {
        (
            whole_number(item.get("model_id"), f"{where}: model_id"),
            whole_number(item.get("epoch"), f"{where}: epoch"),
        ): {name: fraction(item.get(name), f"{where}: {name}", whole=100.0) for name in _ACCURACIES}
        for item in value
    }


def _vit_architecture(sizes: Mapping[str, int], tensors: Tensors, shown: str) -> Architecture:
    """That of a network with these sizes and tensors. Raises FormatError where they contradict each other."""
    architecture = simple_vit_architecture(_config(sizes, tensors, shown))
    if f"{_EMBEDDING_NORMS[1]}weight" not in tensors:
        architecture = _without_embedding_norms(architecture)
    if "transformer.norm.weight" not in tensors:
        architecture = _with_norm_behind_mean(architecture)
    wanted = {slot.key: slot.shape for slot in architecture.slots}
    odd = next((key for key, shape in wanted.items() if key not in tensors or tensors[key].shape != shape), None)
    odd = odd or next((key for key in tensors if key not in wanted), None)
    if odd is not None:
        got = tensors[odd].shape if odd in tensors else "missing"
        raise FormatError(
            f"{shown}: {printable(odd, 80)} is {got}, vit_hyperparameters.json says {wanted.get(odd, 'nothing of it')}",
            hint="is it another zoo's?",
        )
    return architecture


def _config(sizes: Mapping[str, int], tensors: Tensors, shown: str) -> SimpleVitConfig:
    embedding = tensors.get("to_patch_embedding.2.weight", tensors.get("to_patch_embedding.1.weight"))
    pixels = sizes["patch_size"] ** 2
    if embedding is None or len(embedding.shape) != 2 or pixels == 0 or embedding.shape[1] % pixels:
        raise FormatError(f"{shown} has no patch embedding for patches of {sizes['patch_size']} pixels")
    if not 1 <= sizes["depth"] <= _MAX_DEPTH or min(sizes.values()) < 1 or sizes["dim"] % 4:
        raise FormatError(f"{shown}: vit_hyperparameters.json describes no network: {dict(sizes)}")
    return SimpleVitConfig(
        channels=embedding.shape[1] // pixels,
        patch_size=sizes["patch_size"],
        dim=sizes["dim"],
        depth=sizes["depth"],
        num_heads=sizes["heads"],
        head_dim=sizes["dim_head"],
        mlp_dim=sizes["mlp_dim"],
        num_classes=sizes["num_classes"],
    )


def _without_embedding_norms(architecture: Architecture) -> Architecture:
    first, *rest = architecture.timestamps
    entries = [
        replace(entry, key=entry.key.replace("to_patch_embedding.2.", "to_patch_embedding.1."))
        for entry in entries_of(architecture)
        if not entry.key.startswith(_EMBEDDING_NORMS)
    ]
    return _laid_out(architecture, [replace(first, source_norm=None, norm=None), *rest], entries)


def _with_norm_behind_mean(architecture: Architecture) -> Architecture:
    *rest, last, head = architecture.timestamps
    last, head = replace(last, output_pooling=Pooling("mean")), replace(head, kind="linear", pooling=None)
    names = {"transformer.norm.": "linear_head.0.", "linear_head.": "linear_head.1."}
    entries = []
    for entry in entries_of(architecture):
        prefix = next((old for old in names if entry.key.startswith(old)), "")
        entries.append(replace(entry, key=names.get(prefix, "") + entry.key.removeprefix(prefix)))
    entries.sort(key=lambda entry: entry.key.startswith("linear_head."))
    return _laid_out(architecture, [*rest, last, head], entries)


def _laid_out(architecture: Architecture, timestamps: list[Timestamp], entries: list[Entry]) -> Architecture:
    return lay_out(architecture.num_inputs, timestamps, entries, family=architecture.family, tokens=architecture.tokens)
