"""NFN: a classifier of equivariant layers, a pooling over neurons and an MLP (Zhou et al. 2023).

Published per-entry standardisation of CNNs tells neurons apart, which breaks the exact invariance; `standardise`
offers one scalar per tensor ("layer") beside it ("entry"). Logits are given, where the published code ends in a
sigmoid. A zoo's activations are not read.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.encoder.features import FourierFeatures
from dng.methods.common import Settings
from dng.methods.nfn_layers import LAYERS, Biases, Features, IOEmbedding, Variant, Weights, nfn_refusal, rectified
from dng.models.heads import mlp_head
from dng.models.model import Reader
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

Standardise = Literal["none", "layer", "entry"]
_SMALLEST_DEVIATION = 1e-5


@dataclass(frozen=True)
class NFNLayersConfig(Settings):
    """The layers of an NFN, and how weights and biases are encoded for them.

    `variant` is the layers' symmetry: of hidden neurons ("hnp") or of all ("np"). `channels` are the layers' widths.
    `num_frequencies` 0 leaves out the Fourier features, `io_bands` 0 the fixed encoding of inputs and outputs, whose
    frequencies end at `io_max_frequency` / 2.
    """

    variant: Variant = "hnp"
    channels: tuple[int, ...] = (512, 512, 512)
    num_frequencies: int = 128
    sigma: float = 10.0
    io_bands: int = 0
    io_max_frequency: float = 10.0

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise UsageError(f"channels must be positive, one number per layer, got {self.channels}")

    def widened(self, factor: float) -> Any:
        """The widths times `factor`; those of layers step up one after another, so that sizes grow in small steps."""
        last = len(self.channels) - 1
        shifts = [(index - last / 2) / len(self.channels) for index in range(len(self.channels))]
        channels = (max(1, round(factor * width + shift)) for width, shift in zip(self.channels, shifts, strict=True))
        return replace(super().widened(factor), channels=tuple(channels))


@dataclass(frozen=True)
class NFNConfig(NFNLayersConfig):
    """The widths and options of NFN: of its layers, and of what is around them.

    `head_dim` is the width of the MLP. `io_embedding` adds a learned encoding of inputs and outputs in every layer.
    `standardise` by means and deviations that `fit` measures, until then 0 and 1: of every entry, or of every tensor
    ("layer"). `channel_dropout` acts on whole channels of weights, and on biases.
    """

    widths: ClassVar[tuple[str, ...]] = ("head_dim",)

    head_dim: int = 1000
    io_embedding: bool = False
    standardise: Standardise = "none"
    head_dropout: float = 0.5
    channel_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(positive=("head_dim",), shares=("head_dropout", "channel_dropout"))

    @property
    def name(self) -> str:
        """The method's name: nfn-hnp or nfn-np."""
        return f"nfn-{self.variant}"


_INR = NFNConfig()
_MNIST = replace(_INR, sigma=3.0, head_dropout=0.1, channel_dropout=0.1)
_SMALL_CNN = NFNConfig(channels=(16, 16, 5), num_frequencies=0, head_dropout=0.0)


