from pathlib import Path
from typing import Any

import pytest
import torch

from tests.zootool.formats.converting import assert_claimed_by, assert_holds, column, converted, notes_of, save
from tests.zootool.formats.trained_here import (
    PATCHES,
    WORDS,
    embedded_patches,
    encoder_output,
    transformer_state,
)
from zootool.errors import FormatError, UsageError
from zootool.formats.options import ReadOptions
from zootool.formats.small_transformers import SmallTransformers
from zootool.nets.network import Network

FILES = ["runa_50_8012.pt", "runa_75_9321.pt", "run_b_75_8888.pt", "run_b_best_9001.pt"]
ROWS = ["50,mnist/{},0.8012", "75,mnist/{},0.9321", "75,mnist/{},0.8888", "best*,mnist/{},0.9001"]


def write_zoo(root: Path, name: str = "mnist", embedding: Any = PATCHES, num_classes: int = 10) -> dict[str, Any]:
    states = {}
    for seed, file in enumerate(FILES):
        states[f"{name}/{file[:-3]}"] = transformer_state(seed, embedding, num_classes)
        save(states[f"{name}/{file[:-3]}"], root / name / file)
    rows = [row.format(file).replace("mnist/", f"{name}/") for row, file in zip(ROWS, FILES, strict=True)]
    write_table(root, rows, name)
    return states


def write_table(root: Path, rows: list[str], name: str = "mnist", header: str | None = None) -> None:
    (root / "metadata").mkdir(exist_ok=True)
    accuracy = "test_top1_accuracy" if name == "mnist" else "test_accuracy"
    lines = [header or f"ckpt_epoch,ckpt_file,{accuracy}", *rows]
    (root / "metadata" / f"{name}.csv").write_text("\n".join(lines) + "\n")


