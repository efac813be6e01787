"""A collection of checkpoints from elsewhere as the source of a store."""

from dataclasses import fields
from functools import cached_property

import numpy as np
import pyarrow as pa

from zootool.columns.splits import find_leaks
from zootool.formats.bad_files import READING_ERRORS, bad_networks, described, refuse_or_leave_out
from zootool.formats.collection import Collection
from zootool.store.blocks import Block, PackedBlock, Plan, cut
from zootool.store.schema import ImageSource, SourceInfo

_BLOCK_BYTES = 16 << 20
_BLOCK_NETWORKS = 2048


class CollectionSource:
    """The networks of a collection, those of one architecture together, in blocks of at most 16 MB."""

    def __init__(self, collection: Collection, name: str) -> None:
        self._collection = collection
        self._name = name

    @property
    def fingerprint(self) -> str:
        """What the reader says of its files."""
        return f"{self._collection.format} {self._collection.fingerprint}"

    @cached_property
    def info(self) -> SourceInfo:
        """What the reader declares, in the words of zoo.json, with what is wrong with the splits."""
        found = self._collection
        return SourceInfo(
            name=self._name,
            kind=found.kind,
            sources=tuple(
                ImageSource(**{f.name: getattr(images, f.name) for f in fields(ImageSource)})
                for images in found.image_sets
            ),
            recipe=dict(found.conventions),
            provenance={
                "format": found.format,
                "notes": list(dict.fromkeys((*found.notes, *find_leaks(found.table)))),
                **described(found.left_out),
            },
            assumptions={
                found.architectures[number].signature: found.assumptions[number]
                for number in dict.fromkeys(found.architecture_index.tolist())
                if found.assumptions and found.assumptions[number]
            },
            licence=found.licence,
            citation=found.citation,
        )

    @cached_property
    def _blocks(self) -> list[tuple[int, np.ndarray]]:
        """Architectures, and which rows of the table are a block of one."""
        index, architectures = self._collection.architecture_index, self._collection.architectures
        blocks = []
        for number in dict.fromkeys(index.tolist()):
            rows = np.flatnonzero(index == number)
            pieces = cut(architectures[number], len(rows), _BLOCK_BYTES, _BLOCK_NETWORKS)
            blocks += [(number, rows[piece]) for piece in pieces]
        return blocks

    @cached_property
    def plan(self) -> Plan:
        """The architectures in the order of their first network."""
        return [(self._collection.architectures[number], len(rows)) for number, rows in self._blocks]

    def read(self, index: int) -> PackedBlock:
        """Block `index`. Raises an error that names all of its networks that can't be read."""
        number, rows = self._blocks[index]
        found = self._collection
        try:
            tensors = found.load(rows)
        except READING_ERRORS:
            bad = bad_networks(found, rows)
            named = {str(found.table["net_id"][row]): error for row, error in bad.items()}
            refuse_or_leave_out(named, len(found) - len(bad), skip=False, are_files=False)
            raise
        return Block(found.architectures[number], tensors, found.table.take(pa.array(rows))).packed()