class NFN(Reader):
    """Encoding, layers with ReLU, the pooling that keeps inputs and outputs apart, and a three-layer MLP."""

    name: ClassVar[str] = "nfn"
    presets: ClassVar[dict[str, Any]] = {
        "inr": _INR,
        "inr-mnist": _MNIST,
        "inr-np": replace(_INR, variant="np", io_bands=6),
        "inr-np-mnist": replace(_MNIST, variant="np", io_bands=3, io_max_frequency=3.0),
        "small-cnn": _SMALL_CNN,
        "small-cnn-np": replace(_SMALL_CNN, variant="np", io_embedding=True, standardise="entry"),
    }

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: NFNConfig = _INR) -> None:
        super().__init__(architectures, num_outputs, config)
        architecture = self.architecture
        self.standardiser = None if config.standardise == "none" else Standardiser(architecture, config.standardise)
        self.encoding = InputEncoding(config)
        self.layers, self.embeddings = nn.ModuleList(), nn.ModuleList()
        channels = self.encoding.out_dim
        for out_channels in config.channels:
            if config.io_embedding:
                self.embeddings.append(IOEmbedding(architecture, channels))
            self.layers.append(LAYERS[config.variant](architecture, channels, out_channels))
            channels = out_channels
        self.pool = HNPPool(architecture, channels)
        self.head = mlp_head(self.pool.out_dim, config.head_dim, num_outputs, config.head_dropout)

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: Any = None) -> str | None:
        return nfn_refusal(architectures)

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        if self.standardiser is not None:
            self.standardiser.fit(graphs)

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch features"]:
        return self.pool(*self.features(graph))

    def features(self, graph: GraphBatch) -> Features:
        """What the layers make of the weights (B, n_l, n_{l-1}, C k_l) and the biases (B, n_l, C)."""
        tensors = parameters_of(graph) if self.standardiser is None else self.standardiser(graph)
        features = self.encoding(*tensors)
        for index, layer in enumerate(self.layers):
            if self.config.io_embedding:
                features = self.embeddings[index](*features)
            features = self._dropped(*rectified(*layer(*features)))
        return features

    def _dropped(self, weights: list[Tensor], biases: list[Tensor]) -> Features:
        rate = self.config.channel_dropout
        if not (self.training and rate):
            return weights, biases
        weights = [nn.functional.dropout2d(weight.movedim(-1, 1), rate).movedim(1, -1) for weight in weights]
        return weights, [nn.functional.dropout(bias, rate) for bias in biases]


class HNPPool(nn.Module):
    """The means of every W^l and b^l, but W^1 keeps its inputs, W^L its outputs and b^L is whole.

    Invariant to permutations of hidden neurons only.
    """

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        counts, kernels = architecture.node_counts, architecture.edges_per_pair
        ends = counts[0] * kernels[0] + counts[-1] * (kernels[-1] + 1)
        self.out_dim = channels * (ends + sum(kernels[1:-1]) + architecture.num_layers - 1)

    def forward(self, weights: Weights, biases: Biases) -> Float[Tensor, "batch features"]:
        # Channels come before neurons in what the head reads, as in the published code.
        weights, biases = [weight.movedim(-1, 1) for weight in weights], [bias.movedim(-1, 1) for bias in biases]
        ends = [weights[0].mean(dim=2), weights[-1].mean(dim=3), biases[-1]]
        means = [weight.mean(dim=(2, 3)) for weight in weights[1:-1]] + [bias.mean(dim=2) for bias in biases[:-1]]
        return torch.cat([end.flatten(1) for end in ends] + means, dim=1)


class Standardiser(nn.Module):
    """(x - mean) / deviation, with a mean and a deviation per entry of the networks, or per weight or bias tensor.

    Deviations of n numbers divide by n - 1, as torch's do. Until `fit` they are 0 and 1. What is constant among the
    training networks is only shifted.
    """

    def __init__(self, architecture: Architecture, per: Standardise) -> None:
        super().__init__()
        self.per = per
        shapes = [(t.num_nodes, t.num_sources, t.edges_per_pair) for t in architecture.timestamps]
        for index, shape in enumerate([*shapes, *((count, 1) for count in architecture.node_counts[1:])]):
            size = shape if per == "entry" else ()
            self.register_buffer(f"mean_{index}", torch.zeros(size))
            self.register_buffer(f"deviation_{index}", torch.ones(size))

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """Measure means and deviations of all networks. Raises UsageError where there are none."""
        count, sums, sizes = 0, [], []
        for graph in graphs:
            count += len(graph)
            tensors = [tensor.double() for part in parameters_of(graph) for tensor in part]
            moments = [torch.stack([self._sum(tensor), self._sum(tensor.square())]) for tensor in tensors]
            sums = [a + b for a, b in zip(sums, moments, strict=True)] if sums else moments
            sizes = [1 if self.per == "entry" else tensor[0].numel() for tensor in tensors]
        if not count:
            raise UsageError("there are no training networks to standardise by")
        for index, (mean, square) in enumerate(total / count for total in sums):
            size = count * sizes[index]
            deviation = ((square - mean.square()).clamp_min(0) * size / max(1, size - 1)).sqrt()
            deviation = torch.where(deviation < _SMALLEST_DEVIATION, 1.0, deviation)
            self.get_buffer(f"mean_{index}").copy_(mean)
            self.get_buffer(f"deviation_{index}").copy_(deviation)

    def forward(self, graph: GraphBatch) -> Features:
        tensors = [tensor for part in parameters_of(graph) for tensor in part]
        for index, tensor in enumerate(tensors):
            tensors[index] = (tensor - self.get_buffer(f"mean_{index}")) / self.get_buffer(f"deviation_{index}")
        return tensors[: len(graph.edges)], tensors[len(graph.edges) :]

    def _sum(self, tensor: Tensor) -> Tensor:
        """Over the networks: of every entry, or of the means of whole tensors."""
        return tensor.sum(dim=0) if self.per == "entry" else tensor.flatten(1).mean(dim=1).sum()


