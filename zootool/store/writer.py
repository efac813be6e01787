"""Writing a store: from planned blocks to a folder that takes its name when everything in it is in place."""

from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from zootool.architecture import ARRAYS
from zootool.errors import MissingError, UsageError
from zootool.files import canonical_json, folder_atomic
from zootool.progress import Reporter, silent
from zootool.store.blocks import BlockSource, PlannedBlock
from zootool.store.builder import ImagesByKey, StoreBuilder
from zootool.store.journal import MARK, Journal
from zootool.store.options import WriteOptions
from zootool.store.prepare import prepare_in_order
from zootool.store.schema import Segment, ZooInfo


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
    if not source.plan:
        raise MissingError(f"{source.info.name} has no finished networks", hint="build or collect some first")
    options = options or WriteOptions()
    order = order_of(source.plan)
    plan = [source.plan[index] for index in order]
    info = _zoo_info(source, plan)
    architectures = {block.architecture.signature: block.architecture for block in plan}
    fingerprint = fingerprint_of(source, info, options)
    with folder_atomic(destination, fingerprint and MARK) as folder:
        journal = Journal(folder, fingerprint)
        with StoreBuilder(folder, info, architectures, options, schema=schema, journal=journal) as builder:
            write_blocks(builder, source, order, options, report, info.num_networks)
            if images is not None:
                builder.write_images(images)
            return builder.finish()


def write_blocks(
    builder: StoreBuilder,
    source: BlockSource,
    order: Sequence[int],
    options: WriteOptions,
    report: Reporter,
    total: int,
) -> None:
    """Append the blocks that the builder doesn't have yet, in this order; `total` counts all that it will hold."""
    left = order[builder.num_blocks :]
    done = total - sum(source.plan[index].count for index in left)
    report("writing networks", done, total)
    for prepared in prepare_in_order(source, left, options):
        builder.append(prepared)
        done += len(prepared.packed)
        report("writing networks", done, total)


def fingerprint_of(source: BlockSource, info: ZooInfo, options: WriteOptions) -> str | None:
    """A digest of all that decides a store's bytes, or None where the source can't vouch for being the same again."""
    if source.fingerprint is None:
        return None
    ways = {key: value for key, value in asdict(options).items() if key not in ("workers", "mark_bytes")}
    plan = [(block.architecture.signature, block.count) for block in source.plan]
    content = {"source": source.fingerprint, "info": info.to_dict(), "options": ways, "plan": plan}
    return sha256(canonical_json(content)).hexdigest()


def order_of(plan: Sequence[PlannedBlock]) -> list[int]:
    """The blocks' numbers with those of one architecture behind one another, in the order of first appearance."""
    first: dict[str, int] = {}
    for block in plan:
        first.setdefault(block.architecture.signature, len(first))
    return sorted(range(len(plan)), key=lambda index: first[plan[index].architecture.signature])


def segments_of(plan: Sequence[PlannedBlock]) -> tuple[Segment, ...]:
    """The segments of networks in this order."""
    runs = groupby(plan, key=lambda block: block.architecture.signature)
    return tuple(Segment(signature, sum(block.count for block in blocks)) for signature, blocks in runs)


def counts_of(plan: Sequence[PlannedBlock]) -> dict[str, int]:
    """How many elements (bytes in `exact`) the networks take in each array."""
    return {str(name): sum(block.count * block.architecture.array_length(name) for block in plan) for name in ARRAYS}


def _zoo_info(source: BlockSource, plan: Sequence[PlannedBlock]) -> ZooInfo:
    info = source.info
    return ZooInfo(
        num_networks=sum(block.count for block in plan),
        segments=segments_of(plan),
        counts=counts_of(plan),
        **{name: getattr(info, name) for name in info.__dataclass_fields__},
    )
