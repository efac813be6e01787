"""A zoo as people use it: its table, its selections, its networks, its loader."""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from zootool.architecture import ARRAYS, Architecture
from zootool.errors import UsageError
from zootool.store.nets import NetsTable
from zootool.store.pack import unpack
from zootool.store.reader import Store, open_store
from zootool.store.schema import ZooInfo

if TYPE_CHECKING:
    import torch

    from zootool.loader import GraphBatch, GraphDataset, Loader
    from zootool.loader.weights import Mode


class Zoo:
    """The networks of a store, or a selection of them. Weights are read when they are asked for.

    `zoo[i]`-like access (`graph`, `state_dict`, `module`) counts within the selection; `rows` are the places in the
    store.
    """

    def __init__(self, store: Store, rows: Int64[np.ndarray, " networks"] | None = None) -> None:
        self.store = store
        self._rows = rows

    def __len__(self) -> int:
        return len(self.store) if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        return f"<Zoo {self.info.name}: {len(self)} of {len(self.store)} networks, id {self.id[:16]}>"

    @property
    def id(self) -> str:
        """SHA-256 of manifest.json: names the whole zoo, whatever is selected."""
        return self.store.zoo_id

    @property
    def info(self) -> ZooInfo:
        """What zoo.json says."""
        return self.store.info

    @property
    def architectures(self) -> dict[str, Architecture]:
        """Signature -> Architecture, of the whole zoo."""
        return self.store.architectures

    @cached_property
    def nets(self) -> NetsTable:
        """The table of the selected networks; columns are read when they are used."""
        return NetsTable(self.store.nets, self._rows)

    @cached_property
    def rows(self) -> Int64[np.ndarray, " networks"]:
        """The selected networks' rows in the store, ascending."""
        return np.arange(len(self.store), dtype=np.int64) if self._rows is None else self._rows

    def select(self, last: bool = False, **conditions: Any) -> "Zoo":
        """The networks whose columns have these values: `select(split="train", label=[3, 5])`.

        A list, tuple, set or range means any of its members; None means missing. With `last`, of those that are left,
        each run's last checkpoint alone. No weight is read. Raises UsageError for a column that isn't there or a value
        of the wrong type.
        """
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in conditions.items():
            keep &= _matches(self.nets.to_arrow([column])[column], column, wanted)
        rows = self.rows[keep]
        return Zoo(self.store, _last_of_runs(NetsTable(self.store.nets, rows), rows) if last else rows)

    def take(self, positions: Int64[np.ndarray, " networks"]) -> "Zoo":
        """The networks at these positions of the selection. They keep the store's order."""
        return Zoo(self.store, np.unique(self.rows[positions]))

    def graph(self, index: int) -> "GraphBatch":
        """Network `index` as a batch of one."""
        from zootool.loader.weights import MappedWeights, read_batch

        return read_batch(self.store, MappedWeights(self.store), self._row(index))

    def state_dict(self, index: int) -> "dict[str, torch.Tensor]":
        """Network `index` as the state_dict that it came from, bit for bit. Tied entries share their storage."""
        from zootool.store.tensors import as_torch

        architecture, tensors = self.tensors(index)
        return as_torch(architecture, {key: tensor[0] for key, tensor in tensors.items()})

    def module(self, index: int) -> "torch.nn.Module":
        """Network `index` as a live module in evaluation mode, whose state_dict has the stored keys."""
        from zootool.nets.network import Network

        module = Network(self.architecture_of(index))
        module.load_state_dict(self.state_dict(index))
        return module.eval()

    def architecture_of(self, index: int) -> Architecture:
        """The architecture of network `index`."""
        return self.store.spans[int(self.store.segment_of(self._row(index))[0])].architecture

    def loader(
        self,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: "torch.device | str | None" = None,
        images: bool = False,
        targets: Sequence[str] | None = None,
        drop_last: bool = False,
        mode: "Mode | None" = None,
        window: int | None = None,
        weights: str | None = None,
        prefetch: int | None = None,
    ) -> "Loader":
        """Batches of the selected networks, see `zootool.loader.Loader`.

        `targets` are numeric columns that travel with the batches: the label where the table has one, if None.
        `images=True` adds the source images. `mode` is chosen by the store's size and place; where it is "streamed",
        about `window` networks are mixed at a time (64 MB of them, if None). `weights` is a column by whose numbers
        networks are drawn, with replacement. `prefetch` batches are prepared ahead: 2 for a CUDA device, if None.
        """
        from zootool.loader import Loader, OrderConfig
        from zootool.loader.images import ImageJoin
        from zootool.loader.targets import default_targets
        from zootool.loader.weights import WINDOW_BYTES, choose_mode, stored_bytes

        mode = choose_mode(self.store, mode)
        if mode == "streamed":
            window = window or max(1, WINDOW_BYTES * len(self.store) // max(stored_bytes(self.store), 1))
        if prefetch is None:
            prefetch = 2 if str(device).startswith("cuda") else 0
        return Loader(
            self.store,
            self.rows,
            OrderConfig(batch_size, shuffle, seed, rank, world_size, drop_last, window),
            mode=mode,
            targets=default_targets(self.store) if targets is None else targets,
            images=ImageJoin(self.store, self.rows) if images else None,
            weights=weights,
            device=device,
            prefetch=prefetch,
        )

    def as_torch_dataset(self, images: bool = False, targets: Sequence[str] | None = None) -> "GraphDataset":
        """The selected networks as a map-style Dataset; `targets` and `images` are as in `loader`."""
        from zootool.loader import GraphDataset
        from zootool.loader.images import ImageJoin
        from zootool.loader.targets import default_targets

        join = ImageJoin(self.store, self.rows) if images else None
        targets = default_targets(self.store) if targets is None else targets
        return GraphDataset(self.store, self.rows, targets, join)

    def _row(self, index: int) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise UsageError(f"there is no network {index}: the selection has {len(self)}")
        return self.rows[[index]]

    def tensors(self, index: int) -> tuple[Architecture, dict[str, np.ndarray]]:
        """Network `index` as its architecture and numpy arrays (1, *shape); bfloat16 as the uint16 of its bytes."""
        row = self._row(index)
        span = self.store.spans[int(self.store.segment_of(row)[0])]
        rows = {name: self.store.gather(name, span, row) for name in ARRAYS}
        return span.architecture, unpack(span.architecture, rows)


def open_zoo(path_or_url: str | Path) -> Zoo:
    """Open the store at a path or URL.

    Raises MissingError when nothing is there, FormatError for what isn't a zoo or is of a newer format, and
    IntegrityError for a damaged one.
    """
    return Zoo(open_store(path_or_url))


def _last_of_runs(nets: NetsTable, rows: Int64[np.ndarray, " networks"]) -> Int64[np.ndarray, " runs"]:
    table = nets.to_arrow(["run_id", "training_step"])
    if any(table[name].null_count for name in table.column_names):
        raise UsageError("some networks have no run_id or no training_step", hint="select those that have one first")
    _, run = np.unique(table["run_id"].to_numpy(), return_inverse=True)
    order = np.lexsort((table["training_step"].to_numpy(), run))
    is_last = np.diff(run[order], append=-1) != 0
    return np.sort(rows[order[is_last]])


def _matches(column: pa.ChunkedArray, name: str, wanted: Any) -> np.ndarray:
    if wanted is None:
        return column.is_null().to_numpy()
    several = isinstance(wanted, Collection) and not isinstance(wanted, str | bytes)
    values = list(wanted) if several else [wanted]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    try:
        members = pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(f"the column {name!r} holds {kind}, can't compare it with {wanted!r}") from error
    return pc.call_function("is_in", [column], pc.SetLookupOptions(members)).to_numpy()
