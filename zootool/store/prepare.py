"""Reading, checking and packing blocks ahead of the writer, by threads that leave order and bytes as planned."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.errors import FormatError, NumericalError
from zootool.store.blocks import BlockSource
from zootool.store.options import WriteOptions
from zootool.store.pack import Packed

IS_FINITE = "is_finite"


@dataclass(frozen=True)
class Prepared:
    """A block ready to be written."""

    architecture: Architecture
    packed: Packed
    digests: np.ndarray
    table: pa.Table


def prepare_in_order(source: BlockSource, order: Sequence[int], options: WriteOptions) -> Iterator[Prepared]:
    """The source's blocks in this order, read and packed by worker threads a few blocks ahead.

    Raises what the source raises, FormatError for a block that doesn't keep to its plan, and NumericalError for NaN
    and infinities where the options refuse them.
    """
    waiting: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(options.workers, thread_name_prefix="zoo-convert") as pool:
        try:
            for index in order:
                waiting.append(pool.submit(_prepare, source, index, options))
                if len(waiting) > options.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare(source: BlockSource, index: int, options: WriteOptions) -> Prepared:
    planned, block = source.plan[index], source.read(index)
    packed, table = block.packed(), block.table
    if block.architecture != planned.architecture or {len(packed), len(table)} != {planned.count}:
        raise FormatError(
            f"block {index} of {source.info.name} has {len(packed)} networks and {len(table)} rows "
            f"of {block.architecture.signature}, {planned.count} of {planned.architecture.signature} were planned"
        )
    finite = packed.finite()
    if IS_FINITE in table.column_names:
        table = table.drop_columns([IS_FINITE])  # The weights themselves say it.
    if options.nonfinite == "keep":
        table = table.append_column(IS_FINITE, pa.array(finite))
    elif not finite.all():
        _refuse_nonfinite(source.info.name, table, finite)
    return Prepared(block.architecture, packed, packed.digests(), table)


def _refuse_nonfinite(name: str, table: pa.Table, finite: np.ndarray) -> None:
    bad = np.flatnonzero(~finite)
    first = table["net_id"][int(bad[0])].as_py()
    raise NumericalError(
        f"{len(bad)} networks of {name} have NaN or infinite parameters, the first is {first}",
        hint="pass --keep-nonfinite to store them with is_finite = false",
    )
