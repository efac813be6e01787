"""SimpleViT (Beyer et al. 2022): patches, fixed positions, pre-norm blocks without most biases, mean over tokens."""

from jaxtyping import Float
from torch import Tensor, nn

from zootool.nets.layers import attend, sincos_positions, to_patches
from zootool.nets.vit_architecture import SimpleVitConfig, simple_vit_architecture

__all__ = ["SimpleVit", "SimpleVitConfig", "simple_vit_architecture"]


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
