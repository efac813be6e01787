"""Writing a store: from planned blocks to a folder that takes its name when everything in it is in place."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from zootool.architecture import ARRAYS, Architecture, ArrayName, check_slots
from zootool.errors import FormatError, MissingError, NumericalError, UsageError
from zootool.files import canonical_json, folder_atomic, sha256_file
from zootool.progress import Reporter, silent
from zootool.store.blocks import BlockSource, PlannedBlock
from zootool.store.layout import CHUNK_BYTES, SHARD_BYTES, ArrayLayout, plan_layout
from zootool.store.manifest import entry_of, manifest_bytes
from zootool.store.pack import Packed, pack
from zootool.store.schema import (
    ARCHITECTURES_JSON,
    MANIFEST_JSON,
    NETS_PARQUET,
    ZARR_JSON,
    ZOO_JSON,
    Segment,
    ZooInfo,
    array_lengths,
)
from zootool.store.shards import ArrayWriter, FileEntry
from zootool.store.table import TableWriter, store_rows

_GROUP_METADATA = canonical_json({"zarr_format": 3, "node_type": "group", "attributes": {}})


@dataclass(frozen=True)
class WriteOptions:
    """How a store is written. `workers` doesn't change a byte of it; the others don't change what is read back.

    `zstd_level` None stores chunks as they are. `nonfinite="keep"` stores networks with NaN or infinite parameters
    and marks them in the column `is_finite`; "refuse" raises NumericalError.
    """

    workers: int = 2
    zstd_level: int | None = None
    nonfinite: Literal["refuse", "keep"] = "refuse"
    chunk_bytes: int = CHUNK_BYTES
    shard_bytes: int = SHARD_BYTES


def write_store(
    destination: Path, source: BlockSource, options: WriteOptions | None = None, report: Reporter = silent
) -> str:
    """Write a new store at `destination` and return its id.

    The folder appears under its name complete or not at all. Raises UsageError when something is there already,
    MissingError for a source without networks, and what the source and the checks of its blocks raise.
    """
    if destination.exists():
        raise UsageError(f"{destination} exists", hint="choose another name or remove it: stores are never changed")
    if not source.plan:
        raise MissingError(f"{source.info.name} has no finished networks", hint="build or collect some first")
    with folder_atomic(destination) as folder:
        writing = _StoreWriting(folder, source, options or WriteOptions())
        return writing.run(report)


class _StoreWriting:
    """One store in the making: its open arrays and table, and the entries of the files that are finished."""

    def __init__(self, folder: Path, source: BlockSource, options: WriteOptions) -> None:
        self._folder = folder
        self._source = source
        self._options = options
        self._architectures = {block.architecture.signature: block.architecture for block in source.plan}
        for architecture in self._architectures.values():
            check_slots(architecture)
        self._info = _zoo_info(source)
        lengths = array_lengths(self._info, self._architectures, str(folder))
        self._arrays = {
            name: ArrayWriter(folder / name, self._plan_array(name, length))
            for name, length in lengths.items()
            if length or name != "exact"
        }
        self._table = TableWriter(folder / NETS_PARQUET)
        self._offsets: dict[str, int] = dict.fromkeys(ARRAYS, 0)

    def run(self, report: Reporter) -> str:
        done, total = 0, self._info.num_networks
        report("writing networks", 0, total)
        for prepared in _prepare_in_order(self._source, self._options):
            self._append(prepared)
            done += len(prepared.packed)
            report("writing networks", done, total)
        return self._finish()

    def _plan_array(self, name: ArrayName, length: int) -> ArrayLayout:
        item = 1
        if len(self._architectures) == 1:
            item = next(iter(self._architectures.values())).array_length(name)
        options = self._options
        dtype: Literal["uint8", "float32"] = "uint8" if name == "exact" else "float32"
        return plan_layout(length, item, dtype, options.zstd_level, options.chunk_bytes, options.shard_bytes)

    def _append(self, prepared: "_Prepared") -> None:
        for name, rows in prepared.packed.rows.items():
            if rows.shape[1]:
                self._arrays[name].append(rows)
        self._table.append(store_rows(prepared.architecture, self._offsets, prepared.digests, prepared.table))
        for name, rows in prepared.packed.rows.items():
            self._offsets[name] += rows.size

    def _finish(self) -> str:
        files: dict[str, FileEntry] = {}
        for name, writer in self._arrays.items():
            files |= {f"{name}/{path}": entry for path, entry in writer.close().items()}
        self._table.close()
        table_path = self._folder / NETS_PARQUET
        files[NETS_PARQUET] = FileEntry(table_path.stat().st_size, sha256_file(table_path))
        architectures = {signature: a.to_dict() for signature, a in self._architectures.items()}
        for name, content in {
            ZARR_JSON: _GROUP_METADATA,
            ARCHITECTURES_JSON: canonical_json(architectures),
            ZOO_JSON: canonical_json(self._info.to_dict()),
        }.items():
            (self._folder / name).write_bytes(content)
            files[name] = entry_of(content)
        manifest = manifest_bytes(files)
        (self._folder / MANIFEST_JSON).write_bytes(manifest)
        return entry_of(manifest).sha256


@dataclass(frozen=True)
class _Prepared:
    """A block ready to be written."""

    architecture: Architecture
    packed: Packed
    digests: np.ndarray
    table: pa.Table


def _prepare_in_order(source: BlockSource, options: WriteOptions) -> Iterator[_Prepared]:
    """Blocks in the plan's order, read and packed by worker threads a few blocks ahead."""
    waiting: deque[Future[_Prepared]] = deque()
    with ThreadPoolExecutor(options.workers, thread_name_prefix="zoo-convert") as pool:
        try:
            for index in range(len(source.plan)):
                waiting.append(pool.submit(_prepare, source, index, options))
                if len(waiting) > options.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare(source: BlockSource, index: int, options: WriteOptions) -> _Prepared:
    planned, block = source.plan[index], source.read(index)
    packed = pack(block.architecture, block.tensors)
    if block.architecture != planned.architecture or {len(packed), len(block.table)} != {planned.count}:
        raise FormatError(
            f"block {index} of {source.info.name} has {len(packed)} networks and {len(block.table)} rows "
            f"of {block.architecture.signature}, {planned.count} of {planned.architecture.signature} were planned"
        )
    table, finite = block.table, packed.finite()
    if options.nonfinite == "keep":
        table = table.append_column("is_finite", pa.array(finite))
    elif not finite.all():
        _refuse_nonfinite(source, block.table, finite)
    return _Prepared(block.architecture, packed, packed.digests(), table)


def _refuse_nonfinite(source: BlockSource, table: pa.Table, finite: np.ndarray) -> None:
    bad = np.flatnonzero(~finite)
    first = table["net_id"][int(bad[0])].as_py()
    raise NumericalError(
        f"{len(bad)} networks of {source.info.name} have NaN or infinite parameters, the first is {first}",
        hint="pass --keep-nonfinite to store them with is_finite = false",
    )


def _zoo_info(source: BlockSource) -> ZooInfo:
    info = source.info
    runs = groupby(source.plan, key=lambda block: block.architecture.signature)
    segments = tuple(Segment(signature, sum(block.count for block in blocks)) for signature, blocks in runs)
    return ZooInfo(
        num_networks=sum(segment.count for segment in segments),
        segments=segments,
        counts=_counts(source.plan),
        **{name: getattr(info, name) for name in info.__dataclass_fields__},
    )


def _counts(plan: Sequence[PlannedBlock]) -> dict[str, int]:
    return {str(name): sum(block.count * block.architecture.array_length(name) for block in plan) for name in ARRAYS}
