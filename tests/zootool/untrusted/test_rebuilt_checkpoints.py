"""Checkpoints that others trained, where ZOO_DATA holds them: read, stored, rebuilt and measured."""

import os
from pathlib import Path

import pytest
import torch

from zootool.conversion.convert import convert
from zootool.formats.options import ReadOptions
from zootool.images import load_images
from zootool.zoo import Zoo, open_zoo, verify

CHECKPOINTS = Path(os.environ.get("ZOO_DATA", "absent")) / "checkpoints"

TINY_VIT = """
num_inputs: 49
family: vit
tokens: {patch_size: 7, patch_order: channels, positions: learned}
position: pos_embed
layers:
  - {kind: linear, weight: patch_embed.proj.weight, bias: patch_embed.proj.bias}
  - {kind: qkv, weight: encoder.0.attn.in_proj_weight, bias: encoder.0.attn.in_proj_bias, num_heads: 1}
  - {kind: attention, num_heads: 1}
  - kind: linear
    weight: encoder.0.attn.out_proj.weight
    bias: encoder.0.attn.out_proj.bias
    norm: {kind: layer, at: encoder.0.norm1}
    residuals: [{source: 1, added: before_norm}]
  - {kind: linear, weight: encoder.0.ffn.fc1.weight, bias: encoder.0.ffn.fc1.bias, activation: relu}
  - kind: linear
    weight: encoder.0.ffn.fc2.weight
    bias: encoder.0.ffn.fc2.bias
    norm: {kind: layer, at: encoder.0.norm2}
    residuals: [{source: 4, added: before_norm}]
  - {kind: pool_linear, weight: classifier.weight, bias: classifier.bias, source_norm: {kind: layer, at: norm}}
"""


def checkpoint(name: str) -> Path:
    path = CHECKPOINTS / name
    if not path.is_file():
        pytest.skip(f"$ZOO_DATA holds no checkpoints/{name}")
    return path


def stored(path: Path, folder: Path, reading: ReadOptions | None = None) -> Zoo:
    convert(path, folder / "x.zoo", reading=reading)
    assert verify(folder / "x.zoo", "deep").passed
    zoo = open_zoo(folder / "x.zoo")
    wanted = torch.load(path, weights_only=True, map_location="cpu")
    wanted = {key.removeprefix("module."): value for key, value in wanted.get("state_dict", wanted).items()}
    found = zoo.state_dict(0)
    assert list(found) == list(wanted)
    for key, tensor in found.items():
        assert tensor.dtype == wanted[key].dtype
        assert tensor.numpy().tobytes() == wanted[key].numpy().tobytes()
    return zoo


@torch.no_grad()
def test_a_published_resnet_20_keeps_its_accuracy(tmp_path: Path) -> None:
    zoo = stored(checkpoint("resnet20-cifar10/resnet20-12fca82f.th"), tmp_path)
    recorded = zoo.nets["best_prec1"].tolist()[0] / 100
    assert recorded == pytest.approx(0.9178)
    images = load_images("cifar10", partial=True)
    chosen = (images.split == "test").nonzero()[0][:1000]
    x = torch.from_numpy(images.pixels[chosen]).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean[:, None, None]) / std[:, None, None]
    right = zoo.module(0)(x).argmax(dim=1) == torch.from_numpy(images.labels[chosen])
    # Three standard errors of a share of 1,000 images.
    assert abs(right.float().mean().item() - recorded) < 3 * (recorded * (1 - recorded) / 1000) ** 0.5


def test_a_vision_transformer_is_stored_as_declared(tmp_path: Path) -> None:
    declared = tmp_path / "vit.yaml"
    declared.write_text(TINY_VIT)
    zoo = stored(checkpoint("tiny-vit-mnist/mnist_vit.pth"), tmp_path, ReadOptions(architecture=declared))
    (architecture,) = zoo.architectures.values()
    assert architecture.node_counts == (49, 32, 96, 32, 32, 64, 32, 10)
    assert sum(tensor.numel() for tensor in zoo.state_dict(0).values()) == 11_050
