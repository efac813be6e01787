import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from cli.main import app
from zootool import open_zoo

CASES = Path(__file__).parents[1] / "cases"
RUNNER = CliRunner()


def zoo(*arguments: object) -> tuple[int, str]:
    done = RUNNER.invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    folder = tmp_path / "nets"
    folder.mkdir()
    for i in range(12):
        torch.manual_seed(i)
        state = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).state_dict()
        torch.save({"state_dict": state, "epoch": i % 3}, folder / f"{i:02d}.pth")
    rows = [f"{i:02d}.pth,run{i // 3},{i % 3},{'train' if i < 6 else 'test'},[red]{i}" for i in range(12)]
    (folder / "labels.csv").write_text("\n".join(["path,run_id,training_step,split,label", *rows]))
    return folder


def test_show_counts_without_converting(nets: Path) -> None:
    code, text = zoo("show", nets)
    assert code == 0
    assert "networks       12 (mlp)" in text
    assert "2-3-1: 12 networks of 13 weights and biases" in text
    assert "splits         test 6, train 6" in text
    assert "[red]0 1" in text  # a label is text, not a colour
    assert "no problems in 12 networks" in text
    code, text = zoo("show", nets, "--json")
    assert json.loads(text)["splits"] == {"test": 6, "train": 6}
    assert not list(nets.parent.glob("*.zoo"))


def test_show_names_the_first_problems(nets: Path) -> None:
    state = torch.load(nets / "03.pth", weights_only=True)
    state["state_dict"]["0.weight"][0, 0] = float("nan")
    torch.save(state, nets / "03.pth")
    code, text = zoo("show", nets)
    assert code == 0
    assert "03.pth: 0.weight holds NaN or infinities" in text


def test_convert_reads_a_folder_and_selects_the_last_checkpoint_of_each_run(nets: Path, tmp_path: Path) -> None:
    code, text = zoo("convert", nets, tmp_path / "x.zoo")
    assert code == 0
    assert "12 networks" in text
    code, text = zoo("subset", tmp_path / "x.zoo", tmp_path / "last.zoo", "--where", "last=true,split=train")
    assert code == 0
    assert "2 networks" in text
    code, text = zoo("convert", nets, tmp_path / "x.zoo", "--append")
    assert code == 0
    assert "had 12 of them already" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "absent"], 4, "there is nothing at absent"),
        (["show", "NETS", "--format", "fodler"], 2, "there is no format 'fodler'"),
        (["convert", "NETS", "y.zoo", "--steps", "a,b"], 2, "can't read --steps a,b"),
        (["convert", "NETS", "y.zoo", "--labels", "absent.csv"], 4, "there is no file absent.csv"),
        (["collect", "cnn-wild-parc"], 2, "unknown published zoo 'cnn-wild-parc'"),
        (["collect", "nfn-siren-mnist"], 4, "has no stable links"),
        (["collect", "NETS"], 2, "is here already"),
        (["collect", "cnn-wild-park"], 2, "the download may be large"),
    ],
)
def test_mistakes_are_named(nets: Path, arguments: list[str], code: int, message: str) -> None:
    found, text = zoo(*(nets if word == "NETS" else word for word in arguments))
    assert (found, message in " ".join(text.split())) == (code, True), text


def test_show_sends_stores_and_unit_folders_to_their_commands(nets: Path, tmp_path: Path) -> None:
    zoo("convert", nets, tmp_path / "x.zoo")
    code, text = zoo("show", tmp_path / "x.zoo")
    assert (code, "zoo info" in text) == (2, True)


def test_collect_lists_what_it_knows_and_plans(tmp_path: Path) -> None:
    code, text = zoo("collect")
    assert code == 0
    assert "cnn-wild-park" in text
    code, text = zoo("collect", "cnn-wild-park", "--plan", "--folder", tmp_path, "--json")
    assert code == 0
    assert json.loads(text)["to_fetch"] == ["cnn-wild-park/cnn_wild_park.zip"]
    assert not list(tmp_path.iterdir())


def test_weights_are_chosen_by_a_key_where_several_are_meant(tmp_path: Path) -> None:
    first, second = (nn.Linear(2, size).state_dict() for size in (3, 5))
    torch.save({"nets": {"generator": first, "discriminator": second}}, tmp_path / "gan.pth")
    code, text = zoo("show", tmp_path / "gan.pth")
    assert code == 3
    assert "2 state_dicts (nets.generator, nets.discriminator)" in text
    assert "--weights nets.generator" in text
    code, text = zoo("convert", tmp_path / "gan.pth", tmp_path / "d.zoo", "--weights", "nets.discriminator")
    assert code == 0
    found = open_zoo(tmp_path / "d.zoo").state_dict(0)
    assert all(torch.equal(found[key], second[key]) for key in second)
    code, text = zoo("show", tmp_path / "gan.pth", "--weights", "nets.generater")
    assert code == 3
    assert "nothing under 'nets.generater': nets.generator, nets.discriminator" in text


def test_what_was_passed_over_is_noted(tmp_path: Path) -> None:
    state, average = nn.Linear(2, 3).state_dict(), nn.Linear(2, 3).state_dict()
    torch.save({"net": state, "ema": average}, tmp_path / "a.pth")
    for command in (("show", tmp_path / "a.pth"), ("convert", tmp_path / "a.pth", tmp_path / "x.zoo")):
        code, text = zoo(*command)
        assert code == 0
        assert "the weights are those of net; passed over: ema" in " ".join(text.split())
    assert torch.equal(open_zoo(tmp_path / "x.zoo").state_dict(0)["weight"], state["weight"])
    code, _ = zoo("convert", tmp_path / "a.pth", tmp_path / "y.zoo", "--weights", "ema")
    assert code == 0
    assert torch.equal(open_zoo(tmp_path / "y.zoo").state_dict(0)["weight"], average["weight"])


def test_weights_are_asked_of_plain_folders_alone(nets: Path) -> None:
    code, text = zoo("show", nets, "--format", "nfn-siren", "--weights", "ema")
    assert code == 2
    assert "--weights is for plain folders" in text


@pytest.mark.parametrize("path", sorted((CASES / "weights_not_found").glob("*/*")), ids=lambda path: path.parent.name)
def test_weights_are_found_beside_other_tensors_and_under_any_key(path: Path, tmp_path: Path) -> None:
    code, text = zoo("convert", path, tmp_path / "x.zoo")
    assert code == 0, text
    value = torch.load(path, weights_only=True)
    wanted = next(item for item in value.values() if isinstance(item, dict) and any("weight" in key for key in item))
    found = open_zoo(tmp_path / "x.zoo").state_dict(0)
    wanted = {key.removeprefix("module."): tensor for key, tensor in wanted.items()}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
