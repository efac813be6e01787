"""A CNN as the kernel sees it: where each layer's numbers lie in flat arrays.

Numbers of a block of images lie side by side: an activation is (channel, row, column, image), each layer's input with
the border of zeros that its padding asks for. A weight is (source, tap, target), targets padded to 16. The linear
layer at the end is a convolution too: by a 1 x 1 kernel behind a pooling, by one as large as the map behind a flatten.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from zootool.build.classifier.elementwise import ACTIVATION_CODES
from zootool.build.siren.lanes import NUM_LANES, TILE_ROWS
from zootool.nets.cnn import CnnConfig

BLOCK = 2 * NUM_LANES
"""Images that go through the network together."""

Column = Int64[np.ndarray, " layers"]


class Geometry(NamedTuple):
    """For every layer: counts, steps between planes and rows of its input and its output, and where its parts begin.

    `offsets` from `taps` on are those of the weight's sources and taps in the layer's input. Where `pooled_positions`
    is above 0, the last layer takes the means of the map at `map_start`.
    """

    sources: Column
    targets: Column
    in_start: Column
    in_plane: Column
    in_row: Column
    out_start: Column
    out_plane: Column
    out_row: Column
    kernel_height: Column
    kernel_width: Column
    stride: Column
    rows: Column
    columns: Column
    activation: Column
    residual: Column
    weights: Column
    biases: Column
    slopes: Column
    taps: Column
    offsets: Int64[np.ndarray, " taps"]
    pooled_positions: int
    image_start: int
    image_size: int
    image_columns: int


@dataclass(frozen=True)
class Plan:
    """The kernel's view of a CNN on images of one size.

    `places` are those of the state_dict's numbers, flattened behind one another, in the kernel's parameters.
    """

    geometry: Geometry
    places: Int64[np.ndarray, " parameters"]
    num_parameters: int
    num_activations: int
    num_slopes: int

    def pack(self, flat: Float32[np.ndarray, " parameters"]) -> Float32[np.ndarray, " padded"]:
        """The kernel's parameters for a state_dict's numbers."""
        packed = np.zeros(self.num_parameters, np.float32)
        packed[self.places] = flat
        return packed


class _Buffer(NamedTuple):
    """Feature maps with their border: where they begin, and the steps between planes and rows."""

    start: int
    channels: int
    height: int
    width: int
    padding: int

    @property
    def row(self) -> int:
        return (self.width + 2 * self.padding) * BLOCK

    @property
    def plane(self) -> int:
        return (self.height + 2 * self.padding) * self.row

    @property
    def size(self) -> int:
        # Whole tiles: one is stored with all its rows, be they channels or not.
        return _up(self.channels, TILE_ROWS) * self.plane

    @property
    def inner(self) -> int:
        return self.start + self.padding * (self.row + BLOCK)


def plan_of(config: CnnConfig) -> Plan:
    """The plan of `Cnn(config)`."""
    sides, last = config.sides, config.num_convolutions
    is_pooled = config.head == "pool"
    maps = list(zip(config.channels, sides, (*config.paddings, 0), strict=True))
    if is_pooled:
        maps.append((config.channels[-1], (1, 1), 0))
    maps.append((config.num_classes, (1, 1), 0))
    buffers: list[_Buffer] = []
    for channels, (height, width), padding in maps:
        start = buffers[-1].start + buffers[-1].size if buffers else 0
        buffers.append(_Buffer(start, channels, height, width, padding))
    ends = [(buffers[i], buffers[i + 1]) for i in range(last)] + [(buffers[-2], buffers[-1])]
    kernels = [(k, k) for k in config.kernels] + [(buffers[-2].height, buffers[-2].width)]
    geometry = _geometry(config, ends, kernels, sides[-1] if is_pooled else None)
    classes = _up(config.num_classes, NUM_LANES)
    return Plan(
        geometry=geometry,
        places=_places(geometry),
        num_parameters=int(geometry.biases[-1]) + classes,
        num_activations=buffers[-1].start + buffers[-1].size,
        num_slopes=int(geometry.slopes[-1]) + classes * BLOCK,
    )


def _geometry(
    config: CnnConfig,
    ends: list[tuple[_Buffer, _Buffer]],
    kernels: list[tuple[int, int]],
    pooled: tuple[int, int] | None,
) -> Geometry:
    weights, biases, taps, offsets, start = [], [], [], [], 0
    for (source, target), (height, width) in zip(ends, kernels, strict=True):
        weights.append(start)
        biases.append(start + _up(source.channels, TILE_ROWS) * height * width * _up(target.channels, NUM_LANES))
        start = biases[-1] + _up(target.channels, NUM_LANES)
        taps.append(len(offsets))
        grid = np.add.outer(np.arange(height) * source.row, np.arange(width) * BLOCK).reshape(-1)
        offsets += np.add.outer(np.arange(source.channels) * source.plane, grid).reshape(-1).tolist()
    sizes = [_up(b.channels, NUM_LANES) * b.height * b.width * BLOCK for _, b in ends]
    sources, targets = [a for a, _ in ends], [b for _, b in ends]
    return Geometry(
        sources=_column(a.channels for a in sources),
        targets=_column(b.channels for b in targets),
        in_start=_column(a.start for a in sources),
        in_plane=_column(a.plane for a in sources),
        in_row=_column(a.row for a in sources),
        out_start=_column(b.inner for b in targets),
        out_plane=_column(b.plane for b in targets),
        out_row=_column(b.row for b in targets),
        kernel_height=_column(height for height, _ in kernels),
        kernel_width=_column(width for _, width in kernels),
        stride=_column((*config.strides, 1)),
        rows=_column(b.height for b in targets),
        columns=_column(b.width for b in targets),
        activation=_column((*(ACTIVATION_CODES[name] for name in config.activations), 0)),
        residual=_column((*(-1 if source is None else source for source in config.residuals), -1)),
        weights=_column(weights),
        biases=_column(biases),
        slopes=_column([0, *accumulate(sizes[:-1])]),
        taps=_column(taps),
        offsets=np.array(offsets, np.int64),
        pooled_positions=0 if pooled is None else pooled[0] * pooled[1],
        image_start=sources[0].inner,
        image_size=sources[0].height * sources[0].width,
        image_columns=sources[0].width,
    )


def _places(geometry: Geometry) -> Int64[np.ndarray, " parameters"]:
    places = []
    for layer, start in enumerate(geometry.weights):
        targets, sources = int(geometry.targets[layer]), int(geometry.sources[layer])
        taps, width = int(geometry.kernel_height[layer] * geometry.kernel_width[layer]), _up(targets, NUM_LANES)
        rows = start + np.arange(sources * taps) * width
        places += [np.add.outer(np.arange(targets), rows).reshape(-1), geometry.biases[layer] + np.arange(targets)]
    return np.concatenate(places)


def _column(numbers: Iterable[int]) -> Column:
    return np.fromiter(numbers, np.int64)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
