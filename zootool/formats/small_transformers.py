"""The Small Transformer Zoo: `{mnist,ag_news}/{run}_{epoch}_{accuracy}.pt` with a table `metadata/{set}.csv`.

Blocks without skips: attention behind a layer norm, two linear layers behind another one; the norms have no
parameters. Published splits are drawn anew by every reader, so here they are drawn by run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, printable
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.csv_tables import read_csv_rows
from zootool.formats.options import ReadOptions
from zootool.formats.plain_values import fraction, plain_name, whole_number
from zootool.formats.published import path_tail, wanted_steps
from zootool.formats.transformer_networks import NUM_HEADS, describe_extras, transformer_architecture
from zootool.untrusted.file_stack import stack_networks, state_dict_of
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files

NAME = "small-transformers"
TITLE = "Small Transformer Zoo: mnist/ or ag_news/, and metadata/"

_SETS = ("mnist", "ag_news")
_ACCURACY = {"mnist": "test_top1_accuracy", "ag_news": "test_accuracy"}
_FILE = re.compile(r"(.+)_([^_]+)_(\d{1,5})\.pt")
# The shares of the zoo's own reader, which shuffles without a seed.
_SHARES = (0.7, 0.15, 0.15)


@dataclass(frozen=True, slots=True)
class _Model:
    path: Path
    dataset: str
    run: str
    epoch: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the metadata: the accuracy and "50", "75", "100" or "best*"."""

    accuracy: float | None
    epoch: str


def detect(path: Path) -> bool:
    """Whether there is a table in metadata/ for a folder of that name."""
    return bool(_sets_in(path))


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network of the sets in `path`, or those of `options.steps` (epochs; "best" networks are of no step)."""
    found = _find(path, options)
    rows = {name: _metadata(path / "metadata" / f"{name}.csv", name) for name in _sets_in(path)}
    records = [rows[model.dataset].get(model.path.name) for model in found]
    steps = [_step(model, record) for model, record in zip(found, records, strict=True)]
    keep = np.flatnonzero(wanted_steps(steps, options.steps)).tolist()
    found, records, steps = [found[i] for i in keep], [records[i] for i in keep], [steps[i] for i in keep]
    split, rule = seeded_split([f"{model.dataset}/{model.run}" for model in found], _SHARES, options.seed)
    architectures, index = _architectures(found)

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        return stack_networks(architectures[index[rows[0]]], [found[row].path for row in rows.tolist()])

    return Collection(
        format=NAME,
        kind="transformer",
        table=_table(found, records, steps, split),
        architectures=architectures,
        architecture_index=index,
        load=load,
        fingerprint=fingerprint_of_files([model.path for model in found]),
        image_sets=_image_sets(found),
        conventions={"training_step": "epoch", "norms": "layer norms without parameters", "splits": f"by run: {rule}"},
        notes=(*_gaps(rows, found, records), *describe_extras(architectures)),
        assumptions=((f"attention is taken to have {NUM_HEADS} heads, as in the zoo's paper",),) * len(architectures),
    )


def _sets_in(path: Path) -> list[str]:
    return [name for name in _SETS if (path / "metadata" / f"{name}.csv").is_file() and (path / name).is_dir()]


def _find(path: Path, options: ReadOptions) -> list[_Model]:
    found = [
        _Model(file, name, plain_name(match[1], f"a run in {printable(path)}"), match[2])
        for name in _sets_in(path)
        for file in walk_files(path / name, options.leaves_out)
        if file.parent == path / name and (match := _FILE.fullmatch(file.name))
    ]
    if not found:
        raise FormatError(f"{printable(path)} holds no networks of this format", hint="run `zoo show` on it")
    return found


def _metadata(path: Path, name: str) -> dict[str, _Row]:
    """File name -> its row. A file that is listed as "best*" and by its epoch too is known by its epoch."""
    column = _ACCURACY[name]
    rows: dict[str, _Row] = {}
    for number, cells in enumerate(read_csv_rows(path, ("ckpt_epoch", "ckpt_file", column)), start=2):
        where = f"{printable(path)} line {number}"
        file = "/".join(path_tail(cells["ckpt_file"], 1, where))
        row = _Row(fraction(cells[column], f"{where}: {column}"), cells["ckpt_epoch"].strip())
        known = rows.get(file)
        if known is not None and known.accuracy != row.accuracy:
            raise FormatError(f"{where} gives {printable(file, 80)} another accuracy than an earlier line")
        if known is None or not known.epoch.isdigit():
            rows[file] = row
    return rows


def _step(model: _Model, record: _Row | None) -> int | None:
    epoch = model.epoch if record is None else record.epoch
    return whole_number(epoch, f"{printable(model.path)}: its epoch") if epoch.isdigit() else None


def _architectures(found: Sequence[_Model]) -> tuple[tuple[Architecture, ...], np.ndarray]:
    """An architecture for each set, from its first network: all networks of a set are alike."""
    numbers: dict[Architecture, int] = {}
    of_set: dict[str, int] = {}
    for model in found:
        if model.dataset not in of_set:
            made = transformer_architecture(state_dict_of(model.path), printable(model.path))
            of_set[model.dataset] = numbers.setdefault(made, len(numbers))
    return tuple(numbers), np.array([of_set[model.dataset] for model in found], np.int64)


def _table(
    found: Sequence[_Model], records: Sequence[_Row | None], steps: Sequence[int | None], split: np.ndarray
) -> pa.Table:
    return pa.table(
        {
            "net_id": [f"{model.dataset}/{model.path.stem}" for model in found],
            "dataset": [model.dataset for model in found],
            "split": pa.array(split.tolist(), pa.string()),
            "run_id": [f"{model.dataset}/{model.run}" for model in found],
            "training_step": pa.array(steps, pa.int64()),
            "checkpoint": pa.array([None if row is None else printable(row.epoch, 40) for row in records], pa.string()),
            "test_accuracy": pa.array([None if row is None else row.accuracy for row in records], pa.float64()),
        }
    )


def _image_sets(found: Sequence[_Model]) -> tuple[CollectedImages, ...]:
    is_mnist = {model.dataset for model in found} == {"mnist"}
    return (CollectedImages("mnist", (28, 28, 1), 10),) if is_mnist else ()


def _gaps(
    rows: Mapping[str, Mapping[str, _Row]], found: Sequence[_Model], records: Sequence[_Row | None]
) -> tuple[str, ...]:
    notes = ["the zoo's own reader shuffles without a seed: its splits can't be repeated"]
    unlisted = sum(record is None for record in records)
    if unlisted:
        notes.append(f"{unlisted:,} networks are in no table of metadata/: their accuracy is null")
    names = {(model.dataset, model.path.name) for model in found}
    absent = sum((name, file) not in names for name, files in rows.items() for file in files)
    if absent:
        notes.append(f"metadata/ lists {absent:,} networks that aren't here, or weren't asked for")
    return tuple(notes)
