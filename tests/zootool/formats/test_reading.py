"""What isn't a network among networks: all of it named at once, or left out and recorded."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from cli.main import app
from tests.zootool.formats.converting import column, converted, notes_of
from tests.zootool.formats.sirens_here import write_fmnist_inrs, write_nfn
from zootool.conversion.convert import convert
from zootool.errors import BadDataError, UntrustedError, UsageError, ZooError
from zootool.formats.bad_files import without_bad
from zootool.formats.options import ReadOptions
from zootool.formats.reading import read_collection
from zootool.zoo import open_zoo

CASES = Path(__file__).parents[2] / "cases"
BAD = CASES / "one_file_stops_all" / "one_bad_of_many"
TRAINER = CASES / "one_file_stops_all" / "trainer_folder"


def mlp(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def flip(path: Path) -> None:
    """Damage that the header doesn't show: the last byte of a tensor."""
    content = bytearray(path.read_bytes())
    tensor = next(iter(torch.load(path, weights_only=True).values()))
    content[content.index(tensor.numpy().tobytes())] ^= 0xFF
    path.write_bytes(content)


def refused(path: Path, **reading: Any) -> ZooError:
    with pytest.raises(ZooError) as caught:
        read_collection(path, None, ReadOptions(**reading))
    return caught.value


def test_what_trainers_leave_beside_a_network_is_named_at_once() -> None:
    error = refused(TRAINER)
    assert "3 of 4 can't be read" in error.message
    for line in ("optimizer.pt holds an optimizer's state", "rng_state.pth holds a random generator's state",
                 "scheduler.pt holds a scheduler's state"):  # fmt: skip
        assert line in error.message
    assert "--exclude 'optimizer.pt' --exclude 'rng_state.pth' --exclude 'scheduler.pt'" in str(error.hint)


def test_excluded_files_are_left_out_and_recorded(tmp_path: Path) -> None:
    patterns = ("optimizer.pt", "*.pth", "trainer_folder/scheduler.pt")
    zoo = converted(TRAINER, tmp_path / "x.zoo", exclude=patterns)
    assert list(column(zoo, "split")) == ["model.safetensors"]
    assert zoo.info.provenance["num_left_out"] == 3
    assert zoo.info.provenance["left_out"][0] == {"file": "optimizer.pt", "reason": "--exclude optimizer.pt"}
    error = refused(TRAINER, exclude=("optimiser.pt",))
    assert isinstance(error, UsageError)
    assert "'optimiser.pt' fits nothing" in error.message


def test_excluded_folders_are_not_entered(tmp_path: Path) -> None:
    for name in ("a", "old/b"):
        (tmp_path / "nets" / name).mkdir(parents=True)
        torch.save(mlp(0), tmp_path / "nets" / name / "n.pt")
    found = read_collection(tmp_path / "nets", None, ReadOptions(exclude=("old",)))
    assert found.table["net_id"].to_pylist() == ["a/n.pt"]
    assert [left.file for left in found.left_out] == ["old/b/n.pt"]


def test_a_cut_off_file_is_left_out_of_a_folder(tmp_path: Path) -> None:
    assert "n2.pth" in refused(BAD).message
    assert "--exclude 'n2.pth' or --skip-bad" in str(refused(BAD).hint)
    zoo = converted(BAD, tmp_path / "x.zoo", skip_bad=True)
    assert sorted(column(zoo, "split")) == ["n0.pth", "n1.pth", "n3.pth"]
    (left,) = zoo.info.provenance["left_out"]
    assert left["file"] == "n2.pth"
    assert "cut off" in left["reason"]
    assert str(BAD) not in left["reason"], "equal sources give equal zoos wherever they lie"


def test_many_bad_files_are_listed_up_to_twenty(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i:02d}.pt").write_bytes(b"<html>not found</html>")
    torch.save(mlp(0), tmp_path / "good.pt")
    error = refused(tmp_path)
    assert "30 of 31 can't be read" in error.message
    assert error.message.count("is a web page") == 20
    assert "and 10 more" in error.message
    assert "--exclude PATTERN or --skip-bad" in str(error.hint)


