"""Small architectures of every family."""

from dataclasses import replace

from zootool.architecture import Activation, Architecture, Norm, Pooling, Residual, Timestamp, Tokens
from zootool.nets.vit import SimpleVitConfig


def small_cnn() -> Architecture:
    """Two convolutions of 2 x 2 and 3 x 3 and a pooled linear layer."""
    return Architecture(
        1,
        (
            Timestamp("conv", 5, 1, edges_per_pair=4, kernel=(2, 2), activation=Activation("relu")),
            Timestamp("conv", 6, 5, edges_per_pair=9, kernel=(3, 3), activation=Activation("tanh")),
            Timestamp("pool_linear", 3, 6, pooling=Pooling("mean")),
        ),
        family="cnn",
    )


def residual_cnn(depth: int = 3, width: int = 6) -> Architecture:
    """Convolutions of equal width; each but the first two adds the output of the layer before the last."""
    layers = [Timestamp("conv", width, 1, edges_per_pair=9, kernel=(3, 3), activation=Activation("relu"))]
    for t in range(2, depth + 1):
        residuals = (Residual(source=t - 2),) if t > 2 else ()
        layers.append(
            Timestamp(
                "conv",
                width,
                width,
                edges_per_pair=9,
                kernel=(3, 3),
                activation=Activation("gelu"),
                residuals=residuals,
            )
        )
    return Architecture(1, (*layers, Timestamp("pool_linear", 3, width, pooling=Pooling("mean"))), family="cnn")


class NarrowVitConfig(SimpleVitConfig):
    """Of fewer nodes than SimpleViT's sines and cosines need."""

    @property
    def tokens(self) -> Tokens:
        return replace(super().tokens, positions="none")


def simple_vit(dim: int = 32, depth: int = 2, heads: int = 4, dim_head: int = 16, mlp: int = 64) -> Architecture:
    """SimpleViT as in the ViT zoo: patches of 4 x 4 x 3 numbers, no biases in attention, pre-norm."""
    inner, norm = heads * dim_head, Norm("layer")
    layers = [Timestamp("linear", dim, 48, source_norm=norm, norm=norm)]
    for _ in range(depth):
        block = len(layers)
        layers += [
            Timestamp("qkv", 3 * inner, dim, has_bias=False, source_norm=norm, num_heads=heads),
            Timestamp("attention", inner, 3 * inner, edges_per_pair=0, has_bias=False, num_heads=heads),
            Timestamp("linear", dim, inner, has_bias=False, residuals=(Residual(source=block),)),
            Timestamp("linear", mlp, dim, source_norm=norm, activation=Activation("gelu")),
            Timestamp("linear", dim, mlp, residuals=(Residual(source=block + 3),)),
        ]
    layers.append(Timestamp("pool_linear", 10, dim, source_norm=norm, pooling=Pooling("mean")))
    # SimpleViT's sines and cosines need eight nodes.
    tokens = Tokens(patch_size=4, positions="none" if dim % 4 or dim < 8 else "sincos_2d")
    return Architecture(48, tuple(layers), family="vit", tokens=tokens)
