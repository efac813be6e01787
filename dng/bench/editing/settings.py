"""The settings of `zoo bench editing`, by method and preset.

`paper` is as published, each method with its own optimiser, batch and length; all are validated every 1000 steps, which
was published for DNG's editing, and by the others for classification alone. NFN and the neural graphs learn without
copies of networks, DNG with those that the zoo has, so that updates aren't equal: tables say how many each makes.
`quick` has narrower widths, no copies, and equally many updates of equally many networks for all: on two cores about a
minute each, two for NG-T.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dng.bench.editing.edits import EDITS
from dng.bench.editing.material import Material
from dng.bench.editing.methods import LABELS, PREDICTORS, MethodConfig
from dng.methods.editors import NFNEditor, NGGNNEditor, NGTEditor
from dng.models.inr2jls import INR2JLSConfig
from dng.runs.on_zoo import batches_per_epoch
from dng.runs.two_stage import DEMO, PAPER
from dng.training.train import TrainConfig
from zootool.errors import UsageError, did_you_mean, printable

PRESETS = ("quick", "paper")

NG_EPOCHS = 200
_QUICK_WIDTH = 0.25
_QUICK_STEPS, _QUICK_BATCH = 300, 16


@dataclass(frozen=True)
class MethodSettings:
    """A method's widths and options, its training, and whether it learns from copies too."""

    config: MethodConfig
    training: TrainConfig
    copies: bool = False


def check_names(preset: str, methods: Sequence[str], edits: Sequence[str]) -> None:
    """Raise UsageError for a preset, method or edit that there isn't."""
    known = (("preset", (preset,), PRESETS), ("model", methods, LABELS), ("edit", edits, EDITS))
    for kind, names, choices in known:
        for name in names:
            if name not in choices:
                raise UsageError(f"there is no {kind} {printable(name, 60)!r}", hint=did_you_mean(name, choices))


def method_settings(name: str, preset: str, material: Material) -> MethodSettings:
    """The settings of the method `name`. Raises UsageError where the images' side is none that it can have."""
    published = _inr2jls(material) if name in PREDICTORS else _editor(name, material)
    return published if preset == "paper" else _quick(name, published)


def _editor(name: str, material: Material) -> MethodSettings:
    if name == "nfn-hnp":
        return MethodSettings(NFNEditor.presets["inr"], _NFN)
    if name == "nfn-np":
        return MethodSettings(NFNEditor.presets["inr-np"], _NFN)
    config = (NGGNNEditor if name == "ng-gnn" else NGTEditor).presets["inr"]
    epoch = batches_per_epoch(material.first_copies)(_NG.batch_size)
    return MethodSettings(config, replace(_NG, steps=NG_EPOCHS * epoch))


def _inr2jls(material: Material) -> MethodSettings:
    side, channels = material.canvas.side, material.canvas.channels
    if side % 4:
        raise UsageError(
            f"dng needs images whose side is a multiple of 4, those of {material.zoo.info.name} have {side}",
            hint="leave it out of --model",
        )
    config = INR2JLSConfig(
        side, channels, encoder=PAPER.encoder, num_views=1, latent_dim=PAPER.latent_dim, hidden_dim=PAPER.hidden_dim,
        decoder_dim=PAPER.decoder_dim,
    )  # fmt: skip
    return MethodSettings(config, replace(PAPER.reconstruction, validate_every=1000), copies=True)


def _quick(name: str, published: MethodSettings) -> MethodSettings:
    config, training = published.config, published.training
    if isinstance(config, INR2JLSConfig):
        narrow = replace(
            config, encoder=DEMO.encoder, latent_dim=DEMO.latent_dim, hidden_dim=DEMO.hidden_dim,
            decoder_dim=DEMO.decoder_dim,
        )  # fmt: skip
        return MethodSettings(narrow, replace(DEMO.reconstruction, steps=_QUICK_STEPS, batch_size=_QUICK_BATCH))
    shorter = replace(
        training, steps=_QUICK_STEPS, batch_size=_QUICK_BATCH, warmup_start=0.05, warmup_per_step=0.05,
        decay="cosine", validate_every=100,
    )  # fmt: skip
    return MethodSettings(config.widened(_QUICK_WIDTH), shorter)


_NFN = TrainConfig(
    steps=50_000, batch_size=32, lr=1e-3, warmup_start=1e-3, warmup_per_step=1e-3, validate_every=1000,
    higher_is_better=False,
)  # fmt: skip
_NG = TrainConfig(
    steps=1, batch_size=128, lr=1e-3, optimizer="adamw", amsgrad=True, weight_decay=5e-4, warmup_start=1e-4,
    warmup_per_step=1e-4, validate_every=1000, clip=1.0, higher_is_better=False,
)  # fmt: skip
