"""The ResNets for CIFAR (He et al. 2016) with parameter-free shortcuts: option A."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zootool.architecture import Architecture

WIDTHS = (16, 32, 64)


class CifarResnet(nn.Module):
    """ResNet-20, 32, 44, 56, ...: `depth` = 6 n + 2 for n blocks in each of three stages."""

    def __init__(self, depth: int = 20, num_classes: int = 10) -> None:
        super().__init__()
        num_blocks, rest = divmod(depth - 2, 6)
        if rest or num_blocks < 1:
            raise ValueError(f"depth must be 6 n + 2, got {depth}")
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], num_blocks)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], num_blocks)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], num_blocks)
        self.linear = nn.Linear(WIDTHS[2], num_classes)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, num_sources: int, num_nodes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_sources, num_nodes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_nodes)
        self.conv2 = nn.Conv2d(num_nodes, num_nodes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_nodes)
        self.padding = (num_nodes - num_sources) // 2
        self.stride = stride

    def forward(self, x: Float[Tensor, "batch sources height width"]) -> Tensor:
        shortcut = x
        if self.stride > 1 or self.padding:
            cut = x[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(cut, (0, 0, 0, 0, self.padding, self.padding))
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


def cifar_resnet_architecture(depth: int = 20, num_classes: int = 10) -> Architecture:
    """The architecture of `CifarResnet(depth, num_classes)`."""
    return Architecture.from_module(CifarResnet(depth, num_classes), torch.zeros(1, 3, 32, 32), family="resnet")


def _stage(num_sources: int, num_nodes: int, num_blocks: int) -> nn.Sequential:
    stride = 1 if num_sources == num_nodes else 2
    blocks = [_Block(num_sources, num_nodes, stride)]
    return nn.Sequential(*blocks, *(_Block(num_nodes, num_nodes, 1) for _ in range(num_blocks - 1)))
