"""How networks become neural graphs (Kofinas et al. 2024), and which networks can."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from dng.methods.probes import ProbeFeatures
from zootool.architecture import Architecture, Timestamp
from zootool.errors import UsageError

ACTIVATIONS = ("none", "relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu")
"""The activations that published neural graphs know by an embedding; sines aren't among them."""

_TRANSFORMER_KINDS = ("linear", "pool_linear", "qkv", "attention")
_CNN_KINDS = ("linear", "conv", "flatten_linear", "pool_linear")


@dataclass(frozen=True)
class NeuralGraphConfig:
    """What is read from networks, and how.

    Random Fourier features (`num_frequencies` of width `sigma`; 0 leaves them out) are taken of biases and of edges:
    kernels padded to a side of `kernel_size`, or with `attention` three numbers, a query's, key's and value's weight.
    `hidden_layers` is how many hidden layers have an embedding (by default as many as the deepest network),
    `activations` are those with one. `num_probes` points are run through every network.

    `standardise` takes means and deviations of layers from the training networks, `reverse` has edges both ways,
    `scalar_encoder` gives linear layers an encoder of their own, `repeat_nodes` lets a feature map of at most
    `max_positions` pixels be flattened, as nodes per channel and pixel.

    In training networks are changed at random (`dng.methods.augmentations`; nothing by default). The coordinates of
    MLPs are rotated by up to `rotation` degrees, scaled by 1 +- `scaling` and translated by up to `translation`.
    `noise` is added to weights and biases, in deviations of their layer: Gaussian, or with `constant_noise` the same
    number everywhere, as the published code has it by mistake. A share `parameter_dropout` of them becomes zero.
    """

    sigma: float = 3.0
    num_frequencies: int = 128
    kernel_size: int = 1
    attention: bool = False
    hidden_layers: int | None = None
    activations: tuple[str, ...] = ()
    num_probes: int = 0
    standardise: bool = False
    reverse: bool = False
    scalar_encoder: bool = False
    repeat_nodes: bool = False
    max_positions: int = 49
    rotation: float = 0.0
    scaling: float = 0.0
    translation: float = 0.0
    noise: float = 0.0
    constant_noise: bool = False
    parameter_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("kernel_size", "max_positions"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("num_frequencies", "num_probes", "hidden_layers", "rotation", "translation", "noise"):
            if (getattr(self, name) or 0) < 0:
                raise UsageError(f"{name} can't be negative, got {getattr(self, name)}")
        for name in ("scaling", "parameter_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.sigma <= 0:
            raise UsageError(f"sigma must be positive, got {self.sigma}")
        if self.attention and (self.kernel_size > 1 or self.scalar_encoder or self.repeat_nodes):
            raise UsageError("attention goes with kernel_size 1 and without scalar_encoder and repeat_nodes")

    @property
    def has_moves(self) -> bool:
        """Whether the coordinates of networks are changed in training."""
        return bool(self.rotation or self.scaling or self.translation)

    @property
    def node_dim(self) -> int:
        """Numbers per node: a bias, or that of a query, a key and a value."""
        return 3 if self.attention else 1

    @property
    def edge_dim(self) -> int:
        """Numbers per edge, its reverse aside."""
        return 3 if self.attention else self.kernel_size**2


def with_inr_augmentation(config: NeuralGraphConfig) -> NeuralGraphConfig:
    """The same, with the augmentation of published classifiers of INRs; its noise is Gaussian."""
    return replace(config, rotation=45.0, scaling=0.2, translation=0.25, noise=0.1, parameter_dropout=0.01)


def with_cnn_augmentation(config: NeuralGraphConfig) -> NeuralGraphConfig:
    """The same, with the augmentation of the published predictors on the Small CNN Zoo."""
    return replace(config, noise=0.1, parameter_dropout=0.01)


def neural_graph_refusal(
    architectures: Collection[Architecture], config: NeuralGraphConfig | None = None
) -> str | None:
    """Why networks can't become neural graphs, at all or with `config`; None where they can."""
    if not architectures:
        return "it has no networks"
    return next((reason for reason in _reasons(architectures, config)), None)


def is_transformer(architecture: Architecture) -> bool:
    """Whether a network has attention."""
    return any(timestamp.traits.is_coupled for timestamp in architecture.timestamps)


def num_hidden(architecture: Architecture) -> int:
    """Hidden layers of nodes: queries, keys, values and their attention's outputs are one."""
    return sum(timestamp.traits.has_edges for timestamp in architecture.timestamps) - 1


def kernel_of(timestamp: Timestamp) -> tuple[int, int]:
    """Height and width of what an edge holds."""
    return timestamp.kernel if timestamp.traits.is_spatial and timestamp.kernel else (1, 1)


def num_positions(timestamp: Timestamp) -> int:
    """Pixels of the flattened feature map that a layer reads; 1 where it reads no such."""
    return timestamp.edges_per_pair if timestamp.traits.flattens else 1


def _reasons(architectures: Collection[Architecture], config: NeuralGraphConfig | None) -> Iterator[str]:
    ends = {"inputs": {a.num_inputs for a in architectures}, "outputs": {a.node_counts[-1] for a in architectures}}
    for name, counts in ends.items():
        if len(counts) > 1:
            listed = " and ".join(map(str, sorted(counts)))
            yield f"its networks differ in {name} ({listed}), each of which has an embedding of its own"
    if len({is_transformer(architecture) for architecture in architectures}) > 1:
        yield "some of its networks are transformers, some are not"
    for architecture in architectures:
        yield from _kinds(architecture)
    if config is None:
        return
    for architecture in architectures:
        yield from _limits(architecture, config)
    yield from _buckets(architectures, config)


def _kinds(architecture: Architecture) -> Iterator[str]:
    known = _TRANSFORMER_KINDS if is_transformer(architecture) else _CNN_KINDS
    for t, timestamp in enumerate(architecture.timestamps, start=1):
        if timestamp.kind not in known:
            yield f"layer {t} of a transformer is of kind {timestamp.kind}"
        elif not is_transformer(architecture) and (timestamp.norm or timestamp.source_norm):
            yield f"layer {t} has a norm, for which neural graphs have no place (the DNG-Encoder has)"
    kinds = [timestamp.kind for timestamp in architecture.timestamps]
    for before, after in zip(["", *kinds], [*kinds, ""], strict=True):
        if (before == "qkv") != (after == "attention"):
            yield "attention doesn't follow its queries, keys and values"


def _limits(architecture: Architecture, config: NeuralGraphConfig) -> Iterator[str]:
    if is_transformer(architecture) != config.attention:
        yield f"transformers go with attention=True, other networks without, and the config has {config.attention}"
    if config.hidden_layers is not None and num_hidden(architecture) > config.hidden_layers:
        yield (
            f"it has networks of {num_hidden(architecture)} hidden layers, and {config.hidden_layers} have embeddings "
            "(hidden_layers; the DNG-Encoder takes any depth)"
        )
    for t, timestamp in enumerate(architecture.timestamps, start=1):
        yield from _layer_limits(t, timestamp, config)
    for t, timestamp in enumerate(architecture.timestamps[:-1], start=1):
        if config.activations and timestamp.activation.name not in config.activations:
            yield f"layer {t} has the activation {timestamp.activation.name!r}, which has no embedding (activations)"
    if config.num_probes and (reason := ProbeFeatures.refusal([architecture])):
        yield reason
    if config.has_moves:
        yield from _fixed_coordinates(architecture, config)


def _fixed_coordinates(architecture: Architecture, config: NeuralGraphConfig) -> Iterator[str]:
    """What keeps the first weights and biases from moving a network's coordinates."""
    first = architecture.timestamps[0]
    sources = {residual.source for timestamp in architecture.timestamps for residual in timestamp.residuals}
    if first.kind != "linear" or first.source_activation.name != "none" or architecture.tokens is not None:
        yield "rotation, scaling and translation move the coordinates of MLPs, and its networks are none"
    elif 0 in sources:
        yield "rotation, scaling and translation go into layer 1, and another layer reads the coordinates too"
    elif config.rotation and architecture.num_inputs != 2:
        yield f"rotation turns coordinates of two numbers, and its networks have {architecture.num_inputs}"
    elif config.translation and not first.has_bias:
        yield "translation goes into the biases of layer 1, which has none"


def _layer_limits(t: int, timestamp: Timestamp, config: NeuralGraphConfig) -> Iterator[str]:
    kernel, positions = kernel_of(timestamp), num_positions(timestamp)
    if max(kernel) > config.kernel_size:
        yield (
            f"layer {t} has a kernel of {kernel[0]} x {kernel[1]}, and they are padded to {config.kernel_size} x "
            f"{config.kernel_size} (kernel_size; the DNG-Encoder takes any)"
        )
    if positions > 1 and not config.repeat_nodes:
        yield f"layer {t} reads a flattened feature map, which needs repeat_nodes (the DNG-Encoder takes it as it is)"
    if positions > config.max_positions:
        yield (
            f"layer {t} reads a flattened feature map of {positions} pixels, and {config.max_positions} have "
            "embeddings (max_positions; the DNG-Encoder takes any number)"
        )


def _buckets(architectures: Collection[Architecture], config: NeuralGraphConfig) -> Iterator[str]:
    """What networks of equal node counts must share, since they may meet in a batch."""
    shared: dict[tuple[int, ...], tuple[object, ...]] = {}
    for architecture in architectures:
        is_kernel = tuple(config.scalar_encoder and t.traits.is_spatial for t in architecture.timestamps)
        mine = tuple(num_positions(t) for t in architecture.timestamps), is_kernel
        if shared.setdefault(architecture.node_counts, mine) != mine:
            yield (
                "networks of equal widths differ in the pixels of their flattened feature maps, or in which layers "
                "are convolutions (the DNG-Encoder takes both)"
            )
