"""What learns to edit and on what: SIRENs of one architecture with their images, the methods, their settings.

`paper` is as published, each method with its own optimiser, batch and length; all are validated every 1000 steps, which
was published for DNG's editing, and by the others for classification alone. NFN and the neural graphs learn without
copies of networks, DNG with those that the zoo has, so that updates aren't equal: tables say how many each makes.
`quick` has narrower widths, no copies, and equally many updates of equally many networks for all: on two cores about a
minute each, two for NG-T.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from dng.bench.comparison import SPLITS
from dng.methods.editors import Editor, NFNEditorConfig
from dng.methods.ng_gnn import NGGNNConfig
from dng.methods.ng_t import NGTConfig
from dng.methods.registry import EDITORS, METHODS
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.siren_rendering import render_graph
from dng.runs.on_zoo import HERE, Place, batches_per_epoch, first_batch, require_splits
from dng.runs.tasks import source_images
from dng.runs.two_stage import DEMO, PAPER
from dng.training.loop import TrainConfig
from dng.zoo_data import Indexing, Loader, Zoo, indexing_of
from zootool.architecture import Architecture
from zootool.errors import BadDataError, UsageError
from zootool.graph import GraphBatch

PRESETS = ("quick", "paper")
PREDICTORS = ("dng",)
"""The methods that predict the edited image from the weights, and edit none."""

NUM_EXAMPLES = 8
"""Test networks whose edits the report shows."""

MethodConfig = NFNEditorConfig | NGGNNConfig | NGTConfig | INR2JLSConfig

_HOW_TO_BUILD = "build one with `zoo build siren`"
_NG_EPOCHS = 200
_QUICK_WIDTH, _QUICK_STEPS, _QUICK_BATCH = 0.25, 300, 16

_NFN = TrainConfig(
    steps=50_000, batch_size=32, lr=1e-3, warmup_start=1e-3, warmup_per_step=1e-3, validate_every=1000,
    higher_is_better=False,
)  # fmt: skip
_NG = TrainConfig(
    steps=1, batch_size=128, lr=1e-3, optimizer="adamw", amsgrad=True, weight_decay=5e-4, warmup_start=1e-4,
    warmup_per_step=1e-4, validate_every=1000, clip=1.0, higher_is_better=False,
)  # fmt: skip

LABELS = {**{name: METHODS[name].title for name in EDITORS}, "dng": "DNG (INR2JLS)"}
"""The methods, and what reports call them."""


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

    def render(self, networks: GraphBatch) -> Float[Tensor, "batch channels side side"]:
        """The images of B networks, in [-1, 1] where they lie between `low` and `high`."""
        values = render_graph(networks, self.side, self.indexing)
        return 2 * (values - self.low) / (self.high - self.low) - 1


@dataclass(frozen=True, eq=False)
class EditableZoo:
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


def editable(zoo: Zoo, place: Place = HERE) -> EditableZoo:
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
    _, channels, height, width = source_images(first_batch(test.loader(1, images=True, targets=()))).shape
    if height != width:
        raise BadDataError(f"the images of {name} are {height} x {width}", hint="square ones can be rendered")
    if architecture.node_counts[-1] != channels:
        raise BadDataError(
            f"the networks of {name} have {architecture.node_counts[-1]} outputs, its images {channels} channels",
            hint="give the zoo the image set that it was built from",
        )
    return EditableZoo(zoo, first_copies, architecture, Canvas(height, channels, low, high, indexing), place)


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


@dataclass(frozen=True)
class MethodSettings:
    """A method's widths and options, its training, and whether it learns from copies too."""

    config: MethodConfig
    training: TrainConfig
    copies: bool = False


def method_settings(name: str, preset: str, data: EditableZoo) -> MethodSettings:
    """The settings of the method `name`. Raises UsageError where the images' side is none that it can have."""
    if name in PREDICTORS:
        return _inr2jls(preset, data)
    (_, config), training = METHODS[name].editing(), _NFN if name.startswith("nfn") else _NG
    if preset != "paper":
        shorter = replace(
            training, steps=_QUICK_STEPS, batch_size=_QUICK_BATCH, warmup_start=0.05, warmup_per_step=0.05,
            decay="cosine", validate_every=100,
        )  # fmt: skip
        return MethodSettings(config.widened(_QUICK_WIDTH), shorter)
    if training is _NG:
        training = replace(training, steps=_NG_EPOCHS * batches_per_epoch(data.first_copies)(training.batch_size))
    return MethodSettings(config, training)


def _inr2jls(preset: str, data: EditableZoo) -> MethodSettings:
    side, channels = data.canvas.side, data.canvas.channels
    if side % 4:
        raise UsageError(
            f"dng needs images whose side is a multiple of 4, those of {data.zoo.info.name} have {side}",
            hint="leave it out of --model",
        )
    known = PAPER if preset == "paper" else DEMO
    config = INR2JLSConfig(
        side, channels, encoder=known.encoder, num_views=1, latent_dim=known.latent_dim, hidden_dim=known.hidden_dim,
        decoder_dim=known.decoder_dim,
    )  # fmt: skip
    if preset == "paper":
        return MethodSettings(config, replace(known.reconstruction, validate_every=1000), copies=True)
    return MethodSettings(config, replace(known.reconstruction, steps=_QUICK_STEPS, batch_size=_QUICK_BATCH))


class RenderedEditor(nn.Module):
    """An editor of weights and the canvas on which the edited networks are rendered."""

    def __init__(self, editor: Editor, canvas: Canvas) -> None:
        super().__init__()
        self.editor = editor
        self.canvas = canvas

    def reconstruct(self, networks: GraphBatch) -> Float[Tensor, "batch channels height width"]:
        """What the edited networks render."""
        return self.canvas.render(self.editor(networks))

    def loss(self, networks: GraphBatch, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, ""]:
        """The mean squared error of the rendered pixels."""
        return (self.reconstruct(networks) - images).square().mean()


def build_method(name: str, config: Any, data: EditableZoo) -> RenderedEditor | INR2JLS:
    """The untrained method `name` for the networks of `data`. Raises UsageError where it can't take them.

    Both kinds give edited images by `reconstruct`, and by `loss` their error against those that are wanted.
    """
    if name in PREDICTORS:
        return INR2JLS(data.architecture, config)
    editor, _ = METHODS[name].editing()
    return RenderedEditor(editor([data.architecture], config), data.canvas)
