"""A collection of checkpoints from elsewhere as the source of a store."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property

import numpy as np
import pyarrow as pa

from zootool.architecture import ARRAYS
from zootool.columns.splits import find_leaks
from zootool.formats.bad_files import READING_ERRORS, bad_networks, described, refuse_or_leave_out
from zootool.formats.collection import Collection
from zootool.store.blocks import Block, PlannedBlock, SourceInfo
from zootool.store.schema import ImageSource

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
    def _pieces(self) -> list[tuple[int, np.ndarray]]:
        """Architectures, and which rows of the table are a block of one."""
        index = self._collection.architecture_index
        pieces = []
        for number in dict.fromkeys(index.tolist()):
            architecture = self._collection.architectures[number]
            per_network = 4 * sum(architecture.array_length(name) for name in ARRAYS)
            size = max(1, min(_BLOCK_NETWORKS, _BLOCK_BYTES // max(per_network, 1)))
            rows = np.flatnonzero(index == number)
            pieces += [(number, rows[start : start + size]) for start in range(0, len(rows), size)]
        return pieces

    @cached_property
    def plan(self) -> Sequence[PlannedBlock]:
        """The architectures in the order of their first network."""
        return [PlannedBlock(self._collection.architectures[number], len(rows)) for number, rows in self._pieces]

    def read(self, index: int) -> Block:
        """Block `index`. Raises an error that names all of its networks that can't be read."""
        number, rows = self._pieces[index]
        try:
            tensors = self._collection.load(rows)
        except READING_ERRORS:
            bad = bad_networks(self._collection, rows)
            ids = self._collection.table["net_id"]
            named = {str(ids[row]): error for row, error in bad.items()}
            refuse_or_leave_out(named, len(self._collection) - len(bad), skip=False, are_files=False)
            raise
        return Block(self._collection.architectures[number], tensors, self._collection.table.take(pa.array(rows)))
