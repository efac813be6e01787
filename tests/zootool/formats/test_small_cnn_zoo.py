import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.zootool.formats.converting import assert_claimed_by, assert_holds, column, converted, notes_of
from tests.zootool.formats.small_cnns_here import (
    LAYOUT,
    keras_output,
    metric_rows,
    torch_state,
    write_layout,
    write_metrics,
    write_small_cnn_zoo,
)
from zootool.errors import FormatError, MissingError, NumericalError, UntrustedError, UsageError
from zootool.formats.options import ReadOptions
from zootool.formats.small_cnn_zoo import SmallCnnZoo


@pytest.fixture
def zoo_dir(tmp_path: Path) -> Path:
    write_small_cnn_zoo(tmp_path / "cifar10", metric_rows(12))
    return tmp_path / "cifar10"


def published_by_pandas(root: Path, split_csv: Path, skip_header: bool) -> dict[str, list[int]]:
    """The protocol as the published readers spell it, in pandas: split -> rows of the matrix."""
    order = pd.read_csv(split_csv, header=0 if skip_header else None).values.flatten()
    metrics = pd.read_csv(root / "metrics.csv.gz", compression="gzip").iloc[order]
    rows = order[(metrics["step"] == 86).to_numpy()]
    test_split_point = int(0.5 * len(rows))
    trainval = list(range(test_split_point))
    val_point = int(0.8 * len(trainval))
    random.Random(0).shuffle(trainval)
    cut = {"train": trainval[:val_point], "validation": trainval[val_point:]}
    cut["test"] = list(range(test_split_point, len(rows)))
    return {split: sorted(rows[places].tolist()) for split, places in cut.items()}


def found_splits(table: Any) -> dict[str, list[int]]:
    splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for net_id, split in zip(table["net_id"].to_pylist(), table["split"].to_pylist(), strict=True):
        splits[split].append(int(net_id[:6]))
    return {split: sorted(rows) for split, rows in splits.items()}


def write_split(path: Path, num_rows: int, header: str | None = "0") -> Path:
    order = np.random.default_rng(1).permutation(num_rows).tolist()
    path.write_text("\n".join([*([] if header is None else [header]), *map(str, order)]) + "\n")
    return path


def test_rows_become_networks_in_torchs_layout(zoo_dir: Path, tmp_path: Path) -> None:
    weights = np.load(zoo_dir / "weights.npy")
    assert_claimed_by("small-cnn-zoo", zoo_dir)
    zoo = converted(zoo_dir, tmp_path / "x.zoo")
    assert_holds(zoo, {f"{row:06d}": torch_state(weights[row]) for row in range(len(weights))})
    images = torch.rand(2, 1, 32, 32)
    for place, (net_id, activation) in enumerate(column(zoo, "hp_activation").items()):
        wanted = keras_output(weights[int(net_id)], images, activation)
        torch.testing.assert_close(zoo.module(place)(images), wanted, rtol=1e-5, atol=1e-6)
    assert len(zoo.architectures) == 2
    assert zoo.info.sources[0].name == "cifar10"


def test_columns_come_by_name(zoo_dir: Path, tmp_path: Path) -> None:
    zoo = converted(zoo_dir, tmp_path / "x.zoo")
    assert column(zoo, "training_step")["000008"] == 86
    assert column(zoo, "run_id")["000009"] == "/cns/somewhere/001"
    assert column(zoo, "test_accuracy")["000001"] == pytest.approx(1 / 108)
    assert column(zoo, "hp_learning_rate")["000000"] == 0.003
    assert column(zoo, "hp_random_seed")["000000"] == 42
    assert column(zoo, "hp_w_init")["000000"] == "he_normal"
    assert column(zoo, "train_loss")["000000"] is None
    with_index = SmallCnnZoo.read(zoo_dir, ReadOptions()).table
    write_metrics(zoo_dir / "metrics.csv.gz", metric_rows(12), with_index=False)
    assert SmallCnnZoo.read(zoo_dir, ReadOptions()).table.equals(with_index)


