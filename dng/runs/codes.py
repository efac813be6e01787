"""The codes of a zoo's networks under a frozen model, and the classifier that is trained on them."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dng.methods.inr2array import LatentTransformer, LatentTransformerConfig
from dng.models.heads import CodeClassifier, CodesClassifier, LatentClassifier
from dng.models.model import Representation
from dng.training.batches import TensorBatches, num_batches
from dng.training.checkpoint import load_tensors, put_weights
from dng.training.loop import Batches
from dng.training.same_settings import claim, read_json
from dng.zoo_data import EndlessBatches, Loader
from zootool.errors import MissingError
from zootool.graph import GraphBatch
from zootool.records import from_plain

CACHE_BYTES = 2 << 30
FOLDER = "latent-classifier"
_SPEC = "classifier.json"

LoaderFactory = Callable[[int, bool, int], Loader]
"""(batch_size, shuffle, seed) -> a loader over one split."""


class Latents:
    """Codes and labels of one split, kept in memory where they fit `cache_bytes`, else encoded batch by batch."""

    def __init__(
        self,
        model: Representation,
        loader: LoaderFactory,
        label: Callable[[GraphBatch], Tensor],
        num_networks: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.loader, self.label = loader, label
        self.num_networks, self.cache_bytes = num_networks, cache_bytes
        self._cache: tuple[Tensor, Tensor] | None = None

    def first(self) -> Tensor:
        """The code of the first network, (1, ...): its shape is that of all."""
        return self._encode(next(iter(self.loader(1, False, 0))))[0]

    def once(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every network once, in the zoo's order."""
        if self._fits():
            codes, labels = self._all(batch_size)
            yield from zip(codes.split(batch_size), labels.split(batch_size), strict=True)
        else:
            yield from map(self._encode, self.loader(batch_size, False, 0))

    def batches_per_epoch(self, batch_size: int) -> int:
        """How many batches `endless` gives until every network was seen once more."""
        if self._fits():
            return num_batches(self.num_networks, batch_size)
        return len(self.loader(batch_size, True, 0))

    def endless(self, batch_size: int, seed: int) -> Batches:
        """Shuffled epochs without end."""
        if self._fits():
            return TensorBatches(self._all(batch_size), batch_size, seed)
        return EndlessBatches(self.loader(batch_size, True, seed), self._encode)

    def _fits(self) -> bool:
        return self._cache is not None or self.num_networks * self.first().nbytes <= self.cache_bytes

    def _all(self, batch_size: int) -> tuple[Tensor, Tensor]:
        if self._cache is None:
            parts = [self._encode(batch) for batch in self.loader(batch_size, False, 0)]
            codes, labels = zip(*parts, strict=True)
            self._cache = torch.cat(codes), torch.cat(labels)
        return self._cache

    @torch.no_grad()
    def _encode(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        return self.model.encode(batch), self.label(batch)


class CodeClassification:
    """Labels from frozen codes, by cross-entropy."""

    def __init__(self, model: CodesClassifier, validation: Latents, batch_size: int) -> None:
        self.model, self.validation, self.batch_size = model, validation, batch_size

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of a batch of codes and labels."""
        return self.model.loss(*batch)

    def validate(self) -> float:
        """Accuracy on the validation split."""
        predictions, labels = predict_codes(self.model, self.validation, self.batch_size)
        return (predictions == labels).float().mean().item()

    def describe(self, batch: tuple[Tensor, Tensor]) -> str:
        """The batch's size."""
        return f"a batch of {len(batch[0])} codes"


@torch.no_grad()
def predict_codes(classifier: CodesClassifier, latents: Latents, batch_size: int) -> tuple[Tensor, Tensor]:
    """Predicted classes and labels of a split, both int64 (N,)."""
    classifier.eval()
    pairs = [(classifier.predict(codes), labels) for codes, labels in latents.once(batch_size)]
    predictions, labels = zip(*pairs, strict=True)
    return torch.cat(predictions), torch.cat(labels)


@dataclass(frozen=True)
class CodeClassifierSpec:
    """What the classifier of codes is built from: the shape of one network's code, and the number of classes.

    `config` is that of a transformer on grids of latents, as INR2ARRAY's. Without it codes are vectors, or latent maps
    (views, channels, side, side), read view by view or with `joint_views` together; `classifier_dim` is the width.
    """

    code_shape: tuple[int, ...]
    num_classes: int
    classifier_dim: int = 256
    joint_views: bool = False
    config: LatentTransformerConfig | None = None

    def build(self) -> CodesClassifier:
        """The classifier with initial weights from the current generators."""
        if self.config is not None:
            return LatentTransformer(self.code_shape[-1], self.num_classes, self.config)
        if len(self.code_shape) == 1:
            return CodeClassifier(self.code_shape[0], self.num_classes, self.classifier_dim)
        views, channels, side, _ = self.code_shape
        return LatentClassifier(channels, side, self.num_classes, self.classifier_dim, views if self.joint_views else 1)


def write_classifier_spec(run_dir: Path, spec: CodeClassifierSpec) -> None:
    """Write what `load_code_classifier` needs to build the classifier again, before its training starts."""
    claim(run_dir / _SPEC, asdict(spec), update=_up_to_date)


def load_code_classifier(run_dir: Path) -> CodesClassifier:
    """The classifier in a benchmark's folder, in evaluation mode, with the weights that validation picked.

    Raises MissingError where there is none, FormatError where its files don't fit together.
    """
    folder = run_dir / FOLDER
    path = folder / _SPEC
    if not path.exists():
        raise MissingError(
            f"{run_dir} holds no classifier",
            hint="give a run of `zoo bench inr-classification` or of `zoo train encoder --zoo ...`",
        )
    classifier = from_plain(CodeClassifierSpec, _up_to_date(read_json(path)), str(path)).build()
    put_weights(classifier, load_tensors(weights := folder / "best.safetensors")[0], weights)
    return classifier.eval()


def _up_to_date(plain: Any) -> Any:
    """Older files hold the benchmark's whole preset."""
    preset = plain.get("preset") if isinstance(plain, dict) else None
    if not isinstance(preset, dict):
        return plain
    joint = preset.get("ablation") == "joint-classifier"
    return plain | {"classifier_dim": preset.get("classifier_dim"), "joint_views": joint}
