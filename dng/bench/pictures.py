"""The images that a trained run reconstructs from weights, as PNG files and a contact sheet."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from dng.models.model import LearnsFromRenderings, Model, Representation
from dng.runs.apply import batches_of, finite_networks, refuse_existing
from dng.runs.load import load
from dng.runs.on_zoo import CPU
from dng.zoo_data import Convention, Zoo, conventions
from zootool.errors import UsageError
from zootool.files import folder_atomic
from zootool.graph import GraphBatch
from zootool.progress import Reporter, silent

SHEET, INDEX, IMAGES = "contact-sheet.png", "index.parquet", "images"

_SHEET_COLUMNS, _SHEET_ROWS, _SHEET_TILE, _SHEET_GAP = 10, 10, 32, 2
_SAFE_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,150}$")

Picture = UInt8[np.ndarray, "height width channels"]


@dataclass(frozen=True)
class Reconstructions:
    """How many images were written, and how many networks have none because their weights aren't finite."""

    num_images: int
    num_non_finite: int


def reconstruct(
    zoo: Zoo,
    run_dir: str | Path,
    destination: str | Path,
    limit: int | None = None,
    device: torch.device = CPU,
    report: Reporter = silent,
) -> Reconstructions:
    """Write the images that a run sees in the first `limit` networks (all, if None) into the folder `destination`.

    images/NET_ID.png, or by row where a net_id is no file name; index.parquet says which is which. Raises UsageError
    where `destination` exists, and where the model reconstructs no images or wasn't built for these networks.
    """
    run_dir, destination = Path(run_dir), Path(destination)
    refuse_existing(destination)
    model = _representation(load(run_dir), run_dir).to(device)
    selected = zoo if limit is None else zoo.take(np.arange(min(limit, len(zoo))))
    rows = selected.rows.tolist()
    net_ids = dict(zip(rows, map(str, selected.nets["net_id"]), strict=True))
    shown_in = dict(zip(rows, conventions(selected), strict=True))
    written: list[tuple[str, str]] = []
    sheet: list[Picture] = []
    with folder_atomic(destination) as folder:
        (folder / IMAGES).mkdir()
        for batch in batches_of(selected, device, report, "reconstructing"):
            finite = finite_networks(batch).tolist()
            pictures = to_pictures(decoded_images(model, batch, [shown_in[row] for row in batch.rows.tolist()]))
            for row, picture, is_finite in zip(batch.rows.tolist(), pictures, finite, strict=True):
                if is_finite:
                    written.append((net_ids[row], _save(picture, folder, net_ids[row], row)))
                    sheet += [picture] if len(sheet) < _SHEET_COLUMNS * _SHEET_ROWS else []
        if sheet:
            _image(contact_sheet(sheet)).save(folder / SHEET)
        index = {"net_id": [net_id for net_id, _ in written], "file": [name for _, name in written]}
        pq.write_table(pa.table(index, pa.schema({"net_id": pa.string(), "file": pa.string()})), folder / INDEX)
    return Reconstructions(len(written), len(selected) - len(written))


def decoded_images(
    model: Representation, graph: GraphBatch, shown_in: Sequence[Convention]
) -> Float[Tensor, "batch channels height width"]:
    """The images that a model decodes, upright and in [-1, 1], for networks of these conventions.

    A model of renderings decodes what networks compute for a first input that is the row: transposed, and in another
    range, where their zoo has it otherwise.
    """
    images = model.reconstruct(graph)
    if not isinstance(model, LearnsFromRenderings):
        return images
    turned = [image.mT if found.indexing == "xy" else image for image, found in zip(images, shown_in, strict=True)]
    return torch.stack([found.in_unit_range(image) for image, found in zip(turned, shown_in, strict=True)])


def to_pictures(
    images: Float[Tensor, "batch channels height width"],
) -> UInt8[np.ndarray, "batch height width channels"]:
    """Images in [-1, 1] as pixels; values outside are clipped, NaN is black."""
    pixels = ((images.float() + 1) * 127.5).nan_to_num(0.0).clamp(0, 255).round()
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class Pictures:
    """Pictures of `shape` (pictures, height, width, channels), their uint8 pixels in hexadecimal."""

    shape: tuple[int, int, int, int]
    levels: str

    @classmethod
    def of(cls, images: Float[Tensor, "batch channels height width"]) -> "Pictures":
        """Images in [-1, 1] as pictures; values outside are clipped."""
        pixels = to_pictures(images)
        count, height, width, channels = pixels.shape
        return cls((count, height, width, channels), pixels.tobytes().hex())

    def pixels(self) -> UInt8[np.ndarray, "pictures height width channels"]:
        """The pixels."""
        return np.frombuffer(bytes.fromhex(self.levels), np.uint8).reshape(self.shape)


def contact_sheet(pictures: list[Picture]) -> UInt8[np.ndarray, "sheet_height sheet_width channels"]:
    """Up to 100 pictures of one size in rows of ten, small ones enlarged."""
    height, width, channels = pictures[0].shape
    factor = max(1, _SHEET_TILE // max(height, width))
    columns = min(_SHEET_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    cell = (height * factor + _SHEET_GAP, width * factor + _SHEET_GAP)
    sheet = np.full((rows * cell[0] + _SHEET_GAP, columns * cell[1] + _SHEET_GAP, channels), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (place * size + _SHEET_GAP for place, size in zip(divmod(index, columns), cell, strict=True))
        enlarged = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        sheet[top : top + height * factor, left : left + width * factor] = enlarged
    return sheet


def _representation(model: Model, run_dir: Path) -> Representation:
    if not isinstance(model, Representation):
        raise UsageError(
            f"{run_dir} holds a {model.kind}, which reconstructs no images",
            hint="give a run of `zoo train inr2jls --zoo ...`",
        )
    return model


def _save(picture: Picture, folder: Path, net_id: str, row: int) -> str:
    name = f"{net_id if _SAFE_NAME.match(net_id) else f'{row:08d}'}.png"
    _image(picture).save(folder / IMAGES / name)
    return f"{IMAGES}/{name}"


def _image(picture: UInt8[np.ndarray, "height width channels"]) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
