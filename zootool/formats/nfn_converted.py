"""SIREN sets of the neural-functional papers after their own conversion: two flat tensors per network.

`siren_{set}_graph_data/randinit_smaller[_aug{i}]_{label}s/net{index}.pt` = `{'e', 'b'}`: e holds each layer's
weights source by source (`W.T.flatten()`), b the biases. They become the layers' own tensors again.
"""

import re
from pathlib import Path

import numpy as np

from zootool.architecture import Architecture
from zootool.errors import FormatError, printable
from zootool.formats.collection import Collection
from zootool.formats.nfn import collection_of, find_sirens, looks_like, set_of
from zootool.formats.options import ReadOptions
from zootool.nets.siren_architecture import siren_architecture
from zootool.untrusted.file_stack import state_dict_of

NAME = "nfn-converted"
TITLE = "SIRENs of the neural-functional papers, converted to edges and biases"

_FILE = re.compile(r"net(\d{1,9})\.pt")
_HIDDEN = (32, 32)


def detect(path: Path) -> bool:
    """Whether there are folders randinit_smaller_*s, with .pt files in one of them."""
    return looks_like(path, _FILE)


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network below `path`, by copy and index. `options` change nothing."""
    files = find_sirens(path, _FILE, options)
    num_outputs = _read_flat(files[0].path, "b").size - sum(_HIDDEN)
    known = set_of(path, num_outputs)
    architecture = siren_architecture(2, _HIDDEN, known.shape[2])

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        paths = [files[row].path for row in rows.tolist()]
        edges = np.stack([_read_flat(file, "e", architecture.num_edges) for file in paths])
        biases = np.stack([_read_flat(file, "b", architecture.num_nodes) for file in paths])
        return _as_layers(architecture, edges, biases)

    return collection_of(NAME, known, files, architecture, load)


def _as_layers(architecture: Architecture, edges: np.ndarray, biases: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of edges and biases as the tensors of a state_dict: a weight's axes were swapped before it was laid flat."""
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
