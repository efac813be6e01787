"""A zoo as people use it: its table, its selections, its networks, its loader."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int64

from zootool.architecture import Architecture
from zootool.errors import UsageError, checked_flag, printable, quoted
from zootool.store.nets import NetsTable
from zootool.store.pack import unpack
from zootool.store.reader import Store, open_store
from zootool.store.schema import ZooInfo
from zootool.zoo.conditions import Conditions
from zootool.zoo.where import where as select_where

if TYPE_CHECKING:
    import torch

    from zootool.loader import GraphBatch, GraphDataset, Loader
    from zootool.loader.weights import Mode


class Zoo:
    """The networks of a store, or a selection of them. Weights are read when they are asked for.

    `zoo[i]`-like access (`graph`, `state_dict`, `module`) counts within the selection; `rows` are the places in the
    store. `why_empty` says which wanted values no network has, where a selection is empty.
    """

    def __init__(self, store: Store, rows: Int64[np.ndarray, " networks"] | None = None, why_empty: str = "") -> None:
        self.store = store
        self.why_empty = why_empty
        self._rows = rows

    def __len__(self) -> int:
        return len(self.store) if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        why = f"; {self.why_empty}" if self.why_empty else ""
        return f"<Zoo {self.info.name}: {len(self)} of {len(self.store)} networks, id {self.id[:16]}{why}>"

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

    def select(self, *positional: object, where: str | None = None, last: bool = False, **conditions: Any) -> "Zoo":
        """The networks that meet all conditions: `select(split="train", label=[3, 5])`, `select(where="psnr > 40")`.

        A list, tuple, set or range means any of its members; None means missing. `where` is a text with comparisons,
        `in`, `is null`, `and`, `or` and `not` (docs/loader.md). With `last`, of those that are left, each run's last
        checkpoint alone. No weight is read. Raises UsageError for a column that isn't there, a value of the wrong type
        and, in `where`, a text that no network has.
        """
        if positional:
            raise UsageError(f"select takes no {type(positional[0]).__name__} by position", hint=_meant(positional[0]))
        last = checked_flag("last", last)
        tests = Conditions(self)
        met = [tests.wanted(column, wanted) for column, wanted in conditions.items()]
        remarks = tests.remarks
        if where is not None:
            found, found_last, said = select_where(self, where)
            met, last, remarks = [*met, found], last or found_last, [*remarks, *said]
        keep = np.ones(len(self), dtype=bool)
        for test in met:
            keep &= test.fill_null(False).to_numpy(zero_copy_only=False)
        rows = self.rows[keep]
        rows = _last_of_runs(NetsTable(self.store.nets, rows), rows) if last else rows
        return Zoo(self.store, rows, "" if len(rows) else "; ".join(remarks) or self.why_empty)

    def take(self, positions: Int64[np.ndarray, " networks"] | Bool[np.ndarray, " all"] | Sequence[int]) -> "Zoo":
        """The networks at these positions of the selection, or where a mask is true. They keep the store's order.

        Raises UsageError for what is neither, for a position that isn't there and for one that is given twice.
        """
        chosen = np.atleast_1d(np.asarray(positions))
        if chosen.size == 0:
            return Zoo(self.store, self.rows[:0])
        wanted = f"numbers from 0 to {len(self) - 1}, or {len(self)} true and false"
        if chosen.ndim != 1 or chosen.dtype.kind not in "iub" or (chosen.dtype == bool and len(chosen) != len(self)):
            raise UsageError(f"take needs {wanted}, got {quoted(positions, 60)}", hint="or use select(...)")
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if len(chosen) and not (-len(self) <= chosen.min() and chosen.max() < len(self)):
            raise UsageError(f"take needs {wanted}, got {chosen.min()} to {chosen.max()}")
        rows = np.unique(self.rows[chosen])
        if len(rows) < len(chosen):
            raise UsageError("take got a position twice", hint="a selection holds every network once")
        return Zoo(self.store, rows)

    def classes(self, column: str = "label") -> tuple[str, ...]:
        """What the class numbers of a column stand for, in their order; empty where nobody knows.

        The texts of a column in sorted order, over the whole zoo, and the names that the catalog has for the labels of
        the zoo's images. A loader gives these numbers as targets.
        """
        from zootool.loader.batch_targets import class_names

        return class_names(self.store, column)

    def graph(self, index: int) -> "GraphBatch":
        """Network `index` as a batch of one."""
        from zootool.loader.weights import mapped, read_batch

        return read_batch(self.store, mapped(self.store), self._row(index))

    def state_dict(self, index: int) -> "dict[str, torch.Tensor]":
        """Network `index` as the state_dict that it came from, bit for bit. Tied entries share their storage."""
        from zootool.store.pack import as_torch

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
        targets: Sequence[str] | str | None = None,
        drop_last: bool = False,
        mode: "Mode | None" = None,
        window: int | None = None,
        weights: str | None = None,
        prefetch: int | None = None,
    ) -> "Loader":
        """Batches of the selected networks, see `zootool.loader.Loader`.

        `targets` are columns that travel with the batches as numbers: the label where the table has one, if None;
        texts become class numbers, see `classes`. Raises UsageError for networks that have none: `targets=()` is none.
        `images=True` adds the source images. `mode` is chosen by the store's size and place; where it is "streamed",
        about `window` networks are mixed at a time (64 MB of them, if None). `weights` is a column by whose numbers
        networks are drawn, with replacement. `prefetch` batches are prepared ahead: 2 for a CUDA device, if None.
        """
        from zootool.loader import Loader, OrderConfig
        from zootool.loader.batch_images import ImageJoin
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
            targets=targets,
            images=ImageJoin(self.store, self.rows) if checked_flag("images", images) else None,
            weights=weights,
            device=device,
            prefetch=prefetch,
        )

    def as_torch_dataset(self, images: bool = False, targets: Sequence[str] | str | None = None) -> "GraphDataset":
        """The selected networks as a map-style Dataset; `targets` and `images` are as in `loader`."""
        from zootool.loader import GraphDataset
        from zootool.loader.batch_images import ImageJoin

        join = ImageJoin(self.store, self.rows) if checked_flag("images", images) else None
        return GraphDataset(self.store, self.rows, targets, join)

    def _row(self, index: int) -> np.ndarray:
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise UsageError(f"a network is counted by a whole number, got {quoted(index, 60)}")
        if not -len(self) <= index < len(self):
            raise UsageError(f"there is no network {index}: the selection has {len(self)}", hint=self.why_empty or None)
        # Of a whole zoo the rows are counted only when many are asked for.
        return np.array([range(len(self))[index]]) if self._rows is None else self._rows[[index]]

    def tensors(self, index: int) -> tuple[Architecture, dict[str, np.ndarray]]:
        """Network `index` as its architecture and numpy arrays (1, *shape); bfloat16 as the uint16 of its bytes."""
        row = self._row(index)
        span = self.store.spans[int(self.store.segment_of(row)[0])]
        return span.architecture, unpack(span.architecture, self.store.rows_of(span, row))


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


def _meant(given: object) -> str:
    """What to write instead of a positional argument of `select`."""
    if isinstance(given, str):
        return f'write select(where="{printable(given, 60)}")'
    if isinstance(given, Mapping):
        return "write select(**conditions), or name the columns: select(split='test')"
    if isinstance(given, bool):
        return f"write select(last={given})"
    if callable(given):
        return "write select(where='psnr > 40'), or zoo.take(mask) with a mask made of zoo.nets"
    return "name the columns: select(split='test'); for positions or a mask: zoo.take(...)"
