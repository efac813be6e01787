"""The Architecture of SimpleViTs, apart from their module."""

from dataclasses import dataclass

from zootool.architecture import Activation, Architecture, Norm, Pooling, Residual, Timestamp, Tokens
from zootool.nets.lay_out import Entry, lay_out, norm_role, weight_and_bias

_LAYER_NORM = Norm("layer")


@dataclass(frozen=True)
class SimpleVitConfig:
    """The sizes of a SimpleViT; the defaults are the ViT zoo's."""

    channels: int = 3
    patch_size: int = 4
    dim: int = 32
    depth: int = 2
    num_heads: int = 4
    head_dim: int = 16
    mlp_dim: int = 64
    num_classes: int = 10

    @property
    def patch_dim(self) -> int:
        """Numbers in a patch."""
        return self.channels * self.patch_size**2

    @property
    def tokens(self) -> Tokens:
        """How images become tokens."""
        return Tokens(patch_size=self.patch_size, patch_order="pixels", positions="sincos_2d")


def simple_vit_architecture(config: SimpleVitConfig) -> Architecture:
    """The architecture of `SimpleVit(config)`: 2 + 5 timestamps per block."""
    dim, inner = config.dim, config.num_heads * config.head_dim
    embedding = Timestamp("linear", dim, config.patch_dim, source_norm=_LAYER_NORM, norm=_LAYER_NORM)
    timestamps = [embedding]
    for _ in range(config.depth):
        block_input = len(timestamps)
        attended = Residual(source=block_input + 3)
        timestamps += [
            Timestamp("qkv", 3 * inner, dim, has_bias=False, source_norm=_LAYER_NORM, num_heads=config.num_heads),
            Timestamp("attention", inner, 3 * inner, edges_per_pair=0, has_bias=False, num_heads=config.num_heads),
            Timestamp("linear", dim, inner, has_bias=False, residuals=(Residual(source=block_input),)),
            Timestamp("linear", config.mlp_dim, dim, source_norm=_LAYER_NORM, activation=Activation("gelu")),
            Timestamp("linear", dim, config.mlp_dim, residuals=(attended,)),
        ]
    head = Timestamp("pool_linear", config.num_classes, dim, source_norm=_LAYER_NORM, pooling=Pooling("mean"))
    timestamps.append(head)
    return lay_out(config.patch_dim, timestamps, _entries(config), family="vit", tokens=config.tokens)


def _entries(config: SimpleVitConfig) -> list[Entry]:
    """The state_dict's entries in its own order."""
    dim, inner = config.dim, config.num_heads * config.head_dim
    last = 2 + 5 * config.depth
    entries = [
        *_norm("to_patch_embedding.1", config.patch_dim, 1, is_source=True),
        *weight_and_bias("to_patch_embedding.2", (dim, config.patch_dim), 1),
        *_norm("to_patch_embedding.3", dim, 1, is_source=False),
        *_norm("transformer.norm", dim, last, is_source=True),
    ]
    for block in range(config.depth):
        first = 2 + 5 * block
        attention, mlp = (f"transformer.layers.{block}.{part}" for part in (0, 1))
        entries += [
            *_norm(f"{attention}.norm", dim, first, is_source=True),
            Entry(f"{attention}.to_qkv.weight", (3 * inner, dim), "weight", first),
            Entry(f"{attention}.to_out.weight", (dim, inner), "weight", first + 2),
            *_norm(f"{mlp}.net.0", dim, first + 3, is_source=True),
            *weight_and_bias(f"{mlp}.net.1", (config.mlp_dim, dim), first + 3),
            *weight_and_bias(f"{mlp}.net.3", (dim, config.mlp_dim), first + 4),
        ]
    return [*entries, *weight_and_bias("linear_head", (config.num_classes, dim), last)]


def _norm(prefix: str, size: int, timestamp: int, is_source: bool) -> list[Entry]:
    return [Entry(f"{prefix}.{name}", (size,), norm_role(name, is_source), timestamp) for name in ("weight", "bias")]
