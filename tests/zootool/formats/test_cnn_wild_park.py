import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.zootool.formats.converting import assert_claimed_by, assert_holds, column, converted, notes_of, save
from tests.zootool.formats.parks_here import (
    RESIDUAL,
    SMALL,
    checkpoint,
    park_output,
    park_state,
    their_classes,
    write_park,
    zip_park,
)
from zootool.errors import FormatError, MissingError, UntrustedError, UsageError
from zootool.formats.cnn_wild_park import CnnWildPark
from zootool.formats.options import ReadOptions

RUNS = {"NN_tune_trainable_a_1": SMALL, "NN_tune_trainable_b_2": RESIDUAL, "NN_tune_trainable_c_3": SMALL}
STEPS = (0, 10, 50)


def write_splits(path: Path, ids: list[str], runs: dict[str, str]) -> None:
    """Like the published file: paths relative to its writer's script, shuffled within a split."""
    splits: dict[str, dict[str, list[Any]]] = {
        s: {"path": [], "score": [], "step": []} for s in ("train", "val", "test")
    }
    for net_id in reversed(ids):
        run, folder = net_id.split("/")
        if run in runs:
            listed = splits[runs[run]]
            listed["path"].append(f"cifar10_zooV2/{net_id}/checkpoint.pt")
            listed["score"].append(0.25)
            listed["step"].append(int(folder[-6:]) + 1)
    path.write_text(json.dumps(splits))


@pytest.mark.parametrize("form", ["omega", "dataclass", "dict"])
@pytest.mark.parametrize("is_zipped", [False, True])
def test_every_network_computes_what_its_config_says(tmp_path: Path, form: str, is_zipped: bool) -> None:
    root = tmp_path / "cifar10_zooV2"
    written = write_park(root, RUNS, STEPS, form)
    assert not any(name.startswith(("omegaconf", "experiments")) for name in sys.modules)
    source = zip_park(root, tmp_path / "cnn_wild_park.zip") if is_zipped else root
    assert_claimed_by("cnn-wild-park", source)
    zoo = converted(source, tmp_path / "x.zoo")
    assert_holds(zoo, {net_id: state for net_id, (_, state) in written.items()})
    images = torch.rand(2, 3, 32, 32)
    for place, net_id in enumerate(column(zoo, "net_id")):
        config, state = written[net_id]
        wanted = park_output(config, state, images)
        torch.testing.assert_close(zoo.module(place)(images), wanted, rtol=1e-5, atol=1e-6)
    assert len(zoo.architectures) == 2
    assert column(zoo, "training_step")["NN_tune_trainable_b_2/checkpoint_000050"] == 50
    assert column(zoo, "test_accuracy")["NN_tune_trainable_b_2/checkpoint_000050"] == pytest.approx(0.15)
    assert column(zoo, "run_id")["NN_tune_trainable_b_2/checkpoint_000050"] == "NN_tune_trainable_b_2"
    assert zoo.info.recipe["splits"].startswith("by run: sorted names")
    if is_zipped:
        assert [path.name for path in tmp_path.iterdir() if path.suffix != ".zoo"] == ["cifar10_zooV2", source.name]


def test_residuals_and_activations_stand_in_the_architecture(tmp_path: Path) -> None:
    write_park(tmp_path / "p", {"run": RESIDUAL}, (0,))
    architecture = CnnWildPark.read(tmp_path / "p", ReadOptions()).architectures[0]
    assert [[r.source for r in t.residuals] for t in architecture.timestamps] == [[], [], [1], [2], []]
    assert [t.activation.name for t in architecture.timestamps] == ["tanh", "gelu", "sigmoid", "none", "none"]
    assert [t.kernel for t in architecture.timestamps[:4]] == [(3, 3), (7, 7), (5, 5), (3, 3)]


@pytest.mark.parametrize("is_zipped", [False, True])
def test_published_splits_scores_and_steps_are_taken(tmp_path: Path, is_zipped: bool) -> None:
    root = tmp_path / "cifar10_zooV2"
    written = write_park(root, RUNS, STEPS)
    sides = dict(zip(RUNS, ("train", "val", "test"), strict=True))
    write_splits(tmp_path / "cnn_park_splits.json", list(written), sides)
    source = zip_park(root, tmp_path / "cnn_wild_park.zip") if is_zipped else root
    zoo = converted(source, tmp_path / "x.zoo")
    names = {"train": "train", "val": "validation", "test": "test"}
    assert column(zoo, "split") == {net_id: names[sides[net_id.split("/")[0]]] for net_id in written}
    assert set(column(zoo, "test_accuracy").values()) == {0.25}
    assert set(column(zoo, "training_step").values()) == {1, 11, 51}
    assert zoo.info.recipe["splits"] == "cnn_park_splits.json, as published"