@pytest.mark.parametrize("final_row_is_first", [False, True])
def test_the_published_protocol_is_reproduced_with_its_slip(tmp_path: Path, final_row_is_first: bool) -> None:
    steps = (86, 0, 1) if final_row_is_first else (0, 1, 86)
    root = tmp_path / "z"
    weights = write_small_cnn_zoo(root, metric_rows(33, steps))
    split_csv = write_split(tmp_path / "nfn_cifar10_split.csv", len(weights))
    found = SmallCnnZoo.read(root, ReadOptions(splits=split_csv))
    assert found_splits(found.table) == published_by_pandas(root, split_csv, skip_header=False)
    assert len(found) == 33 + final_row_is_first
    assert any("has index 0 more than once" in note for note in found.notes)
    assert "read as index 0, as published" in found.conventions["splits"]
    zoo = converted(root, tmp_path / "x.zoo", splits=split_csv)
    assert ("000000-again1" in column(zoo, "net_id")) == final_row_is_first
    clean = SmallCnnZoo.read(root, ReadOptions(splits=split_csv, clean=True))
    assert found_splits(clean.table) == published_by_pandas(root, split_csv, skip_header=True)
    assert len(clean) == 33
    assert clean.notes == ()


def test_the_network_that_occurs_twice_has_the_same_weights(tmp_path: Path) -> None:
    weights = write_small_cnn_zoo(tmp_path / "z", metric_rows(10, (86,)))
    zoo = converted(tmp_path / "z", tmp_path / "x.zoo", splits=write_split(tmp_path / "s.csv", 10))
    states = {f"{row:06d}": torch_state(weights[row]) for row in range(10)}
    assert_holds(zoo, states | {"000000-again1": states["000000"]})
    sides = {value for key, value in column(zoo, "split").items() if key.startswith("000000")}
    if len(sides) == 2:
        assert "1 runs have networks in more than one split" in notes_of(zoo)


def test_a_list_without_a_header_is_taken_as_it_is(tmp_path: Path) -> None:
    write_small_cnn_zoo(tmp_path / "z", metric_rows(10, (86,)))
    (tmp_path / "s.csv").write_text("\n".join(map(str, range(10))))
    for clean in (False, True):
        found = SmallCnnZoo.read(tmp_path / "z", ReadOptions(splits=tmp_path / "s.csv", clean=clean))
        assert len(found) == 10
        assert "has no header" in found.conventions["splits"]


def test_without_the_csv_splits_are_drawn_by_run_and_say_so(zoo_dir: Path) -> None:
    found = SmallCnnZoo.read(zoo_dir, ReadOptions())
    of_run: dict[str, set[str]] = {}
    for run, split in zip(found.table["run_id"].to_pylist(), found.table["split"].to_pylist(), strict=True):
        of_run.setdefault(run, set()).add(split)
    assert all(len(splits) == 1 for splits in of_run.values())
    assert found.conventions["splits"].startswith("by run: sorted names")
    assert "need their split CSV, which wasn't given" in found.notes[0]
    with pytest.raises(UsageError, match="needs its split CSV"):
        SmallCnnZoo.read(zoo_dir, ReadOptions(clean=True))
    with pytest.raises(UsageError, match="takes step 86 alone"):
        SmallCnnZoo.read(zoo_dir, ReadOptions(splits=zoo_dir / "layout.csv", steps=(0, 86)))


def test_steps_are_epochs(zoo_dir: Path, tmp_path: Path) -> None:
    zoo = converted(zoo_dir, tmp_path / "x.zoo", steps=(0, 86))
    assert set(column(zoo, "training_step").values()) == {0, 86}
    assert len(zoo) == 24
    with pytest.raises(UsageError, match=r"no network is of training step 85.*0, 1, 2, 3, 20, 40, 60, 80, 86"):
        SmallCnnZoo.read(zoo_dir, ReadOptions(steps=(85,)))


