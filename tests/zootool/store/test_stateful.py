"""Any sequence of converting, appending, dying in the middle, opening and selecting leaves a zoo as it should be."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block
from zootool import files
from zootool.architecture import Architecture
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture
from zootool.store import shards, write_store
from zootool.store.append import append_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.zoo import open_zoo, verify

ARCHITECTURES = (
    siren_architecture(2, (4, 3), 1),
    siren_architecture(2, (6,), 2),
    cnn_architecture(CnnConfig((1, 3), (3,), (1,), (0,), ("relu",), (None,), 2)),
)
KINDS = st.sampled_from(ARCHITECTURES)
COUNTS = st.integers(1, 12)


class Died(BaseException):
    """The process is gone: nothing that it would have done comes to pass."""


@contextmanager
def dying_at(event: int) -> Iterator[None]:
    """Every write to a shard, fsync, exchange and removal counts; from the event on, each of them ends in Died."""
    seen = -1

    def deadly(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen >= event:
                raise Died
            return original(*arguments, **options)

        return call

    with (
        patch.object(shards._OpenShard, "_write", deadly(shards._OpenShard._write)),
        patch.object(files.os, "fsync", deadly(files.os.fsync)),
        patch.object(files, "_renameat2_exchange", deadly(files._renameat2_exchange)),
        patch.object(files.shutil, "rmtree", deadly(files.shutil.rmtree)),
    ):
        yield


class StoreMachine(RuleBasedStateMachine):
    """A zoo beside a plain dictionary of what it should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "x.zoo"
        self.expected: dict[str, tuple[Architecture, dict[str, bytes]]] = {}
        self.number = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize(architecture=KINDS, count=COUNTS, event=st.integers(0, 40))
    def convert(self, architecture: Architecture, count: int, event: int) -> None:
        """A first attempt may die; the second one converts."""
        block = self.fresh(architecture, count)
        try:
            with dying_at(event):
                write_store(self.path, source_of(block), SMALL_CHUNKS)
        except Died:
            # Dead behind the rename, before its folder was flushed: the store is there, and whole.
            if not self.path.exists():
                write_store(self.path, source_of(block), SMALL_CHUNKS)
            assert len(open_zoo(self.path)) == count
        self.remember(block)

    @rule(architecture=KINDS, count=COUNTS)
    def append(self, architecture: Architecture, count: int) -> None:
        before = open_zoo(self.path).id
        block = self.fresh(architecture, count)
        assert append_store(self.path, source_of(block), SMALL_CHUNKS).num_added == count
        assert open_zoo(self.path).info.parent == before
        self.remember(block)

    @rule(architecture=KINDS, count=COUNTS, event=st.integers(0, 60))
    def die_while_appending(self, architecture: Architecture, count: int, event: int) -> None:
        before = open_zoo(self.path).id
        block = self.fresh(architecture, count)
        try:
            with dying_at(event):
                append_store(self.path, source_of(block), SMALL_CHUNKS)
        except Died:
            if open_zoo(self.path).id == before:
                return
        self.remember(block)

    @rule(data=st.data())
    def append_what_is_there(self, data: st.DataObject) -> None:
        before = open_zoo(self.path).id
        number = data.draw(st.integers(0, self.number - 1))
        known = [name for name in self.expected if name.split("-")[1] == str(number)]
        if known:
            architecture = self.expected[known[0]][0]
            block = random_block(architecture, len(known), number)
            appended = append_store(self.path, source_of(block), SMALL_CHUNKS)
            assert (appended.num_added, appended.num_known, appended.zoo_id) == (0, len(known), before)

    @rule(label=st.integers(0, 9))
    def select(self, label: int) -> None:
        selected = open_zoo(self.path).select(label=label)
        assert sorted(selected.nets["net_id"]) == sorted(n for n in self.expected if int(n.split("-")[2]) % 10 == label)
        for batch in selected.loader(3, shuffle=True):
            assert (batch.targets["label"] == label).all()

    @precondition(lambda self: self.expected)
    @invariant()
    def the_zoo_is_as_expected(self) -> None:
        assert verify(self.path, "deep").passed
        zoo = open_zoo(self.path)
        names = list(zoo.nets["net_id"])
        assert sorted(names) == sorted(self.expected)
        for i in np.random.default_rng(len(names)).choice(len(names), min(5, len(names)), replace=False).tolist():
            architecture, tensors = zoo.tensors(i)
            wanted = self.expected[names[i]]
            assert architecture == wanted[0]
            assert {key: tensor[0].tobytes() for key, tensor in tensors.items()} == wanted[1]

    def fresh(self, architecture: Architecture, count: int) -> Block:
        self.number += 1
        return random_block(architecture, count, self.number - 1)

    def remember(self, block: Block) -> None:
        for i, name in enumerate(block.table["net_id"].to_pylist()):
            self.expected[name] = block.architecture, {key: t[i].tobytes() for key, t in block.tensors.items()}


def source_of(block: Block) -> MemorySource:
    return MemorySource(SourceInfo("machine"), [block])


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
