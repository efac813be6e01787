"""SIRENs whose layers are called seq.{0,1,2}, two of sines of omega_0 = 30 and a linear one: three kinds of zoos.

mnist-inrs: `mnist_png_{training|testing}_{label}_{image id}/checkpoints/model_final.pth`, widths [2, 32, 32, 1], and
0.5 added to the output, for images in [0, 1]. The first coordinate is a pixel's column, since the publishers render on
numpy's default meshgrid. `mnist_splits.json` lists absolute paths of its writer's machine.

fmnist_inrs: `{train,test}/model_{number}.pth`, the same networks. The label is an entry of the state_dict.
`splits.json` lists paths, of which the last two parts count: validation lies under train/.

SIRENs of other widths: `ckpts/{label:02d}/{image:06d}_{seed:07d}.ckpt` = `{image_idx, params}`. Nothing is added to the
output, and the targets are the images scaled by the mean and standard deviation of ImageNet. `{start}_{end}.json` holds
PSNR: `image` and its keys count from 0 within that range of its split, so an image's place is start + image, and test
images count on from the training images. The first coordinate is a pixel's column. Where a source doesn't say which
images it shows, neither does the zoo.
"""

import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from zootool.architecture import Architecture
from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, printable
from zootool.formats import checked_values as checked
from zootool.formats.checked_values import Splits
from zootool.formats.collection import CollectedImages, usual_images
from zootool.formats.skeleton import NUMBER, TEXT, WHOLE, FileReader, Network
from zootool.nets.lay_out import renamed
from zootool.nets.rendering import GRIDS
from zootool.nets.siren import siren_architecture
from zootool.untrusted.bounded_text import read_json
from zootool.untrusted.file_stack import Tensors, found_in, state_dict_of
from zootool.untrusted.lazy_tensor import LazyTensor
from zootool.untrusted.safe_load import load_checkpoint

_OMEGA_0 = 30.0
_MAX_WIDTH = 4096
_NUM_MNIST = 60_000
_NUM_CIFAR = 50_000
# As many as the published split of mnist-inrs has: 5,000 of the 60,000 training images.
_SHARES = (11 / 12, 1 / 12, 0.0)


class _OffsetSirens(FileReader):
    """What mnist-inrs and fmnist_inrs share: the networks, and that the test images are held apart."""

    KIND = "siren"
    CONVENTIONS: ClassVar = {"omega_0": _OMEGA_0, "output_offset": 0.5, "initial_biases": "zero"}
    HELD_APART: ClassVar[str]

    def architecture(self, network: Network) -> Architecture:
        return _seq_siren((32, 32), 1, output_offset=0.5)

    def splits(self) -> Splits:
        """Those of the split file, or the test images held apart and the others drawn by their names."""
        names = self.column("name")
        file = checked.find_splits(self.options.splits, *self.split_files())
        if file is not None:
            return checked.published_splits(file, names, self.name_in)
        training = [network.row["name"] for network in self.networks if not network.row["is_test"]]
        drawn, rule = seeded_split(training, _SHARES, self.options.seed) if training else ((), "")
        of_name = dict(zip(training, drawn, strict=True))
        return Splits([of_name.get(name, "test") for name in names], f"{self.HELD_APART} {rule}")

    @abstractmethod
    def split_files(self) -> list[Path]:
        """Where the split file may lie."""

    @abstractmethod
    def name_in(self, entry: object, where: str) -> str:
        """The name of a network in an entry of a split file."""


class MnistInrs(_OffsetSirens):
    """A SIREN per MNIST image, a folder per network. The rest of the path doesn't count: it may say "train"."""

    NAME = "mnist-inrs"
    TITLE = "mnist-inrs: SIRENs of MNIST, a folder per network"
    PARTS = (r"(mnist_png_(training|testing)_(\d{1,3})_(\d{1,9}))", "checkpoints", r"model_final\.pth")
    COLUMNS = pa.schema({"net_id": TEXT, "source_index": WHOLE, "label": WHOLE, "split": TEXT, "run_id": TEXT})
    IMAGES = (usual_images("mnist", grid=GRIDS["xy"], target=(0.0, 1.0)),)
    CONVENTIONS: ClassVar = {
        **_OffsetSirens.CONVENTIONS,
        "source_index": "the image's id; test images count on from 60,000",
    }
    TWICE = ("are of one image", "keep one of them")
    HELD_APART = "testing folders; of the others"

    def network(self, file: Path, match: re.Match[str]) -> Network:
        is_test, label, image = match[2] == "testing", int(match[3]), int(match[4])
        if label > 9 or (not is_test and image >= _NUM_MNIST):
            raise FormatError(f"{printable(file)}: MNIST has no such label or image", hint="remove this folder")
        index = image + _NUM_MNIST * is_test
        row = {"net_id": f"{index:06d}", "source_index": index, "label": label, "run_id": f"{index:06d}"}
        return Network(file, (index,), {**row, "name": match[1], "is_test": is_test})

    def split_files(self) -> list[Path]:
        return [folder / "mnist_splits.json" for folder in (self.path, self.path.absolute().parent)]

    def name_in(self, entry: object, where: str) -> str:
        parts = [part for part in checked.path_tail(entry, 3, where) if re.fullmatch(self.PARTS[0], part)]
        if not parts:
            raise FormatError(f"{where} lists {printable(entry, 120)!r}, which names no network of this format")
        return parts[-1]