def test_networks_of_images_arrive(tmp_path: Path) -> None:
    states = write_zoo(tmp_path / "vision_data")
    assert_claimed_by("small-transformers", tmp_path / "vision_data")
    zoo = converted(tmp_path / "vision_data", tmp_path / "x.zoo")
    assert_holds(zoo, states)
    assert column(zoo, "training_step") == {
        "mnist/runa_50_8012": 50, "mnist/runa_75_9321": 75, "mnist/run_b_75_8888": 75, "mnist/run_b_best_9001": None,
    }  # fmt: skip
    assert column(zoo, "test_accuracy")["mnist/runa_75_9321"] == 0.9321
    assert column(zoo, "run_id")["mnist/run_b_best_9001"] == "mnist/run_b"
    assert column(zoo, "checkpoint")["mnist/run_b_best_9001"] == "best*"
    assert zoo.info.sources[0].name == "mnist"
    assert "extras" not in notes_of(zoo)
    images = torch.rand(3, 1, 28, 28)
    for place, net_id in enumerate(column(zoo, "net_id")):
        wanted = encoder_output(states[net_id], embedded_patches(states[net_id], images))
        torch.testing.assert_close(zoo.module(place)(images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("embedding", [WORDS, {}, PATCHES | {"embedding.extra": (3,)}])
def test_another_embedding_is_kept_beside_the_network(tmp_path: Path, embedding: Any) -> None:
    states = write_zoo(tmp_path / "text_data", "ag_news", embedding, num_classes=4)
    zoo = converted(tmp_path / "text_data", tmp_path / "x.zoo")
    assert_holds(zoo, states)
    assert ("kept among the extras" in notes_of(zoo)) == bool(embedding)
    assert not zoo.info.sources
    tokens = torch.rand(3, 12, 32)
    for place, net_id in enumerate(column(zoo, "net_id")):
        wanted = encoder_output(states[net_id], tokens)
        if embedding:
            with pytest.raises(FormatError, match=r"no layer of the architecture uses embedding\."):
                zoo.module(place)
        network = Network(zoo.architecture_of(place), allow_unused=True).eval()
        network.load_state_dict(zoo.state_dict(place))
        torch.testing.assert_close(network(tokens), wanted, rtol=1e-4, atol=1e-5)


def test_two_sets_lie_side_by_side(tmp_path: Path) -> None:
    states = write_zoo(tmp_path / "z") | write_zoo(tmp_path / "z", "ag_news", WORDS, 4)
    zoo = converted(tmp_path / "z", tmp_path / "x.zoo")
    assert_holds(zoo, states)
    assert set(column(zoo, "dataset").values()) == {"mnist", "ag_news"}
    assert len(zoo.architectures) == 2


def test_splits_are_drawn_by_run_and_say_so(tmp_path: Path) -> None:
    write_zoo(tmp_path)
    found = SmallTransformers.read(tmp_path, ReadOptions())
    pairs = set(zip(found.table["run_id"].to_pylist(), found.table["split"].to_pylist(), strict=True))
    assert len(pairs) == 2
    assert found.conventions["splits"].startswith("by run: sorted names")
    assert any("can't be repeated" in note for note in found.notes)


def test_steps_are_epochs(tmp_path: Path) -> None:
    write_zoo(tmp_path)
    assert len(SmallTransformers.read(tmp_path, ReadOptions(steps=(75,)))) == 2
    with pytest.raises(UsageError, match="step 100: there are 50, 75"):
        SmallTransformers.read(tmp_path, ReadOptions(steps=(100,)))


def test_a_best_network_that_has_an_epoch_too_is_known_by_it(tmp_path: Path) -> None:
    write_zoo(tmp_path)
    write_table(tmp_path, [f"best*,mnist/{FILES[1]},0.9", f"75,mnist/{FILES[1]},0.9", f"best*,mnist/{FILES[1]},0.9"])
    table = SmallTransformers.read(tmp_path, ReadOptions()).table
    row = table["net_id"].to_pylist().index("mnist/runa_75_9321")
    assert table["checkpoint"][row].as_py() == "75"
    assert table["training_step"][row].as_py() == 75


def test_gaps_between_table_and_folder_are_noted(tmp_path: Path) -> None:
    write_zoo(tmp_path)
    write_table(tmp_path, [f"50,mnist/{FILES[0]},0.8", "50,mnist/gone_50_1234.pt,0.1"])
    notes = "\n".join(SmallTransformers.read(tmp_path, ReadOptions()).notes)
    assert "3 networks are in no table" in notes
    assert "lists 1 networks that aren't here" in notes


@pytest.mark.parametrize(
    ("rows", "header", "problem"),
    [
        ([f"75,mnist/{FILES[0]},97.5"], None, r"test_top1_accuracy is 97\.5"),
        ([f"75,mnist/{FILES[0]},eval('1')"], None, "wanted is a number"),
        ([f"75,mnist/{FILES[0]}"], None, "line 2 has 2 cells, its header has 3"),
        ([f"75,mnist/{FILES[0]},0.5", f"75,mnist/{FILES[0]},0.6"], None, "another accuracy than an earlier line"),
        ([f"9999999999999999,mnist/{FILES[0]},0.5"], None, "its epoch is '9999"),
        ([], "ckpt_epoch,ckpt_file,test_accuracy", "has 0 columns 'test_top1_accuracy'"),
        ([], "ckpt_epoch,ckpt_epoch,ckpt_file,test_top1_accuracy", "has 2 columns 'ckpt_epoch'"),
        (['75,"mnist/x'], None, "no readable CSV"),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path: Path, rows: list[str], header: str | None, problem: str) -> None:
    write_zoo(tmp_path)
    write_table(tmp_path, rows, header=header)
    with pytest.raises(FormatError, match=problem):
        SmallTransformers.read(tmp_path, ReadOptions())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"encoder.0.fc1.bias": None}, r"lacks 'encoder\.0\.fc1\.bias'"),
        ({"encoder.0.norm.weight": (32,)}, r"has 'encoder\.0\.norm\.weight'"),
        ({"encoder.5.fc1.bias": (3,)}, r"the encoder blocks \[0, 1, 5\]"),
        ({"encoder.0.attention.keys.weight": (31, 32)}, "the attention of block 0"),
        ({"encoder.0.attention.keys.weight": (31,)}, "wanted are 2 axes"),
        ({"encoder.1.fc2.weight": (32, 60)}, r"encoder\.1\.fc2 is \(32, 60\).*wanted is \(32, 64\)"),
        ({"encoder.1.fc2.weight": (64, 32)}, r"encoder\.1\.fc2 is \(64, 32\).*wanted is \(32, 64\)"),
        ({"classifier.fc1.bias": (31,)}, r"classifier\.fc1 is"),
        ({"classifier.fc2.weight": (10, 31)}, r"classifier\.fc2 is \(10, 31\)"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    write_zoo(tmp_path)
    state = transformer_state(0, PATCHES)
    for key, shape in change.items():
        state.pop(key, None)
        if shape is not None:
            state[key] = torch.zeros(shape)
    for file in FILES:
        save(state, tmp_path / "mnist" / file)
    with pytest.raises(FormatError, match=problem):
        SmallTransformers.read(tmp_path, ReadOptions())


def test_runs_whose_names_could_rewrite_a_terminal_are_refused(tmp_path: Path) -> None:
    write_zoo(tmp_path)
    save(transformer_state(0, PATCHES), tmp_path / "mnist" / "run\x1b[2J_50_1234.pt")
    with pytest.raises(FormatError, match="no control characters") as caught:
        SmallTransformers.read(tmp_path, ReadOptions())
    assert "\x1b" not in str(caught.value)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert not SmallTransformers.detect(tmp_path)
    with pytest.raises(FormatError, match="holds no networks"):
        SmallTransformers.read(tmp_path, ReadOptions())
