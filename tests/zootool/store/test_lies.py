"""Stores whose manifest agrees with what was changed: what can't be is refused, what could be is found by verify."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.zootool.store.small_stores import random_block, reseal, write_small_store
from zootool.architecture import signature_of
from zootool.errors import BadDataError, FormatError, ZooError
from zootool.files import canonical_json
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture
from zootool.store import write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import ImageSource, Segment, ZooInfo
from zootool.zoo import open_zoo, verify

BIG = 10**18
CNN = cnn_architecture(CnnConfig((1, 4, 4), (3, 3), (1, 1), (1, 1), ("relu", "relu"), (None, 0)))
VIT = simple_vit_architecture(SimpleVitConfig(1, 4, 8, 1, 2, 4, 8, 3))
FAMILIES = {"siren": siren_architecture(2, (8, 4), 1), "cnn": CNN, "vit": VIT}


def lie(folder: Path, family: str, change: Callable[[Any], object]) -> Path:
    """A store whose architecture was changed wherever it is written, and whose manifest says so."""
    store = folder / "x.zoo"
    write_small_store(store, random_block(FAMILIES[family], 4))
    ((old, plain),) = json.loads((store / "architectures.json").read_text()).items()
    change(plain)
    new = signature_of(plain)
    info = (store / "zoo.json").read_text().replace(old, new)
    (store / "zoo.json").write_text(info)
    (store / "architectures.json").write_bytes(canonical_json({new: plain}))
    table = pq.read_table(store / "nets.parquet")
    names = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), pa.array([new]))
    table = table.set_column(table.column_names.index("architecture"), "architecture", names)
    pq.write_table(table, store / "nets.parquet")
    reseal(store, "zoo.json", "architectures.json", "nets.parquet")
    return store


def layer(number: int, **fields: Any) -> Callable[[Any], object]:
    return lambda plain: plain["timestamps"][number].update(fields)


def slot(number: int, **fields: Any) -> Callable[[Any], object]:
    return lambda plain: plain["slots"][number].update(fields)


IMPOSSIBLE: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "omega beyond floats": ("siren", lambda p: p["timestamps"][0]["activation"].update(omega_0=10**400), "omega_0"),
    "omega beyond sines": ("siren", lambda p: p["timestamps"][0]["activation"].update(omega_0=1e308), "omega_0"),
    "offset beyond floats": ("siren", lambda p: p.update(output_offset=10**400), "output_offset"),
    "activation": ("siren", layer(1, activation={"name": "os.system"}), "activation must be one of"),
    "residual offset": ("siren", layer(1, residuals=[{"source": 1, "offset": BIG}]), "offset of a residual"),
    "residual of too many": ("siren", layer(1, residuals=[{"source": 1, "count": 9}]), "room for 4"),
    "residual shift": ("siren", layer(1, residuals=[{"source": 1, "offset": 4}]), "room for 0"),
    "residual of itself": ("siren", layer(1, residuals=[{"source": 2}]), "isn't before it"),
    "many residuals": ("siren", layer(1, residuals=[{"source": 1}] * 2000), "too many"),
    "negative kernel": ("siren", layer(1, kind="conv", kernel=[-1, -1]), "side of a kernel"),
    "stride of no conv": ("siren", layer(1, stride=2), "no stride"),
    "stride": ("cnn", layer(0, stride=BIG), "stride of a layer"),
    "padding": ("cnn", layer(0, padding=10**9), "padding of a layer"),
    "dilation": ("cnn", layer(0, dilation=10**6), "dilation of a layer"),
    "kernel turned": ("cnn", layer(0, kernel=[9, 1]), "'layers.0.weight' is"),
    "edges per pair": ("cnn", layer(0, edges_per_pair=8), "edges per pair"),
    "sources": ("cnn", layer(1, num_sources=5), "5 sources, but 4 nodes precede"),
    "pooling of nothing": ("cnn", layer(0, output_pooling={"kind": "max", "size": 0}), "size of a pooling"),
    "pooling padding": ("cnn", layer(0, output_pooling={"kind": "max", "size": 2, "padding": 2}), "padding of a pool"),
    "pooling stride": ("cnn", layer(0, output_pooling={"kind": "max", "size": 2, "stride": 0}), "stride of a pooling"),
    "norm eps": ("cnn", layer(0, norm={"kind": "layer", "eps": -1}), "eps of a norm"),
    "norm groups": ("cnn", layer(0, norm={"kind": "group", "num_groups": 3}), "4 nodes don't make 3 groups"),
    "norm left out": ("vit", lambda p: p["timestamps"][0].pop("norm"), "numbers of scale, it needs 0"),
    "heads": ("vit", layer(1, num_heads=0), "num_heads"),
    "other heads": ("vit", layer(2, num_heads=4), "no such qkv layer"),
    "heads elsewhere": ("siren", layer(1, num_heads=2), "no heads"),
    "patch of nothing": ("vit", lambda p: p["tokens"].update(patch_size=0), "patch_size"),
    "other patches": ("vit", lambda p: p["tokens"].update(patch_size=3), "don't give 16 inputs"),
    "class token": ("vit", lambda p: p["tokens"].update(class_token=True), "class token has 0 numbers"),
    "positions": ("vit", lambda p: p["tokens"].update(positions="learned"), "learned positions have 0"),
    "slot elsewhere": ("siren", slot(0, start=BIG), "start must be an integer"),
    "slot over another": ("siren", slot(2, start=0), "starts at|cover"),
    "slot turned": ("siren", slot(0, shape=[2, 8]), "its layer has 2 sources"),
    "slot reordered": ("siren", slot(0, order=[1, 0]), "its layer has 2 sources"),
    "slot of another role": ("siren", slot(0, role="running_var"), "numbers of weight, it needs 16"),
    "slot of another array": ("siren", slot(0, array="exact"), "slots? "),
    "slot of nothing": ("siren", slot(0, shape=[0, BIG]), "size must be an integer"),
    "slot tied to itself": ("siren", slot(0, alias_of="net.0.linear.weight"), "tied to"),
    "key twice": ("siren", slot(2, key="net.0.linear.weight"), "same key"),
    "no slots": ("siren", lambda p: p.update(slots=[]), "no slots"),
    "many layers": ("siren", lambda p: p.update(timestamps=p["timestamps"] * 5000), "too many"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cant_be_is_refused_on_opening(tmp_path: Path, name: str) -> None:
    family, change, message = IMPOSSIBLE[name]
    with pytest.raises(FormatError, match=message):
        open_zoo(lie(tmp_path, family, change))


POSSIBLE: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "linear as conv": ("siren", layer(1, kind="conv", kernel=[1, 1]), r"layer 2 \(conv\) can't be applied"),
    "float16": ("siren", slot(0, dtype="float16"), r"'net.0.linear.weight' holds numbers that float16 can't"),
    "shrunk map": ("cnn", layer(1, stride=2), r"layer 2 \(conv\) can't be applied"),
    "first of no tokens": ("cnn", layer(2, pooling={"kind": "first"}), r"layer 3 \(pool_linear\) can't be applied"),
}


@pytest.mark.parametrize("name", POSSIBLE)
def test_what_shapes_alone_dont_tell_is_found_by_verify(tmp_path: Path, name: str) -> None:
    family, change, message = POSSIBLE[name]
    result = verify(lie(tmp_path, family, change), "functional")
    assert any(re.search(message, problem) for problem in result.problems), result.problems


@pytest.mark.parametrize("family", FAMILIES)
def test_truth_passes(tmp_path: Path, family: str) -> None:
    result = verify(lie(tmp_path, family, lambda plain: None), "functional")
    assert result.passed, result.problems
    assert "1 architecture run on shapes alone" in " ".join(result.checked)


def test_an_input_that_doesnt_fit_is_named_with_its_layer(tmp_path: Path) -> None:
    module = open_zoo(lie(tmp_path, "siren", lambda plain: None)).module(0)
    with pytest.raises(FormatError, match=r"layer 1 \(linear\) can't be applied to \(5, 3\) of float32"):
        module(torch.zeros(5, 3))


def told(**fields: Any) -> Callable[[Any], object]:
    return lambda info: info.update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (told(num_networks=BIG), "the segments hold 4"),
        (told(counts={"edges": 5}), "counts has 5 for edges"),
        (told(counts={"edges": -5}), "counts must be an integer"),
        (told(recipe={"a": 10**400}), "bits"),
        (told(recipe={"a": [0] * 1_100_000}), "recipe is too large"),
        (told(provenance={"appended": 5}), "appended of provenance must be a list"),
        (told(sources=[{"name": "x", "target": [0, 10**400]}]), "finite"),
        (told(sources=[{"name": "x", "target": [0.5, 0.5]}]), "must be below"),
        (told(sources=[{"name": "x", "shape": [8]}]), "height, width and channels"),
        (told(sources=[{"name": "x", "shape": [-1, 8, 1]}]), "size of a source"),
        (told(sources=[{"name": "x", "digest": "0" * 64 + "\n"}]), "64 hex digits"),
        (told(format_version="1.0\n"), "format_version"),
    ],
)
def test_an_info_that_cant_be_is_refused(tmp_path: Path, change: Callable[[Any], object], message: str) -> None:
    store = tmp_path / "x.zoo"
    write_small_store(store, random_block(FAMILIES["siren"], 4))
    info = json.loads((store / "zoo.json").read_text())
    change(info)
    (store / "zoo.json").write_text(json.dumps(info))
    reseal(store, "zoo.json")
    with pytest.raises(FormatError, match=message):
        open_zoo(store)


@pytest.mark.parametrize("recipe", ['{"a":' * 900 + "1" + "}" * 900, '{"a":' * 5000 + "1" + "}" * 5000, '{"a":1e999}'])
def test_a_recipe_beyond_bounds_is_refused(tmp_path: Path, recipe: str) -> None:
    store = tmp_path / "x.zoo"
    write_small_store(store, random_block(FAMILIES["siren"], 4))
    info = json.loads((store / "zoo.json").read_text()) | {"recipe": "HERE"}
    (store / "zoo.json").write_text(json.dumps(info).replace('"HERE"', recipe))
    reseal(store, "zoo.json")
    with pytest.raises(FormatError, match=r"zoo\.json"):
        open_zoo(store)


def test_what_no_reader_takes_isnt_written(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    for info in (SourceInfo("x", recipe=deep), SourceInfo("x", recipe={"a": 10**5000})):
        with pytest.raises((ZooError, ValueError), match="recipe"):
            write_store(tmp_path / "x.zoo", MemorySource(info, [random_block(FAMILIES["siren"], 4)]))
        assert not list(tmp_path.iterdir())


def test_constructors_check_like_readers() -> None:
    with pytest.raises(ValueError, match="count of a segment"):
        Segment("0" * 16, True)
    with pytest.raises(ValueError, match="must be below"):
        ImageSource("x", target=(1.0, -1.0))
    with pytest.raises(ValueError, match="must be below"):
        ImageSource("x", target=(1.0, 1.0))
    with pytest.raises(ValueError, match="a size of a source must be an integer from 1"):
        ImageSource("x", shape=(0, 8, 1))
    with pytest.raises(ValueError, match="height, width and channels"):
        ImageSource("x", shape=(8, 8))
    with pytest.raises(ValueError, match="nested too deeply"):
        ZooInfo(
            name="x", num_networks=1, segments=(Segment("0" * 16, 1),), recipe=json.loads('{"a":' * 80 + "1" + "}" * 80)
        )


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("net_id", pa.array([[1]] * 4), "net_id"),
        ("net_id", pa.nulls(4, pa.string()), "net_id"),
        ("edge_offset", pa.nulls(4, pa.int64()), "edge_offset"),
        ("digest", pa.nulls(4, pa.binary(32)), "digest"),
    ],
)
def test_columns_of_the_store_hold_what_they_must(tmp_path: Path, column: str, values: pa.Array, message: str) -> None:
    store = tmp_path / "x.zoo"
    write_small_store(store, random_block(FAMILIES["siren"], 4))
    table = pq.read_table(store / "nets.parquet")
    pq.write_table(table.set_column(table.column_names.index(column), column, values), store / "nets.parquet")
    reseal(store, "nets.parquet")
    try:
        problems = "\n".join(verify(store, "deep").problems)
    except BadDataError as error:
        problems = str(error)
    assert message in problems


@pytest.mark.parametrize("path", ["x\n", "a" * 300, "a/" * 20 + "x", "../x"])
def test_paths_that_no_folder_holds_are_refused(tmp_path: Path, path: str) -> None:
    store = tmp_path / "x.zoo"
    write_small_store(store, random_block(FAMILIES["siren"], 4))
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["files"][path] = {"size": 1, "sha256": "0" * 64}
    (store / "manifest.json").write_bytes(canonical_json(manifest))
    with pytest.raises(FormatError, match="a path that no store has"):
        open_zoo(store)


@pytest.mark.parametrize("name", ["manifest.json", "zoo.json", "edges/c/0"])
@pytest.mark.parametrize("kind", ["pipe", "device", "huge"])
def test_files_without_end_are_refused_unread(tmp_path: Path, name: str, kind: str) -> None:
    store = tmp_path / "x.zoo"
    write_small_store(store, random_block(FAMILIES["siren"], 4))
    if kind == "huge":
        os.truncate(store / name, 100 << 30)
    else:
        (store / name).unlink()
        os.mkfifo(store / name) if kind == "pipe" else (store / name).symlink_to("/dev/zero")
    with pytest.raises(BadDataError, match=name.replace(".", r"\.")):
        open_zoo(store)


def test_a_link_to_a_folder_is_none_of_a_stores_files(tmp_path: Path) -> None:
    write_small_store(tmp_path / "x.zoo", random_block(FAMILIES["siren"], 4))
    (tmp_path / "x.zoo" / "elsewhere").symlink_to("/etc")
    assert verify(tmp_path / "x.zoo", "quick").problems == ["elsewhere isn't in the manifest"]


def test_arrays_that_are_transformed_are_refused(tmp_path: Path) -> None:
    store = tmp_path / "x.zoo"
    write_small_store(store, random_block(FAMILIES["siren"], 4))
    array = json.loads((store / "edges/zarr.json").read_text()) | {"storage_transformers": [{"name": "evil"}]}
    (store / "edges/zarr.json").write_text(json.dumps(array))
    reseal(store, "edges/zarr.json")
    with pytest.raises(FormatError, match="isn't a regular sharded array"):
        open_zoo(store)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("split", ["Valid"] * 4, "isn't in the format's form: the column 'split' is read with 'Valid' as validation"),
        ("split", ["holdout"] * 4, "'holdout', which is no split"),
        ("source", [0, 0, 0, 9], "holds 9, and there are 0 image sets"),
        ("source_index", [2**50] * 4, "images or image sets that can't be"),
        (
            "is_finite",
            [True, True, False, True],
            "network 2 has is_finite = False in nets.parquet, its weights say True",
        ),
        ("psnr", ["x"] * 4, "the column 'psnr' holds 'x', a number is needed"),
        ("test_accuracy", [91.2, 0.5, 0.5, 0.5], "test_accuracy"),
    ],
)
def test_known_columns_hold_what_the_format_says(tmp_path: Path, column: str, values: Any, message: str) -> None:
    store = tmp_path / "x.zoo"
    write_small_store(store, random_block(FAMILIES["siren"], 4))
    table = pq.read_table(store / "nets.parquet")
    table = table.drop_columns([column] if column in table.column_names else [])
    pq.write_table(table.append_column(column, pa.array(values)), store / "nets.parquet")
    reseal(store, "nets.parquet")
    assert message in "\n".join(verify(store, "deep").problems)


def test_images_are_as_many_as_the_networks_have(tmp_path: Path) -> None:
    write_store(
        tmp_path / "x.zoo",
        MemorySource(SourceInfo("x"), [random_block(FAMILIES["siren"], 4)]),
        images=lambda keys: np.zeros((len(keys) - 1, 2, 2, 1), np.uint8),
    )
    assert "x has 3 images for 4 source images" in verify(tmp_path / "x.zoo", "deep").problems
