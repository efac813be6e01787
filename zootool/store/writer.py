"""Writing a store: from planned blocks to a folder that takes its name when everything in it is in place.

Blocks are read, checked and packed ahead by threads, which leave order and bytes as planned.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.architecture import ARRAYS
from zootool.errors import FormatError, MissingError, NumericalError, UsageError
from zootool.files import canonical_json, folder_atomic
from zootool.progress import Reporter, silent
from zootool.store.blocks import BlockSource, PackedBlock, Plan
from zootool.store.journal import MARK
from zootool.store.layout import WriteOptions
from zootool.store.pack import are_finite, digests_of
from zootool.store.reader import Store
from zootool.store.schema import Segment, ZooInfo
from zootool.store.store_builder import StoreBuilder
from zootool.store.stored_images import ImagesByKey

IS_FINITE = "is_finite"


def write_store(
    destination: Path,
    source: BlockSource,
    options: WriteOptions | None = None,
    report: Reporter = silent,
    *,
    images: ImagesByKey | None = None,
    schema: pa.Schema | None = None,
) -> str:
    """Write a new store at `destination` and return its id.

    The folder appears under its name complete or not at all. Networks of one architecture come to lie together, else
    they keep the plan's order. `images` gives the source images to carry along. `schema` is nets.parquet's where blocks
    differ in their columns. An earlier attempt that was killed or interrupted is gone on with, where the source has a
    fingerprint and it is the same.

    Raises UsageError when something is there already, MissingError for a source without networks, and what the source
    and the checks of its blocks raise.
    """
    if destination.exists():
        raise UsageError(f"{destination} exists", hint="choose another name or remove it: stores are never changed")
    check_has_networks(source)
    options = options or WriteOptions()
    segments = segments_of(source.plan)
    total = sum(segment.count for segment in segments)
    info = ZooInfo(**vars(source.info), num_networks=total, segments=segments, counts=counts_of(source.plan))
    fingerprint = _fingerprint_of(source, info, options)
    with folder_atomic(destination, fingerprint and MARK) as folder:
        return fill(folder, source, info, options, report, images=images, schema=schema, fingerprint=fingerprint)


def fill(
    folder: Path,
    source: BlockSource,
    info: ZooInfo,
    options: WriteOptions,
    report: Reporter,
    *,
    base: Store | None = None,
    images: ImagesByKey | None = None,
    schema: pa.Schema | None = None,
    fingerprint: str | None = None,
) -> str:
    """Fill a folder with the networks of `base`, if any, and of the source behind them; returns the store's id.

    `info` is what zoo.json will say. What an interrupted attempt of the same fingerprint left is gone on from.
    """
    order = order_of(source.plan)
    architectures = {} if base is None else dict(base.architectures)
    architectures |= {source.plan[index][0].signature: source.plan[index][0] for index in order}
    with StoreBuilder(folder, info, architectures, options, base, schema, fingerprint) as builder:
        left = order[builder.num_blocks :]
        done = info.num_networks - sum(source.plan[index][1] for index in left)
        report("writing networks", done, info.num_networks)
        for block, digests in _prepared_in_order(source, left, options):
            builder.append(block, digests)
            done += len(block.table)
            report("writing networks", done, info.num_networks)
        if images is not None:
            builder.write_images(images)
        return builder.finish()


def check_has_networks(source: BlockSource) -> None:
    """Raise MissingError for a source without networks."""
    if not source.plan:
        raise MissingError(f"{source.info.name} has no finished networks", hint="build or collect some first")


def order_of(plan: Plan) -> list[int]:
    """The blocks' numbers with those of one architecture behind one another, in the order of first appearance."""
    signatures = [architecture.signature for architecture, _ in plan]
    first = {signature: place for place, signature in enumerate(dict.fromkeys(signatures))}
    return sorted(range(len(plan)), key=lambda index: first[signatures[index]])


def segments_of(plan: Plan) -> tuple[Segment, ...]:
    """The segments of the networks in the order of `order_of`."""
    runs = groupby((plan[index] for index in order_of(plan)), key=lambda block: block[0].signature)
    return tuple(Segment(signature, sum(count for _, count in blocks)) for signature, blocks in runs)


def counts_of(plan: Plan) -> dict[str, int]:
    """How many elements (bytes in `exact`) the networks take in each array."""
    return {str(name): sum(count * architecture.array_length(name) for architecture, count in plan) for name in ARRAYS}


def _fingerprint_of(source: BlockSource, info: ZooInfo, options: WriteOptions) -> str | None:
    """A digest of all that decides a store's bytes, or None where the source can't vouch for being the same again."""
    if source.fingerprint is None:
        return None
    ways = {key: value for key, value in asdict(options).items() if key not in ("workers", "mark_bytes")}
    plan = [(architecture.signature, count) for architecture, count in source.plan]
    content = {"source": source.fingerprint, "info": info.to_dict(), "options": ways, "plan": plan}
    return sha256(canonical_json(content)).hexdigest()


def _prepared_in_order(
    source: BlockSource, order: Sequence[int], options: WriteOptions
) -> Iterator[tuple[PackedBlock, np.ndarray]]:
    """The source's blocks in this order and their networks' digests, prepared by threads a few blocks ahead."""
    waiting: deque[Future[tuple[PackedBlock, np.ndarray]]] = deque()
    with ThreadPoolExecutor(options.workers, thread_name_prefix="zoo-convert") as pool:
        try:
            for index in order:
                waiting.append(pool.submit(_prepared, source, index, options))
                if len(waiting) > options.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepared(source: BlockSource, index: int, options: WriteOptions) -> tuple[PackedBlock, np.ndarray]:
    """A block and its networks' digests.

    Raises what the source raises, FormatError for a block that doesn't keep to its plan, and NumericalError for NaN
    and infinities where the options refuse them.
    """
    (architecture, count), block = source.plan[index], source.read(index)
    table, num_networks = block.table, len(block.rows["edges"])
    if block.architecture != architecture or {num_networks, len(table)} != {count}:
        raise FormatError(
            f"block {index} of {source.info.name} has {num_networks} networks and {len(table)} rows "
            f"of {block.architecture.signature}, {count} of {architecture.signature} were planned"
        )
    finite = are_finite(block.rows)
    if IS_FINITE in table.column_names:
        table = table.drop_columns([IS_FINITE])  # The weights themselves say it.
    if options.nonfinite == "keep":
        table = table.append_column(IS_FINITE, pa.array(finite))
    elif not finite.all():
        bad = np.flatnonzero(~finite)
        raise NumericalError(
            f"{len(bad)} networks of {source.info.name} have NaN or infinite parameters, "
            f"the first is {table['net_id'][int(bad[0])].as_py()}",
            hint="pass --keep-nonfinite to store them with is_finite = false",
        )
    return replace(block, table=table), digests_of(block.rows)
