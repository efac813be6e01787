"""What was once written as format 1.0 opens forever, also for who follows docs/format.md without this package."""

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.zootool.store.small_stores import random_block, write_small_store
from zootool.nets.siren import siren_architecture
from zootool.zoo import open_zoo, verify

FOLDER = Path(__file__).parent
READ_STORE = FOLDER.parents[1] / "docs" / "read_store.py"
STORES = ["format-1.0.zoo", "format-1.0-zstd.zoo"]


@pytest.fixture(scope="module")
def expected() -> dict:
    return json.loads((FOLDER / "format-1.0.json").read_text())


@pytest.mark.parametrize("name", STORES)
def test_every_tensor_is_what_it_was(name: str, expected: dict) -> None:
    zoo = open_zoo(FOLDER / name)
    assert verify(FOLDER / name, "deep").passed
    assert zoo.nets["net_id"].tolist() == list(expected["networks"])
    for i, digests in enumerate(expected["networks"].values()):
        _, tensors = zoo.tensors(i)
        assert {key: hashlib.sha256(t[0].tobytes()).hexdigest() for key, t in tensors.items()} == digests


def test_the_id_is_what_it_was(expected: dict) -> None:
    assert open_zoo(FOLDER / STORES[0]).id == expected["id"]


def test_info_and_images_are_what_they_were() -> None:
    zoo = open_zoo(FOLDER / STORES[0])
    assert (zoo.info.format_version, zoo.info.name, zoo.info.licence) == ("1.0", "golden", "MIT")
    assert {a.family for a in zoo.architectures.values()} == {"cnn", "mixed", "siren", "vit"}
    batch = next(iter(zoo.take(np.arange(2)).loader(2, images=True)))
    assert batch.images is not None
    assert batch.images[1].flatten().tolist() == list(range(1, 65))


def test_modules_can_be_built_from_it() -> None:
    zoo = open_zoo(FOLDER / STORES[0])
    for row in (0, 9, 12):
        stored, rebuilt = zoo.state_dict(row), zoo.module(row).state_dict()
        assert rebuilt.keys() == stored.keys()
        assert all(rebuilt[key].equal(stored[key]) for key in stored)


@pytest.mark.parametrize("name", STORES)
def test_the_page_alone_is_enough_to_read_it(name: str, expected: dict) -> None:
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(READ_STORE.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
    }
    assert "zootool" not in imported
    done = subprocess.run(
        [sys.executable, "-I", str(READ_STORE), str(FOLDER / name)], capture_output=True, text=True, check=True
    )
    zoo_id, *lines = done.stdout.split("\n")[:-1]
    zoo = open_zoo(FOLDER / name)
    assert zoo_id == zoo.id
    assert [line.split() for line in lines] == [
        [net_id, digest.hex()] for net_id, digest in zip(zoo.nets["net_id"], zoo.nets["digest"], strict=True)
    ]


def test_the_pages_example_runs_as_it_stands(tmp_path: Path) -> None:
    architecture = siren_architecture(2, (32, 32), 1)
    block = random_block(architecture, 3)
    write_small_store(tmp_path / "digits.zoo", block)
    text = (READ_STORE.parent / "format.md").read_text()
    code = "\n".join(part.split("```")[0] for part in text.split("```python\n")[1:])
    check = "import numpy; numpy.savez('out.npz', weight=weight, everything=everything)"
    subprocess.run([sys.executable, "-c", f"{code}\n{check}"], cwd=tmp_path, check=True)
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["weight"], block.tensors["net.0.linear.weight"][0])
        assert found["everything"].shape == (3, architecture.num_edges)


def test_the_page_restores_tensors(expected: dict) -> None:
    for net_id in ("siren-3", "cnn-1", "vit-0", "mixed-2"):
        done = subprocess.run(
            [sys.executable, "-I", str(READ_STORE), str(FOLDER / STORES[0]), net_id],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        rows = [line.split() for line in done.stdout.splitlines()[1:]]
        assert {row[0]: row[-1] for row in rows} == expected["networks"][net_id]