class InputEncoding(nn.Module):
    """Fourier features of every weight and bias, and a fixed encoding of which input or output it belongs to.

    The encoding is [sin(pi s x), cos(pi s x), x] of a place x = -1..1 and `io_bands` s = 1..`io_max_frequency`/2,
    beside the features: of the input on W^1, of the output on W^L and b^L, zero elsewhere. `out_dim` is C.
    """

    def __init__(self, config: NFNLayersConfig) -> None:
        super().__init__()
        num_frequencies, io_bands = config.num_frequencies, config.io_bands
        if io_bands < 0 or num_frequencies < 0:
            raise UsageError(f"num_frequencies and io_bands can't be negative, got {num_frequencies} and {io_bands}")
        self.fourier = FourierFeatures(num_frequencies, config.sigma) if num_frequencies else None
        self.io_bands, self.io_max_frequency = io_bands, config.io_max_frequency
        self.io_dim = 2 * io_bands + 1 if io_bands else 0
        self.out_dim = (self.fourier.out_dim if self.fourier else 1) + self.io_dim

    def forward(self, weights: Weights, biases: Biases) -> Features:
        features = [self._fourier(weight) for weight in weights], [self._fourier(bias) for bias in biases]
        if self.io_dim:
            features = self._with_places(*features)
        return [weight.flatten(3) for weight in features[0]], [bias.flatten(2) for bias in features[1]]

    def _fourier(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape features"]:
        return self.fourier(x) if self.fourier else x[..., None]

    def _with_places(self, weights: list[Tensor], biases: list[Tensor]) -> Features:
        inputs = self._places(weights[0].shape[2], like=weights[0])[:, None]
        outputs = self._places(weights[-1].shape[1], like=weights[0])[:, None]
        zero = inputs.new_zeros(self.io_dim)
        of_weights = [inputs] + [zero] * (len(weights) - 2) + [outputs[:, None]]
        of_biases = [zero] * (len(biases) - 1) + [outputs]
        return (
            [_beside(weight, places) for weight, places in zip(weights, of_weights, strict=True)],
            [_beside(bias, places) for bias, places in zip(biases, of_biases, strict=True)],
        )

    def _places(self, count: int, like: Tensor) -> Float[Tensor, "count features"]:
        places = torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device)[:, None]
        scales = torch.linspace(1, self.io_max_frequency / 2, self.io_bands, dtype=like.dtype, device=like.device)
        angles = math.pi * scales * places
        return torch.cat([angles.sin(), angles.cos(), places], dim=-1)


def parameters_of(graph: GraphBatch) -> Features:
    """The weights (B, n_l, n_{l-1}, k_l) and the biases (B, n_l, 1)."""
    return list(graph.edges), [nodes[..., :1] for nodes in graph.nodes]


def _beside(features: Tensor, places: Tensor) -> Tensor:
    return torch.cat([features, places.expand(*features.shape[:-1], -1)], dim=-1)
