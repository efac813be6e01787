"""A selection of a zoo by itself: as a store, or as files that other tools read, one per network, bit for bit."""

import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from zootool.errors import MissingError, UsageError, printable
from zootool.files import canonical_json, folder_atomic, refuse_existing, write_atomic
from zootool.formats.exported import (
    ARCHITECTURES_KEY,
    FILE_COLUMN,
    INFO_KEY,
    KEPT_COLUMNS,
    KEPT_INFO,
    index_path,
)
from zootool.progress import Reporter, silent
from zootool.store.layout import WriteOptions
from zootool.store.rows import StoreRows, info_of, nonfinite_of
from zootool.store.schema import STORE_COLUMNS
from zootool.store.stored_images import stored_images
from zootool.store.writer import write_store
from zootool.untrusted.safetensors import ORDER_KEY
from zootool.zoo.zoo import Zoo

Layout = Literal["safetensors", "torch", "nfn"]

_SAFE_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,150}$")


def export(zoo: Zoo, destination: str | Path, layout: Layout = "safetensors", *, report: Reporter = silent) -> int:
    """Write every selected network's state_dict into a new folder; returns their number.

    safetensors, torch: `{net_id}.safetensors` or `.pth`, or by row where a net_id is no file name. nfn: the
    neural-functional papers' folders `randinit_smaller_{label}s/net{source_index}.pth`, copy i + 1 in
    `randinit_smaller_aug{i}_{label}s`. Beside the folder, since their converters take every file in it for a network,
    lies `{destination}.index.parquet`: the table with the column `file`, and what zoo.json says, by which converting
    the folder gives these networks again.

    Raises UsageError when `destination` exists or the zoo has no labels for nfn, MissingError for an empty selection.
    """
    destination = Path(destination)
    index = index_path(destination)
    for path in (destination, index):
        refuse_existing(path)
    _check_selected(zoo)
    names = _NAMES[layout](zoo)
    if len(set(names)) < len(names):
        raise UsageError(f"two networks of {zoo.info.name} would become the same file in the layout {layout}")
    with folder_atomic(destination) as folder:
        for done, name in enumerate(names):
            report("writing files", done, len(names))
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(zoo.state_dict(done), path)
        report("writing files", len(names), len(names))
        table = _index_of(zoo, names)
        write_atomic(index, lambda sink: pq.write_table(table, sink))
    return len(names)


def subset(
    zoo: Zoo,
    destination: str | Path,
    *,
    name: str | None = None,
    options: WriteOptions | None = None,
    report: Reporter = silent,
) -> str:
    """Write the selected networks as a new store, with their images where the zoo carries them; returns its id.

    Raises MissingError for an empty selection, and what writing a store raises.
    """
    destination = Path(destination)
    _check_selected(zoo)
    provenance: dict[str, object] = {"subset_of": {"name": zoo.info.name, "id": zoo.id, "num_networks": len(zoo.store)}}
    options = options or WriteOptions(nonfinite=nonfinite_of(zoo.store))
    source = StoreRows(zoo.store, zoo.rows, info_of(zoo.store, name or destination.stem, provenance, zoo.rows))
    return write_store(destination, source, options, report, images=stored_images(zoo.store))


def _check_selected(zoo: Zoo) -> None:
    if len(zoo) == 0:
        raise MissingError(
            f"no network of {zoo.info.name} is selected", hint=zoo.why_empty or "see the columns with `zoo info`"
        )


def _index_of(zoo: Zoo, names: list[str]) -> pa.Table:
    columns = [column for column in zoo.nets.columns if column not in STORE_COLUMNS or column in KEPT_COLUMNS]
    table = zoo.nets.to_arrow(columns)
    if FILE_COLUMN in table.column_names:
        raise UsageError(f"{zoo.info.name} has a column {FILE_COLUMN}", hint="rename it")
    info = {key: value for key, value in zoo.info.to_dict().items() if key in KEPT_INFO}
    # What was noted of these networks stays noted.
    info["notes"] = [str(note) for note in zoo.info.provenance.get("notes", [])]
    used = set(table["architecture"].unique().to_pylist())
    architectures = {name: a.to_dict() for name, a in zoo.architectures.items() if name in used}
    metadata = {INFO_KEY: canonical_json(info), ARCHITECTURES_KEY: canonical_json(architectures)}
    return table.append_column(FILE_COLUMN, pa.array(names)).replace_schema_metadata(metadata)


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    if path.suffix == ".pth":
        # By way of memory: torch has errors of its own for a full disk, which don't say so.
        content = BytesIO()
        torch.save(state, content)
        path.write_bytes(content.getbuffer())
        return
    from safetensors.torch import save

    # A safetensors file holds no two names for one storage.
    tensors = {key: tensor.clone().contiguous() for key, tensor in state.items()}
    # It sorts them by their names too, and readers take layers in the order in which they find them.
    path.write_bytes(save(tensors, {ORDER_KEY: json.dumps(list(state))}))


def _named_by_id(zoo: Zoo, suffix: str) -> list[str]:
    net_ids = [str(net_id) for net_id in zoo.nets["net_id"]]
    if all(_SAFE_NAME.match(net_id) for net_id in net_ids) and len({n.lower() for n in net_ids}) == len(net_ids):
        return [f"{net_id}{suffix}" for net_id in net_ids]
    return [f"{row:08d}{suffix}" for row in zoo.rows.tolist()]


def _named_as_nfn(zoo: Zoo) -> list[str]:
    for column in ("label", "source_index"):
        if column not in zoo.nets or zoo.nets[column].isna().any():
            raise UsageError(f"the nfn layout needs a {printable(column)} for every network", hint="use safetensors")
    copies = zoo.nets["copy"].tolist() if "copy" in zoo.nets else [0] * len(zoo)
    names = []
    for label, index, copy in zip(zoo.nets["label"], zoo.nets["source_index"], copies, strict=True):
        aug = f"_aug{copy - 1}" if copy else ""
        names.append(f"randinit_smaller{aug}_{int(label)}s/net{int(index)}.pth")
    return names


_NAMES: dict[str, Callable[[Zoo], list[str]]] = {
    "safetensors": lambda zoo: _named_by_id(zoo, ".safetensors"),
    "torch": lambda zoo: _named_by_id(zoo, ".pth"),
    "nfn": _named_as_nfn,
}