def test_what_the_split_file_leaves_out_is_read_from_the_checkpoints(tmp_path: Path) -> None:
    written = write_park(tmp_path / "p", RUNS, (0, 10))
    write_splits(tmp_path / "s.json", [*list(written), "gone/checkpoint_000000"], {"NN_tune_trainable_a_1": "train"})
    content = json.loads((tmp_path / "s.json").read_text())
    content["test"] = {"path": ["x/gone/checkpoint_000000/checkpoint.pt"], "score": [0.5], "step": [3]}
    (tmp_path / "s.json").write_text(json.dumps(content))
    zoo = converted(tmp_path / "p", tmp_path / "x.zoo", splits=tmp_path / "s.json")
    assert column(zoo, "split")["NN_tune_trainable_b_2/checkpoint_000010"] is None
    assert column(zoo, "test_accuracy")["NN_tune_trainable_b_2/checkpoint_000010"] == pytest.approx(0.11)
    assert column(zoo, "test_accuracy")["NN_tune_trainable_a_1/checkpoint_000010"] == 0.25
    assert "4 networks are in no split of s.json" in notes_of(zoo)
    assert "lists 1 networks that aren't here" in notes_of(zoo)


def test_a_split_that_leaks_is_noted(tmp_path: Path) -> None:
    written = write_park(tmp_path / "p", {"run": SMALL}, (0, 10))
    ids = list(written)
    splits = {
        s: {"path": [f"r/{i}/checkpoint.pt"], "score": [0.1], "step": [0]}
        for s, i in zip(("train", "test"), ids, strict=True)
    }
    (tmp_path / "p" / "cnn_park_splits.json").write_text(json.dumps(splits))
    assert "1 runs have networks in more than one split" in notes_of(converted(tmp_path / "p", tmp_path / "x.zoo"))


def test_steps_are_the_trainers_iterations(tmp_path: Path) -> None:
    write_park(tmp_path / "p", RUNS, STEPS)
    zoo = converted(tmp_path / "p", tmp_path / "x.zoo", steps=(10,))
    assert list(column(zoo, "training_step").values()) == [10, 10, 10]
    with pytest.raises(UsageError, match=r"no network is of training step 11: there are 0, 10, 50"):
        CnnWildPark.read(tmp_path / "p", ReadOptions(steps=(11,)))


