"""Reads every network of a zoo by following format.md, without the package that wrote it.

    python read_store.py digits.zoo [net_id]

prints every network's digest, recomputed, or one network's tensors.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

ARRAYS = {"edges": "edge_offset", "nodes": "node_offset", "extras": "extra_offset", "exact": "exact_offset"}
ITEM_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2}


class PlainZoo:
    """A zoo read with json, pandas and zarr."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.check_manifest()
        info = json.loads((folder / "zoo.json").read_text())
        if info["format"] != "zoo" or int(info["format_version"].split(".")[0]) > 1:
            raise ValueError(f"{folder} is no zoo of format 1")
        self.architectures = json.loads((folder / "architectures.json").read_text())
        self.nets = pd.read_parquet(folder / "nets.parquet")
        self.arrays = {name: zarr.open_array(folder / name, mode="r") for name in ARRAYS if (folder / name).is_dir()}

    def check_manifest(self) -> None:
        """Every file has its size and SHA-256."""
        manifest = json.loads((self.folder / "manifest.json").read_text())
        for path, entry in manifest["files"].items():
            content = (self.folder / path).read_bytes()
            if len(content) != entry["size"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise ValueError(f"{path} differs from the manifest")

    def zoo_id(self) -> str:
        """SHA-256 of the manifest."""
        return hashlib.sha256((self.folder / "manifest.json").read_bytes()).hexdigest()

    def parts(self, row: int) -> dict[str, np.ndarray]:
        """A network's part of every array."""
        slots = self.architectures[self.nets["architecture"].iloc[row]]["slots"]
        parts = {}
        for name, column in ARRAYS.items():
            length = max((s["start"] + length_of(s) for s in slots if s["array"] == name), default=0)
            start = int(self.nets[column].iloc[row])
            empty = np.empty(0, np.uint8 if name == "exact" else np.float32)
            parts[name] = np.asarray(self.arrays[name][start : start + length]) if length else empty
        return parts

    def digest(self, row: int) -> str:
        """SHA-256 over a network's bytes, as the column `digest` has it."""
        return hashlib.sha256(b"".join(part.tobytes() for part in self.parts(row).values())).hexdigest()

    def state_dict(self, row: int) -> dict[str, np.ndarray]:
        """A network's tensors; bfloat16 as the uint16 of its bytes."""
        parts = self.parts(row)
        slots = self.architectures[self.nets["architecture"].iloc[row]]["slots"]
        return {s["key"]: restore(s, parts[s["array"]]) for s in slots if not s.get("rounded", False)}


def length_of(slot: dict) -> int:
    """Elements that a slot takes; bytes in `exact`."""
    count = int(np.prod(slot["shape"], dtype=np.int64))
    return count * ITEM_SIZES.get(slot.get("dtype", "float32"), 1) if slot["array"] == "exact" else count


def restore(slot: dict, part: np.ndarray) -> np.ndarray:
    """A tensor from a network's part of an array."""
    stored = part[slot["start"] : slot["start"] + length_of(slot)]
    dtype = slot.get("dtype", "float32")
    if slot["array"] == "exact":
        stored = stored.view(np.dtype(dtype).newbyteorder("<"))
    elif dtype == "bfloat16":
        stored = (stored.view(np.uint32) >> 16).astype(np.uint16)
    else:
        stored = stored.astype(dtype)
    order = slot.get("order") or list(range(len(slot["shape"])))
    return stored.reshape([slot["shape"][axis] for axis in order]).transpose(np.argsort(order).astype(int))


def main(path: str, net_id: str | None = None) -> None:
    """Print digests, or the tensors of one network."""
    zoo = PlainZoo(Path(path))
    print(zoo.zoo_id())
    for row in range(len(zoo.nets)):
        name = zoo.nets["net_id"].iloc[row]
        if net_id is None:
            print(name, zoo.digest(row))
        elif str(name) == net_id:
            for key, tensor in zoo.state_dict(row).items():
                print(key, tensor.dtype, tensor.shape, hashlib.sha256(tensor.tobytes()).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