def test_the_matrix_is_not_read_before_its_networks_are_asked_for(zoo_dir: Path) -> None:
    found = SmallCnnZoo.read(zoo_dir, ReadOptions())
    tensors = found.load(np.array([5, 6]))
    assert isinstance(tensors["fc.bias"].base, np.ndarray)
    weights = np.load(zoo_dir / "weights.npy")
    np.testing.assert_array_equal(tensors["layers.0.bias"], weights[5:7, :16])
    np.testing.assert_array_equal(found.load(np.array([7, 2]))["layers.0.bias"], weights[[7, 2], :16])


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        ("", "lists 0 networks"),
        ("0\n5\n-1\n", "lists '-1'"),
        ("0\n5\n108\n", "lists '108', wanted are rows 0 to 107"),
        ("0\n99999999999999999999999\n", "lists '9999"),
        ("index,0\n1,2\n", "lists 'index,0'"),
        ("0\n" * 400, "lists 400 networks"),
        ("0\n0\n1\n", "no network of step 86"),
        ("0\n\x1b[2J\n", r"lists '\\\\x1b\[2J'"),
    ],
)
def test_split_files_of_another_form_are_refused(zoo_dir: Path, split: str, problem: str) -> None:
    (zoo_dir / "s.csv").write_text(split)
    with pytest.raises(FormatError, match=problem):
        SmallCnnZoo.read(zoo_dir, ReadOptions(splits=zoo_dir / "s.csv"))


def test_a_split_file_that_is_missing_is_named(zoo_dir: Path) -> None:
    with pytest.raises(MissingError, match=r"s\.csv"):
        SmallCnnZoo.read(zoo_dir, ReadOptions(splits=zoo_dir / "s.csv"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"step": 1e30}, "row 5: step is 1e"),
        ({"step": 2.5}, r"row 5: step is 2\.5"),
        ({"step": -1}, "row 5: step is -1"),
        ({"step": ""}, "row 5: step is nan"),
        ({"test_accuracy": 45.2}, r"row 5: test_accuracy is 45\.2"),
        ({"test_accuracy": "inf"}, "row 5: test_accuracy is inf"),
        ({"test_accuracy": "__import__('os')"}, "no readable table"),
        ({"config.activation": "swish\x1b[2J"}, r"config\.activation is 'swish\\\\x1b\[2J', a name has"),
        ({"config.activation": "swish"}, "the activation 'swish', known are relu"),
        ({"modeldir": "/cns/\x1b[2J"}, "modeldir is"),
        ({"config.w_init": "he\x07"}, r"config\.w_init is"),
        ({"modeldir": ""}, "lacks modeldir in 1 rows"),
    ],
)
def test_absurd_values_are_refused(zoo_dir: Path, change: dict[str, Any], problem: str) -> None:
    rows = metric_rows(12)
    rows[5] = rows[5] | change
    write_metrics(zoo_dir / "metrics.csv.gz", rows)
    with pytest.raises(FormatError, match=problem) as caught:
        SmallCnnZoo.read(zoo_dir, ReadOptions())
    assert "\x1b" not in str(caught.value)