def write_one(root: Path, config: Any) -> Path:
    save(checkpoint(config, park_state(SMALL, 0), 0, 0.5), root / "run" / "checkpoint_0" / "checkpoint.pt")
    return root


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"activation": ["relu", "swish\x1b[2J"]}, r"the activation 'swish"),
        ({"activation": ["relu", 5]}, "the activation '5'"),
        ({"n_layers": 10**9}, "n_layers has 1000000000"),
        ({"n_layers": True}, "n_layers has True"),
        ({"n_layers": 3}, "channels has 3 entries, wanted are 4"),
        ({"kernel_size": [3, 10**12]}, "kernel_size has 1000000000000"),
        ({"kernel_size": [3, 7]}, r"layers\.1\.weight is \(8, 4, 5, 5\), its config says \(8, 4, 7, 7\)"),
        ({"channels": [3, 4, 16_000]}, r"its config says \(16000"),
        ({"residual": [-1, 1]}, "convolution 1 can't add the output of convolution 1"),
        ({"residual": [-1, "0"]}, "residual has 0"),
        ({"stride": [0, 1]}, "stride has 0"),
        ({"padding": [1, 0], "stride": [1, 1], "residual": [-1, 0]}, "of another size"),
        ({"channels": None}, "channels has None"),
    ],
)
def test_configs_that_describe_no_such_network_are_refused(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(FormatError, match=problem) as caught:
        CnnWildPark.read(write_one(tmp_path, SMALL | change), ReadOptions())
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "problem"),
    [(None, "a config of the kind NoneType"), ({"n_layers": 2}, "a config without n_classes"), ("text", "kind str")],
)
def test_configs_that_are_none_are_refused(tmp_path: Path, config: Any, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        CnnWildPark.read(write_one(tmp_path, config), ReadOptions())


@pytest.mark.parametrize(
    "name", ["omegaconf.dictconfig.DictConfigs", "evil.cnn_sampler.CNNConfig", "omegaconf.DictConfig"]
)
def test_objects_of_other_classes_are_no_configs(tmp_path: Path, name: str) -> None:
    with their_classes(name) as classes:
        write_one(tmp_path, next(iter(classes.values()))())
    with pytest.raises(FormatError, match=r"has a config without n_layers|has a config of the kind"):
        CnnWildPark.read(tmp_path, ReadOptions())


def test_configs_never_run_anything(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return eval, ("open('bomb', 'w')",)

    write_one(tmp_path, SMALL | {"n_classes": Bomb()})
    with pytest.raises(UntrustedError, match=r"builtin.*eval"):
        CnnWildPark.read(tmp_path, ReadOptions())
    assert not Path("bomb").exists()


def test_a_run_whose_config_changes_is_refused(tmp_path: Path) -> None:
    write_park(tmp_path / "p", {"run": SMALL}, (0, 10), "dict")
    other = SMALL | {"activation": ["tanh", "tanh"]}
    save(
        checkpoint(other, park_state(SMALL, 1), 10, 0.5), tmp_path / "p" / "run" / "checkpoint_000010" / "checkpoint.pt"
    )
    with pytest.raises(FormatError, match="another config than the first checkpoint of its run"):
        converted(tmp_path / "p", tmp_path / "x.zoo")


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        ({"train": {"path": ["a"], "score": [], "step": [1]}}, "1 paths, 0 scores and 1 steps"),
        ({"train": {"path": ["run/checkpoint_000000"], "score": [45.2], "step": [1]}}, r"score is 45\.2"),
        ({"train": {"path": ["run/checkpoint_000000"], "score": ["nine"], "step": [1]}}, "score is 'nine'"),
        ({"train": {"path": ["run/checkpoint_000000"], "score": [0.1], "step": [1e300]}}, "step is '1e\\+300'"),
        ({"train": {"path": ["r/c", "x/r/c"], "score": [0.1, 0.1], "step": [1, 1]}}, "lists r/c twice"),
        ({"train": {"path": "abc", "score": [0.1], "step": [1]}}, "no list 'path'"),
    ],
)
def test_split_files_of_another_form_are_refused(tmp_path: Path, splits: Any, problem: str) -> None:
    write_park(tmp_path / "p", {"run": SMALL}, (0,), "dict")
    (tmp_path / "p" / "cnn_park_splits.json").write_text(json.dumps(splits))
    with pytest.raises(FormatError, match=problem):
        CnnWildPark.read(tmp_path / "p", ReadOptions())


def test_other_sources_are_refused(tmp_path: Path) -> None:
    assert not CnnWildPark.detect(tmp_path)
    with pytest.raises(FormatError, match="holds no checkpoints"):
        CnnWildPark.read(tmp_path, ReadOptions())
    with pytest.raises(MissingError):
        CnnWildPark.read(tmp_path / "nothing.zip", ReadOptions())
    (tmp_path / "text.zip").write_text("no zip")
    assert not CnnWildPark.detect(tmp_path / "text.zip")
    with pytest.raises(FormatError, match=r"text\.zip"):
        CnnWildPark.read(tmp_path / "text.zip", ReadOptions())


def test_runs_whose_names_could_rewrite_a_terminal_are_refused(tmp_path: Path) -> None:
    write_park(tmp_path / "p", {"run\x1b[2J\n": SMALL}, (0,), "dict")
    with pytest.raises(FormatError, match="no control characters") as caught:
        CnnWildPark.read(tmp_path / "p", ReadOptions())
    assert "\x1b" not in str(caught.value)


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    write_park(tmp_path / "p", {"run": SMALL}, (0,), "dict")
    archive = zip_park(tmp_path / "p", tmp_path / "p.zip")
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(FormatError, match=r"p\.zip"):
        CnnWildPark.read(archive, ReadOptions())


def test_an_archive_whose_names_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        file.writestr("../../run/checkpoint_0/checkpoint.pt", b"")
    with pytest.raises(UntrustedError, match="leads out of its folder"):
        CnnWildPark.read(tmp_path / "p.zip", ReadOptions())