class FashionInrs(_OffsetSirens):
    """A SIREN per Fashion-MNIST image by its number; reading the labels opens every file."""

    NAME = "fmnist-inrs"
    TITLE = "fmnist_inrs: SIRENs of Fashion-MNIST, train/ and test/"
    FOLDERS = ("train", "test")
    PARTS = (r"model_(\d{1,9})\.pth",)
    COLUMNS = pa.schema({"net_id": TEXT, "label": WHOLE, "split": TEXT, "run_id": TEXT})
    HELD_APART = "the folder test; of train"
    # Nobody published how these are rendered; they are the networks of mnist-inrs, which are on xy.
    IMAGES = (usual_images("fashion-mnist", grid=GRIDS["xy"], target=(0.0, 1.0), assumed=("grid",)),)

    def network(self, file: Path, match: re.Match[str]) -> Network | None:
        folder, number = file.parent.name, int(match[1])
        if folder not in self.FOLDERS:
            return None
        row = {"net_id": f"{folder}-{number:06d}", "run_id": f"{folder}-{number:06d}"}
        is_test = folder == "test"
        return Network(file, (is_test, number), {**row, "name": f"{folder}/{file.name}", "is_test": is_test})

    def complete(self) -> None:
        """The labels, which are entries of the state_dicts, as numbers or tensors."""
        for network in self.networks:
            state = found_in(load_checkpoint(network.source))
            label = _scalar_of(state.tensors.get("label", state.others.get("label")))
            network.row["label"] = checked.whole_number(label, f"{printable(network.source)}: the label", high=9)

    def split_files(self) -> list[Path]:
        return [self.path / "splits.json"]

    def name_in(self, entry: object, where: str) -> str:
        return "/".join(checked.path_tail(entry, 2, where))

    def splits(self) -> Splits:
        found = super().splits()
        note = "the files' numbers aren't said to be indices of images: there is no source_index"
        return found._replace(notes=(note, *found.notes))

    def tensors(self, network: Network) -> Tensors:
        return {key: tensor for key, tensor in state_dict_of(network.source).items() if key != "label"}


class WideInrs(FileReader):
    """SIRENs of other widths, by image and seed; splits are drawn by image, whose seeds stay together."""

    NAME = "wide-inrs"
    TITLE = "SIRENs of other widths, ckpts/{label}/{image}_{seed}.ckpt"
    KIND = "siren"
    FOLDERS = ("ckpts",)
    PARTS = (r"(\d{2,3})", r"(\d{6})_(\d{7})\.ckpt")
    COLUMNS = pa.schema({
        "net_id": TEXT, "source_index": WHOLE, "copy": pa.int32(), "label": WHOLE, "split": TEXT, "run_id": TEXT,
        "seed": WHOLE, "psnr": NUMBER,
    })  # fmt: skip
    RUN = ("image", "image")
    TWICE = (
        "have one number of an image and one seed",
        "keep one of them, or make two folders of two ranges of images",
    )

    def network(self, file: Path, match: re.Match[str]) -> Network:
        image, seed = match[2], int(match[3])
        net_id = f"{image}-{match[3]}"
        row = {"net_id": net_id, "image": image, "label": int(match[1]), "run_id": net_id, "seed": seed}
        return Network(file, (int(image), seed), row)

    def complete(self) -> None:
        """The copies of an image, its place in its set where that can be known, and its PSNR."""
        self._images = _images_of(self.path)
        reports = _reports(self.path)
        first, self._where, odd = self._first_index(list(reports.values()))
        copies: dict[int, int] = {}
        for network in self.networks:
            image = network.place[0]
            copies[image] = copies.get(image, -1) + 1
            network.row.update({"copy": copies[image], "source_index": None if first is None else first + image})
        psnr, notes = _read_psnr(reports, has_copies=len(copies) < len(self.networks))
        for network in self.networks if psnr else ():
            network.row["psnr"] = psnr.get(network.place[0])
        self._notes = (*odd, *notes)

    def _first_index(self, ranges: list[tuple[int, int]]) -> tuple[int | None, str, tuple[str, ...]]:
        """The place of image 0 in its set, None where nobody can know; how it is known; what is odd about it."""
        if len(ranges) > 1:
            note = f"images are counted from 0 within each of {len(ranges)} ranges: which ones they are isn't known"
            return None, "unknown", (note,)
        start, end = ranges[0] if ranges else (0, 0)
        words = re.split(r"[^a-z]+", self.path.absolute().name.lower())
        is_test = self._images.name != _UNSTATED and not {"test", "testing"}.isdisjoint(words)
        beyond = sum(network.place[0] >= end - start for network in self.networks) if ranges else 0
        notes = (f"{beyond:,} networks are of images beyond the range {start}_{end}",) if beyond else ()
        where = f"the image's number from {start:,} on, in the {'test' if is_test else 'training'} images"
        return start + _NUM_CIFAR * is_test, where, notes

    def table(self) -> pa.Table:
        has_psnr = "psnr" in self.networks[0].row
        return super().table() if has_psnr else super().table().drop_columns(["psnr"])

    def architecture(self, network: Network) -> Architecture:
        """The widths are those of the first network."""
        tensors = self.tensors(network)
        biases = [tensors.get(f"seq.{layer}.bias") for layer in range(3)]
        shapes = [() if bias is None else bias.shape for bias in biases]
        if any(len(shape) != 1 or not 1 <= shape[0] <= _MAX_WIDTH for shape in shapes):
            where = printable(network.source)
            raise FormatError(f"{where} has biases seq.0..2 of {shapes}, wanted are three layers")
        first, second, last = (shape[0] for shape in shapes)
        return _seq_siren((first, second), last, output_offset=0.0)

    def about(self) -> dict[str, Any]:
        """Targets were scaled by the mean and standard deviation of ImageNet."""
        conventions = {
            "omega_0": _OMEGA_0,
            "output_offset": 0.0,
            "target": "(pixel / 255 - mean) / std per channel",
            "target_mean": [0.485, 0.456, 0.406],
            "target_std": [0.229, 0.224, 0.225],
            "source_index": self._where,
        }
        return {"image_sets": (self._images,), "conventions": conventions, "notes": self._notes}

    def tensors(self, network: Network) -> Tensors:
        """Those of `params`, once the image that the file says it shows is the one that its name says."""
        loaded = load_checkpoint(network.source)
        if isinstance(loaded.value, dict):
            found = _scalar_of(loaded.value.get("image_idx"))
            where = f"{printable(network.source)}: image_idx"
            if checked.whole_number(found, where) != network.place[0]:
                shown = printable(found, 20)
                raise FormatError(f"{where} is {shown}, its name says another image", hint="rename the file")
        return found_in(loaded, "params").tensors


