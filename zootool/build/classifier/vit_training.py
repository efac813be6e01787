"""Training SimpleViTs: networks that are trained equally long go together, their parameters stacked.

A network's loss is the mean over its own images and the stack's loss is their sum, so that each gradient, and each of
Adam's steps, is that of a single network.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from zootool.architecture.kinds import attend
from zootool.architecture.layers import sincos_positions, to_patches
from zootool.build.classifier.classifier_data import Checkpoint, ClassifierData, Labelled, levels_of
from zootool.build.classifier.draws import AUGMENTATION, shuffled, uniform_numbers
from zootool.build.philox import stream_words
from zootool.build.recipe import VitRecipe
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture

_JUDGED_IMAGES = 512
"""Images at a time when losses and accuracies are measured."""

Stack = dict[str, Tensor]
"""state_dict key -> (networks, *shape)."""


def train_vits(runs: Sequence[int], epochs: int, recipe: VitRecipe, data: ClassifierData) -> list[Checkpoint]:
    """Train networks for so many epochs on one thread; each one's last checkpoint.

    A network's random numbers follow from the seed and its run alone; rounding depends on which are stacked with it.
    """
    config, levels = recipe.config(data.image_shape[2], data.num_classes), levels_of(recipe.target)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parameters = initial_stack(runs, config, recipe.seed)
        optimiser = torch.optim.Adam(parameters.values(), lr=recipe.lr)
        for epoch in range(1, epochs + 1):
            for images, labels in _batches(runs, epoch, recipe, data.train):
                optimiser.zero_grad()
                outputs = stacked_outputs(parameters, config, _scaled(images, levels))
                # The sum over networks of the mean over images.
                functional.cross_entropy(outputs.flatten(0, 1), labels.flatten()).mul(len(runs)).backward()
                optimiser.step()
        metrics = [_judge(parameters, config, images, levels) for images in (data.train, data.test)]
    finally:
        torch.set_num_threads(threads)
    flat = torch.cat([tensor.detach().flatten(1) for tensor in parameters.values()], dim=1).numpy()
    return [Checkpoint(epochs, flat[i], *metrics[0][i], *metrics[1][i]) for i in range(len(runs))]


def initial_stack(runs: Sequence[int], config: SimpleVitConfig, seed: int) -> Stack:
    """Weights and biases of U(+-1/sqrt(sources)), norms at 1 and 0."""
    stack, bounds = {}, {}
    for part, slot in enumerate(simple_vit_architecture(config).slots):
        if slot.role == "weight":
            bounds[slot.timestamp] = slot.shape[1] ** -0.5
        if slot.role in ("weight", "bias"):
            bound = bounds[slot.timestamp]
            tensors = [uniform_numbers(bound, slot.shape, seed, run, part) for run in runs]
            stack[slot.key] = torch.from_numpy(np.stack(tensors))
        else:
            fill = 1.0 if slot.role.endswith("scale") else 0.0
            stack[slot.key] = torch.full((len(runs), *slot.shape), fill)
    return {key: tensor.requires_grad_() for key, tensor in stack.items()}


def stacked_outputs(
    parameters: Stack, config: SimpleVitConfig, images: Float[Tensor, "networks batch channels height width"]
) -> Float[Tensor, "networks batch classes"]:
    """What each network computes of its own images: `SimpleVit.forward`, network by network."""
    num_networks, batch = images.shape[:2]
    rows, columns = (side // config.patch_size for side in images.shape[-2:])
    x = to_patches(config.tokens, images.flatten(0, 1)).unflatten(0, (num_networks, batch))
    x = _norm(parameters, "to_patch_embedding.1", x)
    x = _norm(parameters, "to_patch_embedding.3", _linear(parameters, "to_patch_embedding.2", x))
    x = x + sincos_positions(rows, columns, config.dim)
    for block in range(config.depth):
        attention, mlp = (f"transformer.layers.{block}.{part}" for part in (0, 1))
        qkv = _linear(parameters, f"{attention}.to_qkv", _norm(parameters, f"{attention}.norm", x))
        attended = attend(config.num_heads, qkv.flatten(0, 1)).unflatten(0, (num_networks, batch))
        x = _linear(parameters, f"{attention}.to_out", attended) + x
        hidden = functional.gelu(_linear(parameters, f"{mlp}.net.1", _norm(parameters, f"{mlp}.net.0", x)))
        x = _linear(parameters, f"{mlp}.net.3", hidden) + x
    return _linear(parameters, "linear_head", _norm(parameters, "transformer.norm", x).mean(2, keepdim=True))[:, :, 0]


def augmented(
    pixels: UInt8[np.ndarray, "images height width channels"], recipe: VitRecipe, run: int, epoch: int
) -> UInt8[np.ndarray, "images height width channels"]:
    """Every image mirrored or not, and cut out of its surroundings at a place that is drawn for it."""
    count, height, width, _ = pixels.shape
    words = stream_words(recipe.seed, (run, epoch, AUGMENTATION), count).astype(np.int64)
    places = 2 * recipe.crop + 1
    rows = ((words & 0x7FFF) * places >> 15)[:, None] + np.arange(height)
    columns = ((words >> 15 & 0x7FFF) * places >> 15)[:, None] + np.arange(width)
    if recipe.flip:
        columns = np.where((words >> 31 == 1)[:, None], columns[:, ::-1], columns)
    border = (recipe.crop, recipe.crop)
    padded = np.pad(pixels, ((0, 0), border, border, (0, 0)))
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _batches(
    runs: Sequence[int], epoch: int, recipe: VitRecipe, train: Labelled
) -> Iterator[tuple[UInt8[np.ndarray, "networks batch height width channels"], Int64[Tensor, "networks batch"]]]:
    """Each network's own images in its own order."""
    count = len(train.labels)
    orders = [shuffled(count, recipe.seed, run, epoch) for run in runs]
    pixels = [augmented(train.pixels, recipe, run, epoch) for run in runs]
    for start in range(0, count, recipe.batch_size):
        rows = [order[start : start + recipe.batch_size] for order in orders]
        images = np.stack([own[row] for own, row in zip(pixels, rows, strict=True)])
        yield images, torch.from_numpy(np.stack([train.labels[row] for row in rows]))


