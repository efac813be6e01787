"""Per-epoch zoos of the hyper-representation papers: `{zoo}/{trial}/checkpoint_{epoch}/checkpoints`.

A trial has its settings in params.json (or config.json) and a line for each epoch in result.json. Checkpoints and lines
are matched by `training_iteration`, which counts from 0 or 1: the offset that leaves fewer checkpoints without a line
is taken for the whole zoo. Layers are known by order and shape, since their numbers shift with dropout.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, MissingError, printable
from zootool.formats.collection import Collection
from zootool.formats.folders import first_folders
from zootool.formats.options import ReadOptions
from zootool.formats.plain_values import finite_number, fraction, hyper_columns, plain_name, whole_number
from zootool.formats.published import wanted_steps
from zootool.formats.trial_networks import ASSUMED, image_set_of, trial_architecture
from zootool.untrusted.bounded_text import read_json, read_json_lines
from zootool.untrusted.file_stack import stack_networks, state_dict_of
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files

NAME = "hyper-representations"
TITLE = "zoos of the hyper-representation papers: trials of checkpoints by epoch"

# The papers' own shares.
_SHARES = (0.7, 0.15, 0.15)
_FOLDER = re.compile(r"checkpoint_(\d{1,9})")
_SETTINGS = ("params.json", "config.json")
_METRICS = tuple(f"{split}_{what}" for split in ("train", "validation", "test") for what in ("accuracy", "loss"))
_THEIR_NAMES = {"validation": "val", "accuracy": "acc"}


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    path: Path
    trial: str
    epoch: int


@dataclass(frozen=True)
class _Trial:
    """What a trial's files say: its settings, and its metrics by training_iteration."""

    settings: Mapping[str, Any]
    results: Mapping[int, Mapping[str, float | None]]


def detect(path: Path) -> bool:
    """Whether a folder in `path` is a trial: with result.json, settings and a checkpoint."""
    return any(_is_trial(folder) for folder in first_folders(path)[:20])


def read(path: Path, options: ReadOptions) -> Collection:
    """Every checkpoint of every trial in `path`, or those of `options.steps` (training iterations)."""
    found = _find(path, options)
    trials = {trial: _read_trial(path / trial) for trial in dict.fromkeys(c.trial for c in found)}
    offset = _offset(found, trials)
    steps = [checkpoint.epoch + offset for checkpoint in found]
    keep = np.flatnonzero(wanted_steps(steps, options.steps)).tolist()
    found, steps = [found[i] for i in keep], [steps[i] for i in keep]
    architectures, index = _architectures(found, trials)
    split, rule = seeded_split([checkpoint.trial for checkpoint in found], _SHARES, options.seed)
    records = [trials[c.trial].results.get(step) for c, step in zip(found, steps, strict=True)]

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        return stack_networks(architectures[index[rows[0]]], [found[row].path for row in rows.tolist()])

    return Collection(
        format=NAME,
        kind="cnn" if any(t.kind == "conv" for t in architectures[0].timestamps) else "mlp",
        table=_table(found, steps, split, records, trials),
        architectures=architectures,
        architecture_index=index,
        load=load,
        fingerprint=fingerprint_of_files([checkpoint.path for checkpoint in found]),
        image_sets=image_set_of(path, [trial.settings for trial in trials.values()]),
        conventions={
            "training_step": f"training_iteration: the checkpoint's number plus {offset}",
            "ggap": "train_accuracy - test_accuracy",
            "splits": f"by trial: {rule}",
        },
        notes=_notes(records, offset),
        assumptions=tuple(
            ASSUMED if any(t.kind == "conv" for t in a.timestamps) else ASSUMED[:1] for a in architectures
        ),
    )


def _is_trial(folder: Path) -> bool:
    if not (folder / "result.json").is_file() or not any((folder / name).is_file() for name in _SETTINGS):
        return False
    return any((inner / "checkpoints").is_file() for inner in first_folders(folder, _FOLDER)[:5])


