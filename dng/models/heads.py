"""Heads: classifiers of latent maps and of memories (method, section 4)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_DROPOUT_BETWEEN_BLOCKS = 0.2
_DROPOUT_IN_MLP = 0.5


class CodesClassifier(nn.Module):
    """Reader INRs from frozen codes: gives logits (B, classes)."""

    def loss(self, codes: Float[Tensor, "batch ..."], labels: Tensor) -> Tensor:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self(codes), labels)

    def predict(self, codes: Float[Tensor, "batch ..."]) -> Tensor:
        """The most likely class of every network."""
        return self(codes).argmax(dim=-1)


class LatentClassifier(CodesClassifier):
    """Reader INRs from their frozen latent maps, each view on its own; the views' logits are summed.

    The blocks depend on the latent side alone. Even (32 x 32 images, side 8): conv3, conv3, conv1. Odd (28 x 28,
    side 7): conv3 with stride 2, conv1. Each is followed by BatchNorm, ReLU and 2 x 2 pooling while the side is
    above 1; what is left is averaged and goes through an MLP of three layers. With `joint_views` > 1 so many views
    enter side by side as one input, as the paper's text has it.
    """

    def __init__(
        self, latent_dim: int, latent_side: int, num_classes: int, dim: int = 256, joint_views: int = 1
    ) -> None:
        super().__init__()
        self.joint_views = joint_views
        latent_dim = latent_dim * joint_views
        between = nn.Dropout(_DROPOUT_BETWEEN_BLOCKS)
        if latent_side % 2 == 0:
            layers = [*_block(latent_dim, dim, 3), between, *_block(dim, dim, 3), between, *_block(dim, dim, 1)]
        else:
            layers = [*_block(latent_dim, dim, 3, stride=2), between, *_block(dim, dim, 1)]
        self.blocks = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.mlp = mlp_head(dim, dim, num_classes)

    def forward(self, latents: Float[Tensor, "batch views latent side side"]) -> Float[Tensor, "batch _views classes"]:
        if self.joint_views > 1:
            latents = latents.flatten(1, 2)[:, None]
        features = self.blocks(latents.flatten(0, 1))
        return self.mlp(features).unflatten(0, latents.shape[:2])

    def loss(self, codes: Float[Tensor, "batch views latent side side"], labels: Tensor) -> Tensor:
        """Cross-entropy with the label repeated for every view."""
        logits = self(codes)
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1]))

    def predict(self, codes: Float[Tensor, "batch views latent side side"]) -> Tensor:
        """The class of every network, from the sum of its views' logits."""
        return self(codes).sum(dim=1).argmax(dim=-1)


class CodeClassifier(CodesClassifier):
    """Reader INRs from one frozen code vector each: an MLP of three layers without dropout."""

    def __init__(self, code_dim: int, num_classes: int, dim: int = 256) -> None:
        super().__init__()
        self.mlp = mlp_head(code_dim, dim, num_classes, dropout=0.0)

    def forward(self, codes: Float[Tensor, "batch code"]) -> Float[Tensor, "batch classes"]:
        return self.mlp(codes)


def mlp_head(in_dim: int, hidden_dim: int, out_dim: int, dropout: float = _DROPOUT_IN_MLP) -> nn.Sequential:
    """A three-layer ReLU MLP with dropout behind each hidden layer."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden_dim, out_dim),
    )  # fmt: skip


class _PoolWhileAboveOne(nn.Module):
    """2 x 2 max pooling that leaves a map of side 1 alone."""

    def forward(self, x: Float[Tensor, "batch channels side side"]) -> Tensor:
        return nn.functional.max_pool2d(x, 2) if x.shape[-1] > 1 else x


def _block(in_dim: int, out_dim: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(in_dim, out_dim, kernel, stride=stride, padding=kernel // 2)
    return [convolution, nn.BatchNorm2d(out_dim), nn.ReLU(), _PoolWhileAboveOne()]


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def non_finite_parameter(module: nn.Module) -> str | None:
    """The name of a parameter that left the finite numbers, or None."""
    return next((name for name, p in module.named_parameters() if not torch.isfinite(p).all()), None)