@torch.no_grad()
def _judge(
    parameters: Stack, config: SimpleVitConfig, images: Labelled, levels: Float32[np.ndarray, " 256"]
) -> list[tuple[float, float]]:
    """Loss and accuracy of each network."""
    num_networks, count = len(next(iter(parameters.values()))), len(images.labels)
    losses: Float[np.ndarray, " networks"] = np.zeros(num_networks)
    hits: Int64[np.ndarray, " networks"] = np.zeros(num_networks, np.int64)
    for start in range(0, count, _JUDGED_IMAGES):
        part = slice(start, start + _JUDGED_IMAGES)
        pixels = _scaled(images.pixels[part][None], levels).expand(num_networks, -1, -1, -1, -1)
        labels = torch.from_numpy(images.labels[part]).expand(num_networks, -1)
        outputs = stacked_outputs(parameters, config, pixels)
        losses += functional.cross_entropy(outputs.mT, labels, reduction="none").sum(1).double().numpy()
        hits += (outputs.argmax(2) == labels).sum(1).numpy()
    return list(zip((losses / count).tolist(), (hits / count).tolist(), strict=True))


def _scaled(
    pixels: UInt8[np.ndarray, "networks batch height width channels"], levels: Float32[np.ndarray, " 256"]
) -> Float[Tensor, "networks batch channels height width"]:
    return torch.from_numpy(levels[pixels]).permute(0, 1, 4, 2, 3)


def _linear(
    parameters: Stack, key: str, x: Float[Tensor, "networks batch tokens sources"]
) -> Float[Tensor, "networks batch tokens targets"]:
    weight, bias = parameters[f"{key}.weight"].mT, parameters.get(f"{key}.bias")
    flat = x.flatten(1, 2)
    product = torch.bmm(flat, weight) if bias is None else torch.baddbmm(bias[:, None], flat, weight)
    return product.unflatten(1, x.shape[1:3])


def _norm(
    parameters: Stack, key: str, x: Float[Tensor, "networks batch tokens dim"]
) -> Float[Tensor, "networks batch tokens dim"]:
    scale, shift = (parameters[f"{key}.{name}"][:, None, None] for name in ("weight", "bias"))
    return functional.layer_norm(x, x.shape[-1:]) * scale + shift
