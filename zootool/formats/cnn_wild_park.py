"""The CNN Wild Park (Kofinas et al. 2024): CNNs of many architectures, from its zip file or unpacked.

`{root}/{run}/checkpoint_*/checkpoint.pt` = {model, config, iteration, last_result, ...}. The config gives kernels,
activations and residuals, which the tensors don't. `cnn_park_splits.json` has paths, scores and steps by split.
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
from zootool.errors import BadDataError, FormatError, printable
from zootool.formats.checkpoint_tree import CheckpointTree
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.folders import first_folders
from zootool.formats.options import ReadOptions
from zootool.formats.park_config import cnn_config, plain_config
from zootool.formats.plain_values import fraction, plain_name, whole_number
from zootool.formats.published import describe_gaps, find_splits, list_in, path_tail, read_splits, wanted_steps
from zootool.nets.cnn_architecture import cnn_architecture
from zootool.untrusted.archives import ZipArchive
from zootool.untrusted.file_stack import Tensors, found_in, stack_networks
from zootool.untrusted.safe_load import Loaded, load_checkpoint

NAME = "cnn-wild-park"
TITLE = "CNN Wild Park: runs of checkpoints, unpacked or as cnn_wild_park.zip"

_FILE = re.compile(r"(?s:.*/)?([^/]+)/(checkpoint_[^/]+)/checkpoint\.pt")
_CHECKPOINT = re.compile(r"checkpoint_.+")
_SPLITS = "cnn_park_splits.json"


@dataclass(frozen=True, slots=True)
class _Record:
    """What a split file or the checkpoint itself says about it."""

    split: str | None
    score: float | None
    step: int


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    name: str
    run: str
    folder: str


def detect(path: Path) -> bool:
    """Whether a folder has runs of checkpoint_*/checkpoint.pt, itself or one level down, or a zip file has."""
    if path.is_file():
        return path.suffix == ".zip" and _is_park(path)
    return any(_has_checkpoints(run) for root in (path, *first_folders(path)[:3]) for run in first_folders(root)[:5])


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network of a park, or those of `options.steps` (the trainer's iterations).

    Where there is no `cnn_park_splits.json` (in or beside `path`, or `options.splits`), every checkpoint is opened for
    its accuracy and iteration, and splits are drawn by run.
    """
    tree = CheckpointTree(path, options)
    found = [
        _Checkpoint(name, plain_name(m[1], f"{tree.shown}: a run"), plain_name(m[2], f"{tree.shown}: a checkpoint"))
        for name in tree.names
        if (m := _FILE.fullmatch(name))
    ]
    if not found:
        raise FormatError(f"{printable(path)} holds no checkpoints of this format", hint="run `zoo show` on it")
    records, rule, notes = _records(tree, found, path, options)
    keep = np.flatnonzero(wanted_steps([record.step for record in records], options.steps))
    chosen, records = [found[i] for i in keep.tolist()], [records[i] for i in keep.tolist()]
    settings = _settings(tree, chosen)
    architectures, index = _architectures(tree, chosen, settings)

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        own = [chosen[row] for row in rows.tolist()]
        names = [f"{tree.shown}/{checkpoint.name}" for checkpoint in own]

        def model_of(checkpoint: _Checkpoint) -> Tensors:
            return _model_of(tree, checkpoint, settings[checkpoint.run])

        return stack_networks(architectures[index[rows[0]]], own, model_of, names)

    return Collection(
        format=NAME,
        kind="cnn",
        table=_table(chosen, records),
        architectures=architectures,
        architecture_index=index,
        load=load,
        fingerprint=tree.fingerprint,
        image_sets=(CollectedImages("cifar10", (32, 32, 3), 10),),
        conventions={"training_step": "the trainer's iteration", "splits": rule},
        notes=notes,
    )


def _is_park(path: Path) -> bool:
    try:
        return any(_FILE.fullmatch(name) for name in ZipArchive(path))
    except BadDataError:
        return False


def _has_checkpoints(run: Path) -> bool:
    return any((folder / "checkpoint.pt").is_file() for folder in first_folders(run, _CHECKPOINT)[:3])


def _records(
    tree: CheckpointTree, found: Sequence[_Checkpoint], path: Path, options: ReadOptions
) -> tuple[list[_Record], str, tuple[str, ...]]:
    """What is known of every checkpoint, the splits' rule, and notes. What no split file lists is opened for it."""
    beside = path if path.is_dir() else path.absolute().parent
    splits = find_splits(options.splits, beside, _SPLITS) or find_splits(None, beside.absolute().parent, _SPLITS)
    published = {} if splits is None else _read_published(splits)
    records = [published.get((c.run, c.folder)) or _record_in(tree, c) for c in found]
    if splits is not None:
        known = sum((c.run, c.folder) in published for c in found)
        notes = describe_gaps([record.split for record in records], len(published), known, splits.name)
        return records, f"{splits.name}, as published", notes
    drawn, rule = seeded_split([c.run for c in found], seed=options.seed)
    records = [_Record(split, record.score, record.step) for split, record in zip(drawn, records, strict=True)]
    return records, f"by run: {rule}", (f"there is no {_SPLITS}: the splits are drawn by run",)


