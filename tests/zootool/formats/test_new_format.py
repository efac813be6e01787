"""What a new format takes: one file in the readers' folder, and nothing else is touched."""

from pathlib import Path

import pytest

from tests.zootool.formats.converting import assert_claimed_by, assert_holds, column, converted, notes_of, save
from tests.zootool.formats.sirens_here import nfn_state
from zootool import formats
from zootool.errors import FormatError, UsageError
from zootool.formats import readers
from zootool.formats.options import ReadOptions
from zootool.formats.reading import read_collection

READER = '''
"""SIRENs of textures, `by_epoch/{texture}_{epoch}.pth`."""

import re
from pathlib import Path

import pyarrow as pa

from zootool.architecture import Architecture
from zootool.formats.skeleton import TEXT, WHOLE, FileReader, Network
from zootool.nets.siren import siren_architecture


class TextureSirens(FileReader):
    """Every network in by_epoch/, by texture and epoch."""

    NAME = "texture-sirens"
    TITLE = "SIRENs of textures, by_epoch/"
    KIND = "siren"
    FOLDERS = ("by_epoch",)
    PARTS = (r"([a-z]+)_(\\d{1,9})\\.pth",)
    COLUMNS = pa.schema({"net_id": TEXT, "split": TEXT, "run_id": TEXT, "training_step": WHOLE})

    def network(self, file: Path, match: re.Match[str]) -> Network:
        texture, epoch = match[1], int(match[2])
        row = {"net_id": f"{texture}-{epoch:04d}", "run_id": texture, "training_step": epoch}
        return Network(file, (texture, epoch), row)

    def architecture(self, network: Network) -> Architecture:
        return siren_architecture(2, (32, 32), 1)
'''


@pytest.fixture
def reader_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, as if it lay in the folder of the package."""
    folder = tmp_path / "more_formats"
    folder.mkdir()
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(folder)])
    monkeypatch.delitem(__import__("sys").modules, "zootool.formats.texture_sirens", raising=False)
    (folder / "texture_sirens.py").write_text(READER)
    return folder / "texture_sirens.py"


def write_textures(root: Path) -> dict:
    states = {}
    for seed, (texture, epoch) in enumerate([("wood", 0), ("wood", 10), ("stone", 0), ("stone", 10), ("sand", 10)]):
        states[f"{texture}-{epoch:04d}"] = nfn_state(seed)
        save(nfn_state(seed), root / "by_epoch" / f"{texture}_{epoch}.pth")
    return states


@pytest.mark.usefixtures("reader_file")
def test_a_file_in_the_folder_is_a_reader(tmp_path: Path) -> None:
    states = write_textures(tmp_path / "textures")
    assert_claimed_by("texture-sirens", tmp_path / "textures")
    zoo = converted(tmp_path / "textures", tmp_path / "x.zoo")
    assert_holds(zoo, states)
    assert list(column(zoo, "training_step").values()) == [10, 0, 10, 0, 10]
    assert zoo.info.recipe["splits"].startswith("by run: sorted names")
    assert notes_of(zoo) == ""


@pytest.mark.usefixtures("reader_file")
def test_what_the_skeleton_does_holds_for_it(tmp_path: Path) -> None:
    write_textures(tmp_path)
    (tmp_path / "by_epoch" / "readme.txt").write_text("no network")
    reader = readers()["texture-sirens"]
    assert reader.read(tmp_path, ReadOptions(steps=(0,))).table["net_id"].to_pylist() == ["stone-0000", "wood-0000"]
    with pytest.raises(UsageError, match="no network is of training step 5: there are 0, 10"):
        reader.read(tmp_path, ReadOptions(steps=(5,)))
    assert len(read_collection(tmp_path, None, ReadOptions(exclude=("wood_*",)))) == 3
    save(nfn_state(9), tmp_path / "by_epoch" / "wood_010.pth")
    with pytest.raises(FormatError, match=r"wood_010\.pth and .*wood_10\.pth are one network"):
        reader.read(tmp_path, ReadOptions())
    with pytest.raises(FormatError, match="holds no networks of this format"):
        reader.read(tmp_path / "by_epoch", ReadOptions())


def test_without_its_file_it_is_none() -> None:
    assert "texture-sirens" not in readers()
