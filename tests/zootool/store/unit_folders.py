"""Folders of units as `zoo build` leaves them, with weights that cost nothing: for tests of what reads them."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.build.extents import Extent
from zootool.build.recipe import SirenRecipe
from zootool.build.units import BuildRecord, ImageSetRecord, write_record, write_unit
from zootool.nets.siren import siren_architecture

NUM_NETWORKS = 10


def write_unit_folder(
    folder: Path,
    units: tuple[int, ...] = (4, 4, 2),
    seed: int = 0,
    hidden: tuple[int, ...] = (8, 8),
    digest: str = "0" * 64,
    channels: int = 1,
) -> dict[str, np.ndarray]:
    """Write units of so many SIRENs with random weights; returns all weights, (networks, *shape) by key."""
    rng = np.random.default_rng(seed)
    architecture = siren_architecture(2, hidden, channels)
    count = sum(units)
    record = BuildRecord(
        recipe=SirenRecipe(name="test", hidden=hidden, copies=0, unit_size=max(units)),
        image_set=ImageSetRecord(
            name="digits",
            digest=digest,
            shape=(8, 8, channels),
            num_images=1797,
            num_classes=10,
            is_partial=False,
            source_terms="free",
        ),
        extents=(Extent(train=count, validation=0, test=0, unsplit=0, copies=0),),
    )
    (folder / "units").mkdir(parents=True)
    write_record(folder, record)
    tensors = {s.key: rng.standard_normal((count, *s.shape), dtype=np.float32) for s in architecture.slots}
    start = 0
    for number, size in enumerate(units):
        rows = slice(start, start + size)
        details = {"num_networks": size, "num_refitted": 0, "num_diverged": 0, "seconds": 1.0, "threads": 1}
        write_unit(
            folder,
            number,
            {key: tensor[rows] for key, tensor in tensors.items()},
            unit_table(start, size),
            details | {"device": "cpu", "versions": {"zootool": "0.1.0"}},
        )
        start += size
    return tensors


def unit_table(start: int, count: int) -> pa.Table:
    """The rows of networks start..start+count: labels 0..9 in turn, every fourth network in the test split."""
    index = np.arange(start, start + count)
    return pa.table(
        {
            "net_id": [f"test-{i:06d}" for i in index],
            "source_index": index,
            "label": index % 10,
            "split": ["test" if i % 4 == 3 else "train" for i in index],
            "psnr": np.linspace(30, 40, count),
        }
    )