def test_tables_that_are_cut_off_are_refused(zoo_dir: Path) -> None:
    path = zoo_dir / "metrics.csv.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(FormatError, match="can't be unpacked"):
        SmallCnnZoo.read(zoo_dir, ReadOptions())
    write_metrics(path, metric_rows(11))
    with pytest.raises(FormatError, match=r"has 99 rows, weights\.npy has 108"):
        SmallCnnZoo.read(zoo_dir, ReadOptions())
    write_metrics(path, [{key: value for key, value in row.items() if key != "step"} for row in metric_rows(12)])
    with pytest.raises(FormatError, match="has 0 columns 'step'"):
        SmallCnnZoo.read(zoo_dir, ReadOptions())
    (zoo_dir / "metrics.csv.gz").unlink()
    assert not SmallCnnZoo.detect(zoo_dir)
    with pytest.raises(MissingError, match=r"metrics\.csv\.gz"):
        SmallCnnZoo.read(zoo_dir, ReadOptions())


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["a,0,16,16"], "names 'a'"),
        (["sequential/conv2d/bias:0,0,16,\"__import__('os').getpid()\""], "no plain value"),
        (['sequential/conv2d/bias:0,0,16,"(17,)"'], r"the shape \(17,\) for columns 0 to 16"),
        (['sequential/conv2d/bias:0,0,16,"(-16,)"'], "the shape"),
        (['sequential/conv2d/bias:0,0,999999999999,"(999999999999,)"'], "end_idx is '999999999999'"),
        (['sequential/conv2d/bias:0,8,24,"(16,)"'], "starts at 8, what is before it ends at 0"),
        (['sequential/conv2d/bias:0,0,16,"(16,)"', "sequential/conv2d/bias"], "line 3 has 1 cells"),
        (['sequential/conv2d/bias:0,0,16,"(16,)"'], "wanted are convolutions and one dense layer"),
        (['sequential/conv2d/kernel:0,0,15,"(3, 5, 1, 1)"'], "square ones are read"),
    ],
)
def test_layouts_of_another_form_are_refused(zoo_dir: Path, lines: list[str], problem: str) -> None:
    (zoo_dir / "layout.csv").write_text("\n".join(["varname,start_idx,end_idx,shape", *lines]) + "\n")
    with pytest.raises(FormatError, match=problem):
        SmallCnnZoo.read(zoo_dir, ReadOptions())


def test_a_layout_that_makes_no_network_is_refused(zoo_dir: Path) -> None:
    layout: list[tuple[str, tuple[int, ...]]]
    layout = [(name, (16, 3) if name == "dense/bias:0" else shape) for name, shape in LAYOUT]
    write_layout(zoo_dir / "layout.csv", layout)
    with pytest.raises(FormatError, match="the shape"):
        SmallCnnZoo.read(zoo_dir, ReadOptions())
    layout = [(name, (12, 12) if name == "dense/kernel:0" else shape) for name, shape in LAYOUT[:-1]]
    write_layout(zoo_dir / "layout.csv", [*layout, ("dense/kernel:0", (10, 16))])
    with pytest.raises(FormatError, match="don't make one network"):
        SmallCnnZoo.read(zoo_dir, ReadOptions())


def test_other_matrices_are_refused(zoo_dir: Path) -> None:
    for content, problem in (
        (np.zeros((108, 4969), np.float32), r"float32 \(108, 4969\)"),
        (np.zeros((108, 4970)), "float64"),
        (np.zeros(4970, np.float32), r"\(4970,\)"),
    ):
        np.save(zoo_dir / "weights.npy", content)
        with pytest.raises(FormatError, match=problem):
            SmallCnnZoo.read(zoo_dir, ReadOptions())
    np.save(zoo_dir / "weights.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(UntrustedError, match="Python objects"):
        SmallCnnZoo.read(zoo_dir, ReadOptions())
    np.save(zoo_dir / "weights.npy", np.zeros((108, 4970), np.float32))
    path = zoo_dir / "weights.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FormatError, match=r"weights\.npy"):
        SmallCnnZoo.read(zoo_dir, ReadOptions())


def test_networks_that_diverged_are_named(zoo_dir: Path, tmp_path: Path) -> None:
    weights = np.load(zoo_dir / "weights.npy")
    weights[107, 5] = np.inf
    np.save(zoo_dir / "weights.npy", weights)
    with pytest.raises(NumericalError, match="000107"):
        converted(zoo_dir, tmp_path / "x.zoo")
