"""SimpleViT (Beyer et al. 2022): patches, fixed positions, pre-norm blocks without most biases, mean over tokens."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from zootool.architecture import Activation, Architecture, Norm, Pooling, Residual, Role, Timestamp, Tokens
from zootool.nets.lay_out import Entry, lay_out
from zootool.nets.layers import attend, sincos_positions, to_patches

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


class SimpleVit(nn.Module):
    """A SimpleViT with the state_dict keys of vit-pytorch."""

    def __init__(self, config: SimpleVitConfig) -> None:
        super().__init__()
        self.config = config
        # Index 0 is the rearrangement into patches in vit-pytorch, and has no parameters.
        embedding = [nn.LayerNorm(config.patch_dim), nn.Linear(config.patch_dim, config.dim), nn.LayerNorm(config.dim)]
        self.to_patch_embedding = nn.Sequential(nn.Identity(), *embedding)
        self.transformer = _Transformer(config)
        self.linear_head = nn.Linear(config.dim, config.num_classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        rows, columns = (side // self.config.patch_size for side in x.shape[-2:])
        x = self.to_patch_embedding(to_patches(self.config.tokens, x))
        x = x + sincos_positions(rows, columns, self.config.dim).to(x)
        return self.linear_head(self.transformer(x).mean(1))


class _Transformer(nn.Module):
    def __init__(self, config: SimpleVitConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        blocks = [nn.ModuleList([_Attention(config), _FeedForward(config)]) for _ in range(config.depth)]
        self.layers = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        for attention, feed_forward in self.layers:  # type: ignore[misc]
            x = attention(x) + x
            x = feed_forward(x) + x
        return self.norm(x)


class _Attention(nn.Module):
    def __init__(self, config: SimpleVitConfig) -> None:
        super().__init__()
        inner = config.num_heads * config.head_dim
        self.num_heads = config.num_heads
        self.norm = nn.LayerNorm(config.dim)
        self.to_qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, config.dim, bias=False)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        return self.to_out(attend(self.num_heads, self.to_qkv(self.norm(x))))


class _FeedForward(nn.Module):
    def __init__(self, config: SimpleVitConfig) -> None:
        super().__init__()
        hidden = [nn.Linear(config.dim, config.mlp_dim), nn.GELU(), nn.Linear(config.mlp_dim, config.dim)]
        self.net = nn.Sequential(nn.LayerNorm(config.dim), *hidden)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        return self.net(x)


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
        *_linear("to_patch_embedding.2", dim, config.patch_dim, 1),
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
            *_linear(f"{mlp}.net.1", config.mlp_dim, dim, first + 3),
            *_linear(f"{mlp}.net.3", dim, config.mlp_dim, first + 4),
        ]
    return [*entries, *_linear("linear_head", config.num_classes, dim, last)]


def _linear(prefix: str, num_nodes: int, num_sources: int, timestamp: int) -> list[Entry]:
    return [
        Entry(f"{prefix}.weight", (num_nodes, num_sources), "weight", timestamp),
        Entry(f"{prefix}.bias", (num_nodes,), "bias", timestamp),
    ]


def _norm(prefix: str, size: int, timestamp: int, is_source: bool) -> list[Entry]:
    roles: tuple[Role, Role] = ("source_scale", "source_shift") if is_source else ("scale", "shift")
    return [
        Entry(f"{prefix}.weight", (size,), roles[0], timestamp),
        Entry(f"{prefix}.bias", (size,), roles[1], timestamp),
    ]
