"""What the editing benchmark measures: the answers that it keeps as files, and their means over seeds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from dng.bench.pictures import to_pictures


@dataclass(frozen=True)
class Pictures:
    """Pictures of `shape` (pictures, height, width, channels), their uint8 pixels in hexadecimal."""

    shape: tuple[int, int, int, int]
    levels: str

    @classmethod
    def of(cls, images: Tensor) -> "Pictures":
        """Images (B, C, H, W) in [-1, 1] as pictures; values outside are clipped."""
        pixels = to_pictures(images)
        count, height, width, channels = pixels.shape
        return cls((count, height, width, channels), pixels.tobytes().hex())

    def pixels(self) -> UInt8[np.ndarray, "pictures height width channels"]:
        """The pixels."""
        return np.frombuffer(bytes.fromhex(self.levels), np.uint8).reshape(self.shape)


@dataclass(frozen=True)
class Measured:
    """The mean squared error in [-1, 1] over all pixels of the test networks, and pictures of the first of them."""

    mse: float
    examples: Pictures


@dataclass(frozen=True)
class References:
    """What edits are compared with: the SIRENs as they are, and pictures of their renderings edited as such.

    `originals` and `targets` are the source images of the examples and what the edit makes of them, `rows` the
    examples' rows in the zoo's table.
    """

    no_edit: Measured
    edited_rendering: Measured
    originals: Pictures
    targets: Pictures
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """What a method reached under one seed: on test, and on validation at the step that was picked.

    `seconds` are those of the call that finished it.
    """

    test: Measured
    validation_mse: float
    best_step: int
    num_parameters: int
    seconds: float


@dataclass(frozen=True)
class MethodResult:
    """A method's errors, seed by seed."""

    method: str
    test_mse: tuple[float, ...]
    validation_mse: tuple[float, ...]
    best_steps: tuple[int, ...]
    num_parameters: int
    seconds: float
    updates: str = ""


@dataclass(frozen=True)
class EditResult:
    """All methods on one edit, and the test errors of doing nothing and of editing the renderings."""

    edit: str
    no_edit: float
    edited_rendering: float
    methods: tuple[MethodResult, ...]

    def method(self, name: str) -> MethodResult:
        """The result of the method `name`."""
        return next(found for found in self.methods if found.method == name)


@dataclass(frozen=True)
class EditingResult:
    """What the benchmark measured on one zoo; `networks` counts those of each split, copies aside."""

    zoo_id: str
    zoo_name: str
    preset: str
    seeds: int
    networks: dict[str, int]
    edits: tuple[EditResult, ...]
    skipped: bool = False
