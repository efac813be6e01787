"""Live modules of SIRENs, CNNs and SimpleViTs, written apart from `Network`: what its outputs are compared with."""

from itertools import pairwise
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zootool.architecture import Activation, Residual
from zootool.architecture.kinds import attend
from zootool.architecture.layers import add_residual, sincos_positions, to_patches
from zootool.architecture.steps import activate
from zootool.nets.cnn import CnnConfig
from zootool.nets.vit import SimpleVitConfig


class Sine(nn.Module):
    """sin(omega_0 (W x + b)), with the linear map as the submodule `linear`."""

    def __init__(self, num_inputs: int, num_outputs: int, omega_0: float) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, num_outputs)
        self.omega_0 = omega_0

    def forward(self, x: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        return torch.sin(self.omega_0 * self.linear(x))


class Siren(nn.Module):
    """One SIREN as a live module whose state_dict matches `siren_architecture`. Initialisation is torch's own."""

    def __init__(
        self,
        num_inputs: int,
        hidden: tuple[int, ...],
        num_outputs: int,
        omega_0: float = 30.0,
        output_offset: float = 0.0,
    ) -> None:
        super().__init__()
        widths = (num_inputs, *hidden)
        sines = [Sine(a, b, omega_0) for a, b in pairwise(widths)]
        self.net = nn.Sequential(*sines, nn.Linear(widths[-1], num_outputs))
        self.output_offset = output_offset

    def forward(self, x: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        return self.net(x) + self.output_offset


class Cnn(nn.Module):
    """The CNN of a config, with the Wild Park's state_dict keys `layers.{i}.*` and `fc.*`."""

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.config = config
        sizes = zip(pairwise(config.channels), config.kernels, config.strides, config.paddings, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, k, s, p) for (a, b), k, s, p in sizes)
        positions = 1 if config.head == "pool" else prod(config.sides[-1])
        self.fc = nn.Linear(config.channels[-1] * positions, config.num_classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        outputs: list[Tensor] = []
        for layer, name, source in zip(self.layers, self.config.activations, self.config.residuals, strict=True):
            x = layer(x)
            if source is not None:
                x = add_residual(Residual(source=source + 1), x, outputs[source])
            x = activate(Activation(name), x)
            outputs.append(x)
        return self.fc(x.mean((2, 3)) if self.config.head == "pool" else x.flatten(1))


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