def _read_published(path: Path) -> dict[tuple[str, ...], _Record]:
    """(run, checkpoint folder) -> what the split file says of it. Raises FormatError."""
    shown = printable(path)
    records: dict[tuple[str, ...], _Record] = {}
    for split, content in read_splits(path).items():
        paths, scores, steps = (list_in(content, key, shown) for key in ("path", "score", "step"))
        if not len(paths) == len(scores) == len(steps):
            raise FormatError(f"{shown} has {len(paths)} paths, {len(scores)} scores and {len(steps)} steps in {split}")
        for entry, score, step in zip(paths, scores, steps, strict=True):
            tail = path_tail(entry, 3, shown)
            key = tail[:2] if tail[-1:] == ("checkpoint.pt",) else tail[-2:]
            if key in records:
                raise FormatError(f"{shown} lists {printable('/'.join(key), 120)} twice")
            where = f"{shown}: {printable('/'.join(key), 120)}"
            records[key] = _Record(split, fraction(score, f"{where}: score"), whole_number(step, f"{where}: step"))
    return records


def _record_in(tree: CheckpointTree, checkpoint: _Checkpoint) -> _Record:
    loaded, where = _load(tree, checkpoint)
    content = loaded.value
    last = content.get("last_result")
    score = last.get("test/acc") if isinstance(last, dict) else None
    step = whole_number(content.get("iteration"), f"{where}: iteration")
    return _Record(None, fraction(score, f"{where}: test/acc"), step)


def _load(tree: CheckpointTree, checkpoint: _Checkpoint) -> tuple[Loaded, str]:
    """A checkpoint, whose value is a dictionary, and how errors name it."""
    where = f"{tree.shown}/{printable(checkpoint.name, 160)}"
    loaded = load_checkpoint(tree.open(checkpoint.name))
    if not isinstance(loaded.value, dict):
        raise FormatError(f"{where} holds a {type(loaded.value).__name__}, wanted are model and config")
    return loaded, where


def _model_of(tree: CheckpointTree, checkpoint: _Checkpoint, settings: Mapping[str, Any]) -> Tensors:
    """The weights of a checkpoint whose config is that of its run."""
    loaded, where = _load(tree, checkpoint)
    if plain_config(loaded.value.get("config"), where) != settings:
        raise FormatError(
            f"{where} has another config than the first checkpoint of its run", hint="is it another run's?"
        )
    return found_in(loaded, "model").tensors


def _settings(tree: CheckpointTree, found: Sequence[_Checkpoint]) -> dict[str, dict[str, Any]]:
    """The config of every run, from its first checkpoint."""
    firsts = {checkpoint.run: checkpoint for checkpoint in reversed(found)}
    settings = {}
    for run, checkpoint in firsts.items():
        loaded, where = _load(tree, checkpoint)
        settings[run] = plain_config(loaded.value.get("config"), where)
    return settings


def _architectures(
    tree: CheckpointTree, found: Sequence[_Checkpoint], settings: Mapping[str, dict[str, Any]]
) -> tuple[tuple[Architecture, ...], np.ndarray]:
    """Every architecture, and which one each checkpoint has. A config that its file's tensors contradict is refused."""
    numbers: dict[Architecture, int] = {}
    of_run: dict[str, int] = {}
    for checkpoint in found:
        if checkpoint.run in of_run:
            continue
        where = f"{tree.shown}/{printable(checkpoint.name, 160)}"
        made = cnn_architecture(cnn_config(settings[checkpoint.run], where))
        tensors = _model_of(tree, checkpoint, settings[checkpoint.run])
        # Room is made by the architecture's sizes, so these have to be the file's before anything else.
        odd = next((s for s in made.slots if s.key not in tensors or tensors[s.key].shape != s.shape), None)
        if odd is not None:
            shape = tensors[odd.key].shape if odd.key in tensors else "missing"
            raise FormatError(f"{where}: {odd.key} is {shape}, its config says {odd.shape}", hint="get it again")
        of_run[checkpoint.run] = numbers.setdefault(made, len(numbers))
    return tuple(numbers), np.array([of_run[checkpoint.run] for checkpoint in found], np.int64)


def _table(found: Sequence[_Checkpoint], records: Sequence[_Record]) -> pa.Table:
    return pa.table(
        {
            "net_id": [f"{checkpoint.run}/{checkpoint.folder}" for checkpoint in found],
            "split": pa.array([record.split for record in records], pa.string()),
            "run_id": [checkpoint.run for checkpoint in found],
            "training_step": pa.array([record.step for record in records], pa.int64()),
            "test_accuracy": pa.array([record.score for record in records], pa.float64()),
        }
    )