def _find(path: Path, options: ReadOptions) -> list[_Checkpoint]:
    found = {}
    for file in walk_files(path, options.leaves_out):
        match = _FOLDER.fullmatch(file.parent.name)
        # A trial is a folder of `path` itself: one deeper down belongs to another zoo.
        if match is None or file.name != "checkpoints" or file.parent.parent.parent != path:
            continue
        trial = plain_name(file.parent.parent.name, f"a trial in {printable(path)}")
        checkpoint = _Checkpoint(file, trial, int(match[1]))
        key = checkpoint.trial, checkpoint.epoch
        if key in found:
            raise FormatError(f"{printable(file)} and {printable(found[key].path)} are of one epoch")
        found[key] = checkpoint
    if not found:
        raise FormatError(f"{printable(path)} holds no trials of this format", hint="give the folder of the trials")
    return [found[key] for key in sorted(found)]


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
        # A training that was resumed writes some epochs again: the later line belongs to the checkpoint.
        results[whole_number(line.get("training_iteration"), f"{where}: training_iteration")] = _metrics(line, where)
    return _Trial(settings, results)


def _metrics(line: Mapping[str, Any], where: str) -> dict[str, float | None]:
    metrics = {}
    for name in _METRICS:
        split, what = name.split("_")
        theirs = f"{_THEIR_NAMES.get(split, split)}_{_THEIR_NAMES.get(what, what)}"
        parse = fraction if what == "accuracy" else finite_number
        metrics[name] = parse(line.get(theirs), f"{where}: {theirs}")
    return metrics


def _offset(found: Sequence[_Checkpoint], trials: Mapping[str, _Trial]) -> int:
    """What is to be added to a checkpoint's number to get its training_iteration."""
    unmatched = [sum(c.epoch + offset not in trials[c.trial].results for c in found) for offset in (0, 1)]
    return int(unmatched[1] < unmatched[0])


def _architectures(
    found: Sequence[_Checkpoint], trials: Mapping[str, _Trial]
) -> tuple[tuple[Architecture, ...], np.ndarray]:
    """Every architecture, and which one each checkpoint has: its trial's, from the trial's first checkpoint."""
    numbers: dict[Architecture, int] = {}
    of_trial: dict[str, int] = {}
    for checkpoint in found:
        if checkpoint.trial not in of_trial:
            tensors = state_dict_of(checkpoint.path)
            made = trial_architecture(tensors, trials[checkpoint.trial].settings, printable(checkpoint.path))
            of_trial[checkpoint.trial] = numbers.setdefault(made, len(numbers))
    return tuple(numbers), np.array([of_trial[checkpoint.trial] for checkpoint in found], np.int64)


def _table(
    found: Sequence[_Checkpoint],
    steps: Sequence[int],
    split: np.ndarray,
    records: Sequence[Mapping[str, float | None] | None],
    trials: Mapping[str, _Trial],
) -> pa.Table:
    metrics = {
        name: pa.array([None if record is None else record[name] for record in records], pa.float64())
        for name in _METRICS
    }
    gaps = [
        None if None in (train, test) else train - test
        for train, test in zip(metrics["train_accuracy"].to_pylist(), metrics["test_accuracy"].to_pylist(), strict=True)
    ]
    columns = {
        "net_id": pa.array([f"{c.trial}/{step:06d}" for c, step in zip(found, steps, strict=True)]),
        "split": pa.array(split.tolist(), pa.string()),
        "run_id": pa.array([checkpoint.trial for checkpoint in found]),
        "training_step": pa.array(steps, pa.int64()),
    }
    hyper = hyper_columns([trials[checkpoint.trial].settings for checkpoint in found])
    return pa.table(columns | metrics | {"ggap": pa.array(gaps, pa.float64())} | hyper)


def _notes(records: Sequence[Mapping[str, float | None] | None], offset: int) -> tuple[str, ...]:
    without = sum(record is None for record in records)
    notes = [f"{without:,} checkpoints have no line in result.json: their metrics are null"] if without else []
    if offset:
        notes.append("checkpoints are numbered from 0 and training iterations from 1: they were matched so")
    return tuple(notes)