def test_nothing_is_skipped_where_nothing_is_left(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(b"<html>not found</html>")
    assert "2 of 2 can't be read" in refused(tmp_path, skip_bad=True).message


def test_a_fault_of_ours_is_never_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zootool.formats import plain_folder

    torch.save(mlp(0), tmp_path / "a.pt")
    torch.save(mlp(1), tmp_path / "b.pt")

    def broken(path: Path) -> None:
        raise IndexError("ours")

    monkeypatch.setattr(plain_folder, "load_network", broken)
    with pytest.raises(IndexError, match="ours"):
        read_collection(tmp_path, None, ReadOptions(skip_bad=True))


@pytest.mark.parametrize("damage", [cut, flip])
def test_damaged_networks_of_a_published_set_are_left_out(tmp_path: Path, damage: Any) -> None:
    root = tmp_path / "siren_mnist_wts"
    write_nfn(root, [(0, 3, i) for i in range(6)])
    for i in (0, 4):
        damage(root / "randinit_smaller_3s" / f"net{i}.pth")
    zoo = converted(root, tmp_path / "x.zoo", skip_bad=True)
    assert column(zoo, "source_index") == {f"{i:06d}-00": i for i in (1, 2, 3, 5)}
    assert zoo.info.provenance["num_left_out"] == 2
    assert all("net" in left["reason"] or "net" in left["file"] for left in zoo.info.provenance["left_out"])


def test_damage_that_conversion_meets_is_named_whole(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    write_nfn(root, [(0, 3, i) for i in range(6)])
    for i in (2, 4):
        flip(root / "randinit_smaller_3s" / f"net{i}.pth")
    with pytest.raises(BadDataError) as caught:
        convert(root, tmp_path / "x.zoo")
    assert "2 of 6 can't be read" in caught.value.message
    assert "net2.pth" in caught.value.message
    assert "net4.pth" in caught.value.message
    assert caught.value.hint == "leave out what can't be read by --skip-bad"


def test_a_cut_off_file_whose_label_is_wanted_is_left_out(tmp_path: Path) -> None:
    write_fmnist_inrs(tmp_path / "f", [("train", i, 1) for i in range(3)])
    cut(tmp_path / "f" / "train" / "model_1.pth")
    zoo = converted(tmp_path / "f", tmp_path / "x.zoo", skip_bad=True)
    assert list(column(zoo, "label")) == ["train-000000", "train-000002"]


@pytest.mark.parametrize("name", ["architecture", "digest"])
def test_columns_of_the_stores_names_get_others(tmp_path: Path, name: str) -> None:
    zoo = converted(CASES / "reserved_keys" / f"column_{name}", tmp_path / "x.zoo")
    assert isinstance(column(zoo, f"file_{name}")["a.pt"], str)
    assert f"the column {name} became file_{name}" in notes_of(zoo)


def test_reserved_names_in_tables_and_metadata_get_others(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = tmp_path / "nets"
    folder.mkdir()
    save_file(mlp(0), folder / "a.safetensors", {"digest": "d", "license": "MIT", "format": "pt"})
    torch.save({"state_dict": mlp(1), "net_id": "mine"}, folder / "b.pt")
    (folder / "labels.csv").write_text("path,edge_offset,file_digest,split\na.safetensors,1,x,train\nb.pt,2,y,test\n")
    zoo = converted(folder, tmp_path / "x.zoo")
    assert column(zoo, "file_edge_offset") == {"a.safetensors": 1, "b.pt": 2}
    assert column(zoo, "file_digest") == {"a.safetensors": "x", "b.pt": "y"}
    assert column(zoo, "file_digest_") == {"a.safetensors": "d", "b.pt": None}
    assert column(zoo, "license")["a.safetensors"] == "MIT"
    assert column(zoo, "file_net_id")["b.pt"] == "mine"
    assert "format" not in zoo.nets


def test_the_commands_say_what_they_leave_out(tmp_path: Path) -> None:
    shutil.copytree(TRAINER, tmp_path / "nets")
    runner = CliRunner()
    text = runner.invoke(app, ["show", str(tmp_path / "nets"), "--skip-bad"]).output
    assert "left out       optimizer.pt: holds an optimizer's state and no network" in text
    text = runner.invoke(app, ["convert", str(tmp_path / "nets"), str(tmp_path / "x.zoo"), "--skip-bad"]).output
    assert "left out scheduler.pt: holds a scheduler's state" in text
    text = " ".join(runner.invoke(app, ["info", str(tmp_path / "x.zoo")]).output.split())
    assert "3 files: optimizer.pt: holds an optimizer's state" in text
    done = runner.invoke(app, ["convert", str(tmp_path / "nets"), str(tmp_path / "y.zoo"), "--grid", "xy"])
    assert done.exit_code != 0


def test_a_declared_grid_is_recorded(tmp_path: Path) -> None:
    write_fmnist_inrs(tmp_path / "f", [("train", i, 1) for i in range(3)])
    assert "the grid is taken for linspace(-1, 1), xy" in notes_of(converted(tmp_path / "f", tmp_path / "a.zoo"))
    zoo = converted(tmp_path / "f", tmp_path / "b.zoo", grid="ij")
    assert zoo.info.sources[0].grid == "linspace(-1, 1), ij"
    assert "grid" not in notes_of(zoo)
    with pytest.raises(UsageError, match="names no images"):
        read_collection(BAD, None, ReadOptions(grid="ij", exclude=("n2.pth",)))


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("true",))


def test_hostile_files_keep_their_own_error(tmp_path: Path) -> None:
    torch.save(mlp(0), tmp_path / "a.pt")
    torch.save({"0.weight": _Evil()}, tmp_path / "b.pt")
    with pytest.raises(UntrustedError, match=r"b\.pt"):
        read_collection(tmp_path, None, ReadOptions())
    assert len(read_collection(tmp_path, None, ReadOptions(skip_bad=True))) == 1


def test_a_folder_of_one_network_without_need_of_reading_is_whole(tmp_path: Path) -> None:
    torch.save(mlp(0), tmp_path / "a.pt")
    convert(tmp_path, tmp_path / "x.zoo", reading=ReadOptions(skip_bad=True))
    zoo = open_zoo(tmp_path / "x.zoo")
    assert "left_out" not in zoo.info.provenance
    np.testing.assert_array_equal(zoo.state_dict(0)["0.weight"].numpy(), mlp(0)["0.weight"].numpy())


def test_faults_that_are_not_a_files_are_never_skipped() -> None:
    found = read_collection(BAD, None, ReadOptions(exclude=("n2.pth",)))

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        if 0 in rows:
            raise UsageError("a fault of the command")
        return found.load(rows)

    with pytest.raises(UsageError, match="a fault of the command"):
        without_bad(replace(found, load=load))
