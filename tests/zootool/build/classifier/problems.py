"""CNNs with random images, for the kernel and for torch alike."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tests.zootool.nets.modules import Cnn
from zootool.build.classifier.cnn_kernel import ImageData, Scratch
from zootool.build.classifier.cnn_training import working_memory
from zootool.build.classifier.elementwise import OPTIMISER_CODES, Optimiser, State
from zootool.build.classifier.geometry import Plan, plan_of
from zootool.build.siren.products import aligned_zeros
from zootool.nets.cnn import CnnConfig

LEVELS = (np.arange(256) / 255 * 2 - 1).astype(np.float32)

SMALL = CnnConfig(strides=(1, 1, 1), image_shape=(8, 8))
CONFIGS = {
    "small": SMALL,
    "mnist": CnnConfig(activations=("tanh",) * 3, image_shape=(28, 28)),
    "residual": CnnConfig(
        (3, 8, 4, 32), (3, 5, 7), (1, 1, 1), (1, 2, 3), ("gelu", "leaky_relu", "sigmoid"), (None, None, 0),
        image_shape=(9, 10),
    ),
    "flatten": CnnConfig(
        (3, 8, 4, 20, 8), (3, 5, 3, 3), (2, 1, 2, 1), (1, 2, 1, 0), ("gelu", "none", "sigmoid", "tanh"),
        (None, 0, None, None), 20, "flatten", (13, 12),
    ),
    "one layer": CnnConfig((1, 5), (2,), (1,), (0,), ("relu",), (None,), 3, image_shape=(4, 4)),
}  # fmt: skip


@dataclass(eq=False)
class Problem:
    """A network as a module and as the kernel's parameters, and images as tensors and as the kernel's data."""

    plan: Plan
    module: Cnn
    parameters: np.ndarray
    scratch: Scratch
    state: State
    data: ImageData
    images: Tensor
    labels: Tensor

    def flat(self) -> np.ndarray:
        """The module's numbers in the state_dict's order."""
        return np.concatenate([value.detach().numpy().ravel() for value in self.module.state_dict().values()])


def problem(config: CnnConfig, num_images: int = 70) -> Problem:
    """A problem of random weights, images and labels."""
    rng = np.random.default_rng(0)
    plan = plan_of(config)
    assert config.image_shape is not None
    pixels = rng.integers(0, 256, (num_images, config.channels[0], *config.image_shape), dtype=np.uint8)
    labels = rng.integers(0, config.num_classes, num_images)
    torch.manual_seed(0)
    module = Cnn(config)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    scratch, state = working_memory(plan)
    data = ImageData(pixels.reshape(-1), LEVELS, labels)
    images = torch.from_numpy(LEVELS[pixels])
    found = Problem(
        plan, module, aligned_zeros(plan.num_parameters), scratch, state, data, images, torch.from_numpy(labels)
    )
    found.parameters[:] = plan.pack(found.flat())
    return found


def kernel_optimiser(name: str, lr: float, l2: float) -> Optimiser:
    """The kernel's optimiser called `name`."""
    return Optimiser(OPTIMISER_CODES[name], lr, l2)


def torch_optimiser(name: str, module: nn.Module, lr: float, l2: float) -> torch.optim.Optimizer:
    """torch's own."""
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    return kinds[name](module.parameters(), lr=lr, weight_decay=l2)
