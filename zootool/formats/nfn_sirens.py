"""SIREN sets of the neural-functional papers: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, one file per network.

`siren_{set}_wts/randinit_smaller[_aug{i}]_{label}s/net{index}.pth`: `_aug{i}` is copy i + 1, the folder without it is
copy 0; the index counts the training images, then the test images. The label stands in the folder's name alone. Splits
go by index.

Their own conversion writes two flat tensors per network, `siren_{set}_graph_data/.../net{index}.pt` = `{'e', 'b'}`: e
holds each layer's weights source by source (`W.T.flatten()`), b the biases. They become the layers' own tensors again.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.errors import FormatError, printable
from zootool.formats.checked_values import Splits
from zootool.formats.collection import usual_images
from zootool.formats.skeleton import TEXT, WHOLE, FileReader, Network, holds
from zootool.nets.rendering import GRIDS
from zootool.nets.siren import siren_architecture
from zootool.untrusted.file_stack import state_dict_of

# The published pattern `_(\d)s` reads the label 42 as 2; the whole name has to match.
_FOLDER = r"randinit_smaller(?:_aug(\d{1,6}))?_(\d{1,3})s"
_HIDDEN = (32, 32)


_SETS = {"mnist": "mnist", "fashion": "fashion-mnist", "cifar": "cifar10", "cifar100": "cifar100"}
"""The image sets by what a source's folder calls them."""


class NfnSirens(FileReader):
    """The sets as published. No option but those on which files are looked at changes anything."""

    NAME = "nfn-siren"
    TITLE = "SIRENs of the neural-functional papers, a file per network"
    KIND = "siren"
    PARTS = (_FOLDER, r"net(\d{1,9})\.pth")
    COLUMNS = pa.schema({
        "net_id": TEXT, "source_index": WHOLE, "copy": pa.int32(), "label": WHOLE, "split": TEXT, "run_id": TEXT,
    })  # fmt: skip
    CONVENTIONS: ClassVar = {"omega_0": 30.0, "output_offset": 0.0}
    TWICE = ("are both copy {copy} of image {source_index}", "keep one of them")

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` or a folder in it is named as the format says and holds such files."""
        folder, file = cls.PARTS
        is_folder = re.fullmatch(folder, Path(os.path.abspath(path)).name)
        return holds(path, file) if is_folder else holds(path, folder, file)

    def network(self, file: Path, match: re.Match[str]) -> Network:
        copy, index = 0 if match[1] is None else int(match[1]) + 1, int(match[3])
        net_id = f"{index:06d}-{copy:02d}"
        row = {"net_id": net_id, "source_index": index, "copy": copy, "label": int(match[2]), "run_id": net_id}
        return Network(file, (copy, index), row)

    def complete(self) -> None:
        """The set, which the name of the source, or of the folder that it is in, says. Raises FormatError."""
        num_outputs = self._num_outputs(self.networks[0])
        whole = Path(os.path.abspath(self.path))
        for part in (whole.name, whole.parent.name):
            match = re.search(r"siren_(mnist|fashion|cifar100|cifar)(?:_|$)", part)
            if match:
                self._images = usual_images(_SETS[match[1]], grid=GRIDS["ij"], target=(-1.0, 1.0))
                if self._images.shape[2] == num_outputs:
                    return
        raise FormatError(
            f"{self.shown} doesn't say which images these SIRENs of {num_outputs} channels show",
            hint="rename it as published: siren_mnist_wts, siren_fashion_wts, siren_cifar_wts or siren_cifar100_wts",
        )

    def _num_outputs(self, network: Network) -> int:
        bias = state_dict_of(network.source).get("net.2.bias")
        if bias is None or len(bias.shape) != 1:
            raise FormatError(f"{printable(network.source)} has no bias net.2.bias, so it is no SIREN of this format")
        return bias.shape[0]

    def splits(self) -> Splits:
        first_test = 60_000 if self._images.name == "fashion-mnist" else 50_000
        cuts = (first_test - 5_000, first_test)
        names = np.array(["train", "validation", "test"])
        of_each = names[np.searchsorted(cuts, self.column("source_index"), side="right")]
        return Splits(of_each.tolist(), "by index, as published")

    def architecture(self, network: Network) -> Architecture:
        return siren_architecture(2, _HIDDEN, self._images.shape[2])

    def about(self) -> dict[str, Any]:
        notes = []
        labels: dict[int, set[int]] = {}
        for network in self.networks:
            labels.setdefault(network.row["source_index"], set()).add(network.row["label"])
        contradicting = sum(len(found) > 1 for found in labels.values())
        if contradicting:
            notes.append(f"{contradicting:,} images have copies under different labels")
        num_classes = self._images.num_classes or 0
        beyond = sum(label >= num_classes for label in self.column("label"))
        if beyond:
            notes.append(f"{beyond:,} networks have a label beyond the {num_classes} classes")
        if self._images.name == "mnist" and max(labels) >= 60_000:
            notes.append(
                "the test split is everything from 50,000 on, as the public loaders have it: 20,000 if complete"
            )
        return {"image_sets": (self._images,), "notes": notes}


class NfnConverted(NfnSirens):
    """The sets after the papers' conversion."""

    NAME = "nfn-converted"
    TITLE = "SIRENs of the neural-functional papers, converted to edges and biases"
    PARTS = (_FOLDER, r"net(\d{1,9})\.pt")

    def _num_outputs(self, network: Network) -> int:
        return _read_flat(network.source, "b").size - sum(_HIDDEN)

    def load(self, architecture: Architecture, networks: Sequence[Network]) -> dict[str, np.ndarray]:
        """The flat arrays as the tensors of a state_dict: a weight's axes were swapped before it was laid flat."""
        edges = np.stack([_read_flat(network.source, "e", architecture.num_edges) for network in networks])
        biases = np.stack([_read_flat(network.source, "b", architecture.num_nodes) for network in networks])
        tensors = {}
        for slot in architecture.slots:
            part = (edges if slot.array == "edges" else biases)[:, slot.start : slot.start + slot.length]
            if slot.array == "edges":
                part = part.reshape(len(part), *reversed(slot.shape)).transpose(0, 2, 1)
            tensors[slot.key] = np.ascontiguousarray(part)
        return tensors


def _read_flat(path: Path, key: str, size: int | None = None) -> np.ndarray:
    tensors = state_dict_of(path)
    tensor = tensors.get(key)
    if set(tensors) != {"e", "b"} or tensor is None or tensor.dtype != "float32":
        keys = printable(", ".join(tensors), 80)
        raise FormatError(f"{printable(path)} holds {keys}, wanted are the float32 tensors e and b")
    flat = tensor.read().reshape(-1)
    if size is not None and flat.size != size:
        raise FormatError(f"{printable(path)}: {key} has {flat.size} numbers, a SIREN of this set has {size}")
    return flat
