from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.zootool.formats.converting import assert_claimed_by, assert_holds, column, converted, notes_of, save
from tests.zootool.formats.sirens_here import nfn_state, write_nfn, write_nfn_converted
from zootool.errors import BadDataError, FormatError, NumericalError
from zootool.formats.nfn_sirens import NfnConverted, NfnSirens
from zootool.formats.options import ReadOptions
from zootool.zoo.export import export

NETWORKS = [(0, 3, 0), (0, 7, 44_999), (0, 7, 45_000), (0, 1, 49_999), (0, 2, 50_000), (0, 0, 69_999)]
COPIES = [(1, 3, 0), (12, 3, 0), (1, 7, 44_999)]


def plain_siren(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for layer in ("net.0.linear", "net.1.linear"):
        x = torch.sin(30 * torch.nn.functional.linear(x, state[f"{layer}.weight"], state[f"{layer}.bias"]))
    return torch.nn.functional.linear(x, state["net.2.weight"], state["net.2.bias"])


@pytest.mark.parametrize("form", ["nfn-siren", "nfn-converted"])
def test_every_tensor_label_and_split_arrives(tmp_path: Path, form: str) -> None:
    write = write_nfn if form == "nfn-siren" else write_nfn_converted
    root = tmp_path / ("siren_mnist_wts" if form == "nfn-siren" else "siren_mnist_graph_data")
    states = write(root, NETWORKS + COPIES)
    assert_claimed_by(form, root)
    zoo = converted(root, tmp_path / "x.zoo")
    assert_holds(zoo, states)
    assert column(zoo, "split") == {
        "000000-00": "train", "044999-00": "train", "045000-00": "validation", "049999-00": "validation",
        "050000-00": "test", "069999-00": "test", "000000-01": "train", "000000-12": "train", "044999-01": "train",
    }  # fmt: skip
    assert column(zoo, "label")["044999-01"] == 7
    assert column(zoo, "copy")["000000-12"] == 12
    assert column(zoo, "source_index")["069999-00"] == 69_999
    assert zoo.info.sources[0].name == "mnist"
    assert "20,000 if complete" in notes_of(zoo)
    coordinates = torch.rand(50, 2) * 2 - 1
    for place, net_id in enumerate(column(zoo, "net_id")):
        torch.testing.assert_close(zoo.module(place)(coordinates), plain_siren(states[net_id], coordinates))


@pytest.mark.parametrize("form", ["wts", "graph_data"])
def test_a_label_of_two_digits_is_read_whole(tmp_path: Path, form: str) -> None:
    root = tmp_path / f"siren_cifar100_{form}"
    write = write_nfn if form == "wts" else write_nfn_converted
    write(root, [(0, 42, 0), (0, 2, 1), (3, 42, 0)], num_outputs=3)
    zoo = converted(root, tmp_path / "x.zoo")
    assert column(zoo, "label") == {"000000-00": 42, "000001-00": 2, "000000-03": 42}
    assert column(zoo, "copy") == {"000000-00": 0, "000001-00": 0, "000000-03": 3}
    assert zoo.info.sources[0].num_classes == 100


@pytest.mark.parametrize(
    ("name", "num_outputs", "image_set", "validation", "test"),
    [("mnist", 1, "mnist", 45_000, 50_000), ("fashion", 1, "fashion-mnist", 55_000, 60_000),
     ("cifar", 3, "cifar10", 45_000, 50_000), ("cifar100", 3, "cifar100", 45_000, 50_000)],
)  # fmt: skip
def test_each_set_has_its_own_cuts(
    tmp_path: Path, name: str, num_outputs: int, image_set: str, validation: int, test: int
) -> None:
    indices = [validation - 1, validation, test - 1, test]
    write_nfn(tmp_path / f"siren_{name}_wts", [(0, 0, index) for index in indices], num_outputs)
    zoo = converted(tmp_path / f"siren_{name}_wts", tmp_path / "x.zoo")
    assert list(column(zoo, "split").values()) == ["train", "validation", "validation", "test"]
    assert zoo.info.sources[0].name == image_set


def test_the_nfn_layout_gives_the_same_files_back(tmp_path: Path) -> None:
    root = tmp_path / "siren_fashion_wts"
    write_nfn(root, [(0, 3, 0), (0, 9, 60_000), (1, 3, 0), (10, 3, 0)])
    export(converted(root, tmp_path / "x.zoo"), tmp_path / "out", "nfn")
    found = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.pth")}
    assert found == {path.relative_to(root) for path in root.rglob("*.pth")}
    for path in found:
        ours = torch.load(tmp_path / "out" / path, weights_only=True)
        theirs = torch.load(root / path, weights_only=True)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert set(pq.read_table(tmp_path / "out.index.parquet")["file"].to_pylist()) == set(map(str, found))


def test_the_root_may_be_the_working_folder_or_a_single_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nfn(tmp_path / "siren_mnist_wts", [(0, 3, 0), (0, 4, 1)])
    monkeypatch.chdir(tmp_path / "siren_mnist_wts")
    assert len(NfnSirens.read(Path(), ReadOptions())) == 2
    one = tmp_path / "siren_mnist_wts" / "randinit_smaller_3s"
    assert NfnSirens.detect(one)
    assert NfnSirens.read(one, ReadOptions()).table["label"].to_pylist() == [3]


def test_other_folders_are_passed_over(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    states = write_nfn(root, [(0, 3, 0)])
    for odd in ("randinit_smaller_s", "randinit_smaller_aug_3s", "randinit_smaller_1234s", "x_randinit_smaller_3s"):
        save(nfn_state(9), root / odd / "net5.pth")
    save(nfn_state(9), root / "randinit_smaller_3s" / "net5.pth.bak")
    (root / "__MACOSX" / "randinit_smaller_3s").mkdir(parents=True)
    (root / "__MACOSX" / "randinit_smaller_3s" / "net7.pth").write_bytes(b"resource fork")
    assert_holds(converted(root, tmp_path / "x.zoo"), states)


def test_contradicting_and_impossible_labels_are_noted(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    write_nfn(root, [(0, 3, 0), (1, 4, 0), (0, 11, 1)])
    notes = notes_of(converted(root, tmp_path / "x.zoo"))
    assert "1 images have copies under different labels" in notes
    assert "1 networks have a label beyond the 10 classes" in notes


def test_two_files_of_one_network_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    write_nfn(root, [(0, 3, 0), (0, 4, 0)])
    with pytest.raises(FormatError, match="are both copy 0 of image 0"):
        NfnSirens.read(root, ReadOptions())


def test_a_set_that_nothing_names_is_refused(tmp_path: Path) -> None:
    write_nfn(tmp_path / "weights", [(0, 3, 0)])
    with pytest.raises(FormatError, match="siren_mnist_wts"):
        NfnSirens.read(tmp_path / "weights", ReadOptions())
    # MNIST's networks have one output: a name that says otherwise isn't believed.
    write_nfn(tmp_path / "siren_mnist_wts", [(0, 3, 0)], num_outputs=3)
    with pytest.raises(FormatError, match="3 channels"):
        NfnSirens.read(tmp_path / "siren_mnist_wts", ReadOptions())


def test_a_network_of_another_shape_is_named(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    write_nfn(root, [(0, 3, 0), (0, 3, 1)])
    save(nfn_state(1) | {"net.1.linear.weight": torch.zeros(32, 31)}, root / "randinit_smaller_3s" / "net1.pth")
    with pytest.raises(FormatError, match=r"net1\.pth.*\(32, 31\)"):
        converted(root, tmp_path / "x.zoo")


def test_files_that_are_no_sirens_are_named(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    save({"weight": torch.zeros(3)}, root / "randinit_smaller_3s" / "net0.pth")
    with pytest.raises(FormatError, match=r"net0\.pth has no bias net\.2\.bias"):
        NfnSirens.read(root, ReadOptions())
    (root / "randinit_smaller_3s" / "net0.pth").unlink()
    with pytest.raises(FormatError, match="holds no networks"):
        NfnSirens.read(root, ReadOptions())


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    write_nfn(root, [(0, 3, 0), (0, 3, 1)])
    path = root / "randinit_smaller_3s" / "net1.pth"
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(BadDataError, match=r"net1\.pth"):
        converted(root, tmp_path / "x.zoo")


def test_a_network_that_diverged_is_named(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    write_nfn(root, [(0, 3, 0), (0, 3, 1)])
    save(nfn_state(1) | {"net.2.bias": torch.tensor([float("nan")])}, root / "randinit_smaller_3s" / "net1.pth")
    with pytest.raises(NumericalError, match="000001-00"):
        converted(root, tmp_path / "x.zoo")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"e": torch.zeros(1119), "b": torch.zeros(65)}, "e has 1119 numbers, a SIREN of this set has 1120"),
        ({"e": torch.zeros(1120)}, "holds e, wanted"),
        ({"e": torch.zeros(1120).double(), "b": torch.zeros(65)}, "wanted are the float32 tensors"),
        ({"e": torch.zeros(1120), "b": torch.zeros(65), "c": torch.zeros(1)}, "holds e, b, c"),
    ],
)
def test_a_converted_file_of_another_form_is_named(tmp_path: Path, content: object, problem: str) -> None:
    root = tmp_path / "siren_mnist_graph_data"
    write_nfn_converted(root, [(0, 3, 0)])
    save(content, root / "randinit_smaller_3s" / "net1.pt")
    with pytest.raises(FormatError, match=problem):
        converted(root, tmp_path / "x.zoo")


def test_columns_of_edges_are_read_too(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_graph_data"
    states = write_nfn_converted(root, [(0, 3, 0)])
    path = root / "randinit_smaller_3s" / "net0.pt"
    content = torch.load(path, weights_only=True)
    save({"e": content["e"][:, None], "b": content["b"][:, None]}, path)
    assert_holds(converted(root, tmp_path / "x.zoo"), states)


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    root = tmp_path / "siren_\x1b[2Jmnist"
    write_nfn(root, [(0, 3, 0)])
    with pytest.raises(FormatError) as caught:
        NfnSirens.read(root, ReadOptions())
    assert "\x1b" not in str(caught.value)


def test_the_two_forms_differ_by_their_files_names(tmp_path: Path) -> None:
    write_nfn(tmp_path / "siren_mnist_wts", [(0, 3, 0)])
    assert not NfnConverted.detect(tmp_path / "siren_mnist_wts")
    assert not NfnSirens.detect(tmp_path / "nothing")