_UNSTATED = "unstated"


def _images_of(path: Path) -> CollectedImages:
    """The image set that the folder's name says, or its parent's where the folder is a split."""
    whole = path.absolute()
    is_split = whole.name.lower() in ("train", "training", "val", "validation", "test", "testing")
    found = re.search(r"cifar[-_]?(100|10)(?!\d)", (whole.parent if is_split else whole).name.lower())
    if found is None:
        return CollectedImages(_UNSTATED)
    return usual_images(f"cifar{found[1]}", grid=GRIDS["xy"], assumed=("source_index",))


def _reports(path: Path) -> dict[Path, tuple[int, int]]:
    """The files {start}_{end}.json and their ranges."""
    files = [file for folder in (path, path / "ckpts") for file in sorted(folder.iterdir()) if file.is_file()]
    matches = [(file, re.fullmatch(r"(\d{1,9})_(\d{1,9})\.json", file.name)) for file in files]
    return {file: (int(match[1]), int(match[2])) for file, match in matches if match}


def _read_psnr(
    reports: Mapping[Path, tuple[int, int]], has_copies: bool
) -> tuple[dict[int, float | None], tuple[str, ...]]:
    """PSNR by image from files {start}_{end}.json, an object by image or a list, both from 0 on; and what is odd."""
    by_image: dict[int, float | None] = {}
    notes: tuple[str, ...] = ()
    for report, (start, end) in reports.items():
        content = read_json(report)
        content = content.get("psnr", content) if isinstance(content, dict) else content
        if isinstance(content, list) and len(content) == end - start:
            content = dict(enumerate(content))
        if not isinstance(content, dict):
            notes += (f"{printable(report.name, 60)} says nothing by image: its PSNR is left out",)
            continue
        where = printable(report)
        by_image |= {
            checked.whole_number(image, where): checked.finite_number(value, where) for image, value in content.items()
        }
    if by_image and len(reports) > 1:
        return {}, (*notes, "PSNR is given by image within several ranges: it is left out")
    if by_image and has_copies:
        return {}, (*notes, "PSNR is given by image, but images have several networks: it is left out")
    return by_image, notes


def _scalar_of(value: Any) -> Any:
    """The number in a tensor of one, None for other tensors; anything else as it is."""
    if not isinstance(value, LazyTensor):
        return value
    return value.read().reshape(-1).tolist()[0] if value.shape in ((), (1,)) else None


def _seq_siren(hidden: tuple[int, ...], num_outputs: int, output_offset: float) -> Architecture:
    """A SIREN from two coordinates with the keys seq.{layer}.weight and seq.{layer}.bias."""
    siren = siren_architecture(2, hidden, num_outputs, _OMEGA_0, output_offset)
    return renamed(siren, {s.key: s.key.replace("net.", "seq.").replace(".linear", "") for s in siren.slots})
