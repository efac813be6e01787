"""mnist-inrs, fmnist_inrs and the SIRENs of other widths: one kind of network, three conventions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.zootool.formats.converting import assert_claimed_by, assert_holds, column, converted, notes_of, save
from tests.zootool.formats.sirens_here import (
    seq_output,
    seq_state,
    write_fmnist_inrs,
    write_mnist_inrs,
    write_mnist_splits,
    write_wide_inrs,
)
from zootool.errors import FormatError, MissingError
from zootool.formats.options import ReadOptions
from zootool.formats.seq_sirens import FashionInrs, MnistInrs, WideInrs
from zootool.zoo import Zoo

MNIST = [("training", 7, 0), ("training", 3, 21), ("training", 3, 59_999), ("testing", 7, 0), ("testing", 1, 9_999)]
SPLITS = {"train": MNIST[:2], "val": MNIST[2:3], "test": MNIST[3:]}


def assert_computes(zoo: Zoo, states: dict[str, Any], offset: float) -> None:
    coordinates = torch.rand(40, 2) * 2 - 1
    for place, net_id in enumerate(column(zoo, "net_id")):
        wanted = seq_output(states[net_id], coordinates, offset)
        torch.testing.assert_close(zoo.module(place)(coordinates), wanted)


def test_mnist_inrs_arrive_with_their_published_splits(tmp_path: Path) -> None:
    # The whole path says "train" and "test": the folder of the network alone counts.
    root = tmp_path / "pretraining-test" / "mnist-inrs"
    states = write_mnist_inrs(root, MNIST)
    write_mnist_splits(root / "mnist_splits.json", SPLITS)
    assert_claimed_by("mnist-inrs", root)
    zoo = converted(root, tmp_path / "x.zoo")
    assert_holds(zoo, states)
    assert_computes(zoo, states, offset=0.5)
    assert column(zoo, "split") == {
        "000000": "train", "000021": "train", "059999": "validation", "060000": "test", "069999": "test",
    }  # fmt: skip
    assert column(zoo, "label") == {"000000": 7, "000021": 3, "059999": 3, "060000": 7, "069999": 1}
    assert column(zoo, "source_index")["069999"] == 69_999
    assert zoo.info.sources[0].target == (0.0, 1.0)
    assert zoo.info.recipe["output_offset"] == 0.5
    assert zoo.info.recipe["splits"] == "mnist_splits.json, as published"
    assert zoo.architecture_of(0).output_offset == 0.5


def test_mnist_inrs_without_a_split_file_say_their_rule(tmp_path: Path) -> None:
    networks = [("training", i % 10, i) for i in range(24)] + [("testing", 0, 0)]
    write_mnist_inrs(tmp_path / "a", networks)
    write_mnist_inrs(tmp_path / "b", networks[::-1])
    splits = [column(converted(tmp_path / n, tmp_path / f"{n}.zoo"), "split") for n in "ab"]
    assert splits[0] == splits[1], "the order of writing has no say"
    assert sorted(splits[0].values()) == ["test"] + ["train"] * 22 + ["validation"] * 2
    assert splits[0]["060000"] == "test"
    rule = MnistInrs.read(tmp_path / "a", ReadOptions()).conventions["splits"]
    assert rule.startswith("testing folders; of the others sorted names, shuffled")


def test_what_a_split_file_leaves_out_or_has_too_much_is_noted(tmp_path: Path) -> None:
    write_mnist_inrs(tmp_path / "m", MNIST[:4])
    write_mnist_splits(tmp_path / "elsewhere.json", SPLITS | {"train": MNIST[:1]})
    zoo = converted(tmp_path / "m", tmp_path / "x.zoo", splits=tmp_path / "elsewhere.json")
    assert column(zoo, "split")["000021"] is None
    assert "1 networks are in no split of elsewhere.json" in notes_of(zoo)
    assert "lists 1 networks that aren't here" in notes_of(zoo)


def test_archives_leave_folders_that_are_passed_over(tmp_path: Path) -> None:
    states = write_mnist_inrs(tmp_path / "m", MNIST[:2])
    junk = tmp_path / "m" / "__MACOSX" / "mnist_png_training_1_5" / "checkpoints"
    junk.mkdir(parents=True)
    (junk / "model_final.pth").write_bytes(b"resource fork")
    (tmp_path / "m" / "mnist_png_training_7_0" / "checkpoints" / "._model_final.pth").write_bytes(b"fork")
    assert_holds(converted(tmp_path / "m", tmp_path / "x.zoo"), states)


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        ("[]", "list where splits train, val and test are wanted"),
        ('{"train": {"path": []}, "evil\\u001b[2J": {}}', "where splits train, val and test are wanted"),
        ('{"train": {"label": []}}', "has no list 'path'"),
        ('{"train": {"path": [5]}}', "has '5' where a path is wanted"),
        ('{"train": {"path": ["/a/b/c.pth"]}}', "names no network of this format"),
        ('{"val": {"path": []}, "validation": {"path": []}}', "one split under two names"),
        ('{"train": ["mnist_png_training_7_0"], "test": ["mnist_png_training_7_0"]}', "7_0 in train and in test"),
        ('{"train": {"path": [', "no readable JSON"),
    ],
)  # fmt: skip
def test_split_files_of_another_form_are_refused(tmp_path: Path, splits: str, problem: str) -> None:
    write_mnist_inrs(tmp_path, MNIST[:1])
    (tmp_path / "mnist_splits.json").write_text(splits)
    with pytest.raises(FormatError, match=problem) as caught:
        MnistInrs.read(tmp_path, ReadOptions())
    assert "\x1b" not in str(caught.value)


def test_a_split_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    write_mnist_inrs(tmp_path, MNIST[:1])
    with pytest.raises(MissingError, match=r"nowhere\.json"):
        MnistInrs.read(tmp_path, ReadOptions(splits=tmp_path / "nowhere.json"))


def test_two_networks_of_an_image_and_impossible_labels_are_refused(tmp_path: Path) -> None:
    write_mnist_inrs(tmp_path / "a", [("training", 7, 0), ("training", 8, 0)])
    with pytest.raises(FormatError, match="are of one image"):
        MnistInrs.read(tmp_path / "a", ReadOptions())
    write_mnist_inrs(tmp_path / "b", [("training", 12, 0)])
    with pytest.raises(FormatError, match="no such label or image"):
        MnistInrs.read(tmp_path / "b", ReadOptions())
    write_mnist_inrs(tmp_path / "c", [("training", 1, 60_000)])
    with pytest.raises(FormatError, match="no such label or image"):
        MnistInrs.read(tmp_path / "c", ReadOptions())


FASHION: list[tuple[str, int, Any]] = [
    ("train", 0, 9), ("train", 1, torch.tensor(4)), ("train", 10, torch.tensor([2])), ("test", 0, 0),
]  # fmt: skip


def test_fmnist_inrs_keep_their_label_out_of_the_network(tmp_path: Path) -> None:
    root = tmp_path / "fmnist_inrs"
    states = write_fmnist_inrs(root, FASHION)
    listed = {"train": [0, 10], "val": [1], "test": [0]}
    splits = {
        split: [f"/some/path/{'test' if split == 'test' else 'train'}/model_{i}.pth" for i in numbers]
        for split, numbers in listed.items()
    }
    (root / "splits.json").write_text(json.dumps(splits))
    assert_claimed_by("fmnist-inrs", root)
    zoo = converted(root, tmp_path / "x.zoo")
    assert_holds(zoo, states)
    assert_computes(zoo, states, offset=0.5)
    assert column(zoo, "label") == {"train-000000": 9, "train-000001": 4, "train-000010": 2, "test-000000": 0}
    assert column(zoo, "split") == {
        "train-000000": "train", "train-000001": "validation", "train-000010": "train", "test-000000": "test",
    }  # fmt: skip
    assert "source_index" not in zoo.nets


def test_fmnist_inrs_without_a_split_file_hold_train_and_test_apart(tmp_path: Path) -> None:
    write_fmnist_inrs(tmp_path / "f", [("train", i, 1) for i in range(24)] + [("test", i, 1) for i in range(3)])
    split = column(converted(tmp_path / "f", tmp_path / "x.zoo"), "split")
    assert {value for key, value in split.items() if key.startswith("test")} == {"test"}
    assert sorted(value for key, value in split.items() if key.startswith("train")).count("validation") == 2


@pytest.mark.parametrize("label", [10, -1, "nine", 2.5, torch.tensor([1, 2]), torch.tensor(3.5)])
def test_labels_that_are_none_are_refused(tmp_path: Path, label: Any) -> None:
    write_fmnist_inrs(tmp_path, [("train", 0, label)])
    with pytest.raises(FormatError, match=r"model_0\.pth: the label is"):
        FashionInrs.read(tmp_path, ReadOptions())


def test_a_file_without_a_label_is_refused(tmp_path: Path) -> None:
    save(seq_state(0), tmp_path / "train" / "model_0.pth")
    with pytest.raises(FormatError, match="the label is 'None'"):
        FashionInrs.read(tmp_path, ReadOptions())


WIDE = [(3, 0, 11), (3, 0, 12), (12, 1, 5), (0, 49_999, 1_234_567)]


def test_wide_inrs_have_no_offset_and_say_how_targets_were_scaled(tmp_path: Path) -> None:
    root = tmp_path / "cifar10-inrs"
    states = write_wide_inrs(root, WIDE)
    assert_claimed_by("wide-inrs", root)
    zoo = converted(root, tmp_path / "x.zoo")
    assert_holds(zoo, states)
    assert_computes(zoo, states, offset=0.0)
    assert list(column(zoo, "label").values()) == [3, 3, 12, 0]
    assert list(column(zoo, "copy").values()) == [0, 1, 0, 0]
    assert list(column(zoo, "seed").values()) == [11, 12, 5, 1_234_567]
    assert zoo.info.recipe["target_mean"] == [0.485, 0.456, 0.406]
    assert zoo.info.recipe["target_std"] == [0.229, 0.224, 0.225]
    assert zoo.info.sources[0].name == "cifar10"
    assert zoo.info.sources[0].target is None
    split = column(zoo, "split")
    assert split["000000-0000011"] == split["000000-0000012"], "seeds of one image stay together"


def test_wide_inrs_of_other_widths(tmp_path: Path) -> None:
    states = write_wide_inrs(tmp_path / "w", [(0, 0, 0)], width=20)
    zoo = converted(tmp_path / "w", tmp_path / "x.zoo")
    assert zoo.architecture_of(0).node_counts == (2, 20, 20, 3)
    assert_computes(zoo, states, offset=0.0)
    assert zoo.info.sources[0].name == "unstated"


@pytest.mark.parametrize(
    "report", [[30.5, 31.5, 32.5], {"0": 30.5, "1": 31.5, "2": 32.5}, {"psnr": {"0": 30.5, "1": 31.5}}]
)
def test_psnr_comes_from_the_reports(tmp_path: Path, report: Any) -> None:
    write_wide_inrs(tmp_path / "w", [(0, 0, 0), (0, 1, 0)])
    (tmp_path / "w" / "0_3.json").write_text(json.dumps(report))
    zoo = converted(tmp_path / "w", tmp_path / "x.zoo")
    assert list(column(zoo, "psnr").values()) == [30.5, 31.5]


@pytest.mark.parametrize(
    ("name", "reports", "places"),
    [("cifar10", [], [0, 2]), ("cifar10", ["10000_10003.json"], [10_000, 10_002]),
     ("cifar10/test", ["5_8.json"], [50_005, 50_007]), ("cifar10_train", ["5_8.json"], [5, 7]),
     ("cifar10-test/train", ["5_8.json"], [5, 7]),
     ("inrs-test", ["5_8.json"], [5, 7]), ("cifar10", ["0_3.json", "3_6.json"], [None, None])],
)  # fmt: skip
def test_images_count_on_from_their_range_and_split(
    tmp_path: Path, name: str, reports: list[str], places: list[int | None]
) -> None:
    root = tmp_path / name
    write_wide_inrs(root, [(0, 0, 0), (0, 2, 0)])
    for report in reports:
        (root / report).write_text("[30.5, 31.5, 32.5]")
    found = WideInrs.read(root, ReadOptions())
    assert found.table["source_index"].to_pylist() == places
    assert found.image_sets[0].grid in (None, "linspace(-1, 1), xy")
    if len(reports) == 1:
        assert found.table["psnr"].to_pylist() == [30.5, 32.5]
    if len(reports) == 2:
        assert "psnr" not in found.table.column_names
        assert "within each of 2 ranges: which ones they are isn't known" in found.notes[0]


def test_images_beyond_their_range_are_noted(tmp_path: Path) -> None:
    write_wide_inrs(tmp_path / "w", [(0, 0, 0), (0, 3, 0)])
    (tmp_path / "w" / "7_10.json").write_text("[30.5, 31.5, 32.5]")
    assert "1 networks are of images beyond the range 7_10" in notes_of(converted(tmp_path / "w", tmp_path / "x.zoo"))


@pytest.mark.parametrize("report", [[1.0, 2.0], "text", 5])
def test_psnr_that_is_not_by_image_is_left_out_and_noted(tmp_path: Path, report: Any) -> None:
    write_wide_inrs(tmp_path / "w", [(0, 0, 0)])
    (tmp_path / "w" / "0_3.json").write_text(json.dumps(report))
    zoo = converted(tmp_path / "w", tmp_path / "x.zoo")
    assert "psnr" not in zoo.nets
    assert "0_3.json says nothing by image" in notes_of(zoo)


def test_psnr_is_left_out_where_it_could_be_either_networks(tmp_path: Path) -> None:
    write_wide_inrs(tmp_path / "w", WIDE)
    (tmp_path / "w" / "0_1.json").write_text("[30.5]")
    zoo = converted(tmp_path / "w", tmp_path / "x.zoo")
    assert "psnr" not in zoo.nets
    assert "images have several networks" in notes_of(zoo)


def test_a_file_under_another_images_name_is_refused(tmp_path: Path) -> None:
    write_wide_inrs(tmp_path, [(0, 5, 0)])
    path = tmp_path / "ckpts" / "00" / "000005_0000000.ckpt"
    save({"image_idx": torch.tensor(6), "params": seq_state(0, 64, 3)}, path)
    with pytest.raises(FormatError, match="its name says another image"):
        WideInrs.read(tmp_path, ReadOptions())


@pytest.mark.parametrize("reader", [MnistInrs, FashionInrs, WideInrs])
def test_an_empty_folder_is_named(tmp_path: Path, reader: Any) -> None:
    assert not reader.detect(tmp_path)
    with pytest.raises(FormatError, match="holds no networks of this format"):
        reader.read(tmp_path, ReadOptions())


def test_a_network_of_another_width_is_named(tmp_path: Path) -> None:
    write_mnist_inrs(tmp_path / "m", MNIST[:2])
    save(seq_state(0, 31), tmp_path / "m" / "mnist_png_training_3_21" / "checkpoints" / "model_final.pth")
    with pytest.raises(FormatError, match=r"mnist_png_training_3_21.*\(31, 2\)"):
        converted(tmp_path / "m", tmp_path / "x.zoo")
