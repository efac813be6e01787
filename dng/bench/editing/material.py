"""What editing is learned and measured on: SIRENs of one architecture, their images, and how to render them."""

from collections.abc import Collection
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from dng.data import Indexing, Loader, Zoo, indexing_of
from dng.models.siren_rendering import render_graph
from dng.runs.on_zoo import HERE, Place, first_batch, require_splits
from dng.runs.tasks import source_images
from zootool.architecture import Architecture
from zootool.errors import BadDataError
from zootool.graph import GraphBatch

SPLITS = ("train", "validation", "test")
NUM_EXAMPLES = 8
"""Test networks whose edits the report shows."""

_HOW_TO_BUILD = "build one with `zoo build siren`"


@dataclass(frozen=True)
class Canvas:
    """The side and channels of what networks render; `low` and `high` are what they compute for 0 and 255.

    `indexing` says whether their first input is a pixel's row (ij) or column (xy).
    """

    side: int
    channels: int
    low: float = -1.0
    high: float = 1.0
    indexing: Indexing = "ij"

    def render(self, graph: GraphBatch) -> Float[Tensor, "batch channels side side"]:
        """The images of B networks, in [-1, 1] where they lie between `low` and `high`."""
        values = render_graph(graph, self.side, self.indexing)
        return 2 * (values - self.low) / (self.high - self.low) - 1


@dataclass(frozen=True, eq=False)
class Material:
    """A checked zoo, the architecture of its networks, how they are rendered, and on which device.

    `first_copies` has one network per image: not the copies from other initial weights that `zoo` may have.
    """

    zoo: Zoo
    first_copies: Zoo
    architecture: Architecture
    canvas: Canvas
    place: Place = HERE

    def networks(self, copies: bool) -> Zoo:
        """The networks to learn from, with or without copies."""
        return self.zoo if copies else self.first_copies

    def test_loader(self, batch_size: int) -> Loader:
        """The test networks with their images, in the zoo's order."""
        test = self.first_copies.select(split="test")
        return test.loader(batch_size, device=self.place.device, images=True, targets=())

    def count(self, split: str) -> int:
        """The number of a split's networks, copies aside."""
        return len(self.first_copies.select(split=split))


def read_material(zoo: Zoo, place: Place = HERE) -> Material:
    """Check that a zoo can be edited, before anything is trained.

    Raises BadDataError for networks that aren't SIRENs of one architecture with two inputs, for splits that are missing
    or too small, for images that aren't known, aren't square or don't fit the networks; MissingError where the image
    set isn't here.
    """
    name = zoo.info.name
    if reason := _no_sirens(zoo.architectures.values()):
        raise BadDataError(f"{name} can't be edited: {reason}", hint=_HOW_TO_BUILD)
    architecture = next(iter(zoo.architectures.values()))
    require_splits(zoo, SPLITS)
    low, high, indexing = _conventions(zoo)
    first_copies = zoo.select(copy=0) if "copy" in zoo.nets else zoo
    test = first_copies.select(split="test")
    if len(test) < NUM_EXAMPLES:
        raise BadDataError(
            f"{name} has {len(test)} networks to test on, editing needs {NUM_EXAMPLES}",
            hint="build it with more test images, as in `--limit 3000,500,500`",
        )
    side, channels = _image_shape(name, first_batch(test.loader(1, images=True, targets=())))
    if architecture.node_counts[-1] != channels:
        raise BadDataError(
            f"the networks of {name} have {architecture.node_counts[-1]} outputs, its images {channels} channels",
            hint="give the zoo the image set that it was built from",
        )
    return Material(zoo, first_copies, architecture, Canvas(side, channels, low, high, indexing), place)


def _no_sirens(architectures: Collection[Architecture]) -> str | None:
    if len(architectures) != 1:
        return f"it has networks of {len(architectures)} architectures, not one"
    architecture = next(iter(architectures))
    *hidden, last = architecture.timestamps
    plain = all(t.kind == "linear" and t.has_bias and not t.residuals and not t.norm for t in architecture.timestamps)
    if not plain or {t.activation.name for t in hidden} != {"sine"} or last.activation.name != "none":
        return "its networks aren't SIRENs"
    return None if architecture.num_inputs == 2 else f"its SIRENs have {architecture.num_inputs} inputs, not 2"


def _conventions(zoo: Zoo) -> tuple[float, float, Indexing]:
    """What the SIRENs compute for the pixels 0 and 255, and which of their inputs is the row."""
    if not zoo.info.sources or "source_index" not in zoo.nets:
        raise BadDataError(f"{zoo.info.name} doesn't say which images its networks show", hint=_HOW_TO_BUILD)
    known = {(source.grid, source.target) for source in zoo.info.sources}
    grid, target = known.pop()
    indexing = indexing_of(grid)
    if known or indexing is None or target is None:
        raise BadDataError(
            f"{zoo.info.name} doesn't say how pixels become coordinates and values of its networks",
            hint=_HOW_TO_BUILD,
        )
    return *target, indexing


def _image_shape(name: str, batch: GraphBatch) -> tuple[int, int]:
    """Side and channels of a batch's images."""
    _, channels, height, width = source_images(batch).shape
    if height != width:
        raise BadDataError(f"the images of {name} are {height} x {width}", hint="square ones can be rendered")
    return height, channels
