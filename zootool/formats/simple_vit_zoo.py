"""The SimpleViT zoo: `vit_models/model_{id}_{epoch}.pth`, and what is known of them in `stat/`.

Shards `results_{a}_{b}.json` are merged with `results.json`, which may hold the last shard alone. Accuracies are given
in percent. `splits.json` lists model ids.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, MissingError, printable
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.folders import first_files
from zootool.formats.options import ReadOptions
from zootool.formats.plain_values import fraction, whole_number
from zootool.formats.published import (
    describe_gaps,
    find_splits,
    list_in,
    read_splits,
    split_of_each,
    wanted_steps,
)
from zootool.formats.vit_keys import HYPERPARAMETERS, vit_architecture
from zootool.untrusted.bounded_text import read_json
from zootool.untrusted.file_stack import stack_networks, state_dict_of
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files

NAME = "simple-vit-zoo"
TITLE = "SimpleViT zoo: vit_models/ and stat/"

_FILE = re.compile(r"model_(\d{1,9})_(\d{1,9})\.pth")
_RESULTS = re.compile(r"results(?:_\d{1,9}_\d{1,9})?\.json")
_ACCURACIES = ("train_accuracy", "test_accuracy")


@dataclass(frozen=True, slots=True)
class _Model:
    path: Path
    model: int
    epoch: int


def detect(path: Path) -> bool:
    """Whether there are files model_*_*.pth in vit_models/."""
    return bool(first_files(path / "vit_models", _FILE))


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network in vit_models/, or those of `options.steps` (epochs). Raises MissingError without stat/."""
    found = _find(path, options)
    found = [found[i] for i in np.flatnonzero(wanted_steps([m.epoch for m in found], options.steps)).tolist()]
    settings = _hyperparameters(path)
    architecture = vit_architecture(settings, state_dict_of(found[0].path), printable(found[0].path))
    split, rule, notes = _splits(found, path, options)
    results, more = _results(path, found)

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        return stack_networks(architecture, [found[row].path for row in rows.tolist()])

    return Collection(
        format=NAME,
        kind="vit",
        table=_table(found, split, results),
        architectures=(architecture,),
        architecture_index=np.zeros(len(found), np.int64),
        load=load,
        fingerprint=fingerprint_of_files([model.path for model in found]),
        image_sets=(CollectedImages("cifar10", (32, 32, 3), 10),),
        conventions={"training_step": "epoch, counted from 0", "hyperparameters": dict(settings), "splits": rule},
        notes=(*notes, *more, "accuracies are given in percent and stored as shares"),
    )


def _find(path: Path, options: ReadOptions) -> list[_Model]:
    folder = path / "vit_models"
    files = walk_files(folder, options.leaves_out) if folder.is_dir() else ()
    found = [_Model(file, int(m[1]), int(m[2])) for file in files if (m := _FILE.fullmatch(file.name))]
    if not found:
        raise FormatError(f"{printable(path)} holds no networks of this format", hint="run `zoo show` on it")
    found.sort(key=lambda model: (model.model, model.epoch))
    for first, second in pairwise(found):
        if (first.model, first.epoch) == (second.model, second.epoch):
            raise FormatError(f"{printable(first.path)} and {printable(second.path)} are one network")
    return found


def _hyperparameters(path: Path) -> dict[str, int]:
    """The sizes in stat/vit_hyperparameters.json. Raises MissingError and FormatError."""
    file = path / "stat" / "vit_hyperparameters.json"
    if not file.is_file():
        raise MissingError(f"{printable(file)} isn't there, and heads can't be told from tensors", hint="add it")
    value = read_json(file)
    if not isinstance(value, dict):
        raise FormatError(f"{printable(file)} holds a {type(value).__name__}, wanted are hyper-parameters")
    return {key: whole_number(value.get(key), f"{printable(file)}: {key}", high=1 << 16) for key in HYPERPARAMETERS}


def _results(path: Path, found: Sequence[_Model]) -> tuple[dict[tuple[int, int], Mapping[str, Any]], tuple[str, ...]]:
    """(model, epoch) -> accuracies, from every shard; and notes."""
    folder = path / "stat"
    files = [file for file in sorted(folder.iterdir()) if _RESULTS.fullmatch(file.name)] if folder.is_dir() else []
    merged: dict[tuple[int, int], Mapping[str, Any]] = {}
    for file in files:
        for key, accuracies in _read_results(file).items():
            if merged.setdefault(key, accuracies) != accuracies:
                raise FormatError(
                    f"{printable(file)} contradicts another results file about model {key[0]} at epoch {key[1]}",
                    hint="keep the shards of one training alone",
                )
    notes = [f"{len(files)} results files were merged"] if len(files) > 1 else []
    without = sum((model.model, model.epoch) not in merged for model in found)
    if without:
        notes.append(f"{without:,} networks have no accuracies in stat/")
    return merged, tuple(notes)


def _read_results(file: Path) -> dict[tuple[int, int], Mapping[str, Any]]:
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


def _splits(found: Sequence[_Model], path: Path, options: ReadOptions) -> tuple[list[str | None], str, tuple[str, ...]]:
    file = find_splits(options.splits, path / "stat", "splits.json")
    if file is None:
        drawn, rule = seeded_split([f"{model.model:09d}" for model in found], seed=options.seed)
        return drawn.tolist(), f"by model: {rule}", ("there is no stat/splits.json: the splits are drawn by model",)
    where = printable(file)
    listed = {
        split: [whole_number(item, where) for item in list_in(content, None, where)]
        for split, content in read_splits(file).items()
    }
    published = split_of_each(listed, where)
    split = [published.get(model.model) for model in found]
    here = len({model.model for model in found} & set(published))
    return split, f"{file.name}, as published", describe_gaps(split, len(published), here, file.name)


def _table(
    found: Sequence[_Model], split: Sequence[str | None], results: Mapping[tuple[int, int], Mapping[str, Any]]
) -> pa.Table:
    known = [results.get((model.model, model.epoch), {}) for model in found]
    return pa.table(
        {
            "net_id": [f"{model.model:06d}-{model.epoch:04d}" for model in found],
            "split": pa.array(split, pa.string()),
            "run_id": [f"{model.model:06d}" for model in found],
            "training_step": pa.array([model.epoch for model in found], pa.int64()),
        }
        | {name: pa.array([record.get(name) for record in known], pa.float64()) for name in _ACCURACIES}
    )
