import pytest
import torch
from torch import nn

from dng.methods.inr2array import CellRenderer, JointDecoder, TensorwiseDecoder
from dng.models.siren_rendering import render_mlps
from dng.training.seed import seeded
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (5, 6), 3, omega_0=8.0, output_offset=0.25)
COLOURED = siren_architecture(2, (32, 32), 3)


@pytest.mark.parametrize(("latent_side", "image_side"), [(4, 28), (2, 9), (8, 9), (1, 3), (5, 5)])
def test_every_pixel_comes_from_the_siren_of_its_cell(latent_side: int, image_side: int) -> None:
    num_sirens = 2 * latent_side**2
    with seeded(2):
        weights = torch.randn(num_sirens, SIREN.num_edges, dtype=torch.float64)
        biases = torch.randn(num_sirens, SIREN.num_nodes, dtype=torch.float64)
    found = CellRenderer(SIREN, latent_side, image_side)(weights, biases)
    whole = render_mlps(SIREN, weights, biases, image_side).unflatten(0, (2, latent_side, latent_side))
    coordinates = torch.linspace(-1, 1, image_side, dtype=torch.float64)
    cells = torch.round((latent_side - 1) * (coordinates + 1) / 2).long().tolist()
    for row, row_cell in enumerate(cells):
        for column, column_cell in enumerate(cells):
            expected = whole[:, row_cell, column_cell, :, row, column]
            torch.testing.assert_close(found[:, :, row, column], expected, rtol=0, atol=1e-12)


def test_decoders_begin_as_sirens_do() -> None:
    with seeded(3):
        decoder = TensorwiseDecoder(COLOURED, 64, 256)
        joint = JointDecoder(COLOURED, 64, 256)
    lasts = [mlp.get_submodule("4") for mlp in (*decoder.weights, *decoder.biases)]
    for last, bound in zip(lasts, (1 / 2, 1 / 32, 1 / 32, 1 / 256, 1 / 256, 1 / 256), strict=True):
        bias, weight = last.get_parameter("bias"), last.get_parameter("weight")
        assert 0.5 * bound < bias.abs().max() <= bound
        assert weight.std().item() == pytest.approx(0.01 * (2 / 256) ** 0.5, rel=0.05)
    tensors = joint.start.split([64, 1024, 96, 32, 32, 3])
    deeper = (6 / 32) ** 0.5 / 30
    bounds = (1 / 2, deeper, deeper, 2**-0.5, 32**-0.5, 32**-0.5)
    for tensor, scale, bound in zip(tensors, joint.scales, bounds, strict=True):
        assert 0.2 * bound < tensor.abs().max() <= bound
        torch.testing.assert_close(scale, tensor.std())
    # One number has no deviation.
    grey = JointDecoder(siren_architecture(2, (32, 32), 1), 64, 256)
    assert torch.equal(grey.scales[-1], grey.start[-1].abs())


def test_the_joint_decoder_moves_one_siren_by_scaled_offsets() -> None:
    with seeded(4):
        joint, latents = JointDecoder(SIREN, 8, 10), torch.randn(3, 8)
        nn.init.normal_(joint.scales)
    weights, biases = joint(latents)
    offsets = joint.offsets(latents)
    torch.testing.assert_close(weights[:, 10:40], joint.start[10:40] + joint.scales[1] * offsets[:, 10:40])
    torch.testing.assert_close(biases[:, -3:], joint.start[-3:] + joint.scales[5] * offsets[:, -3:])
    assert biases.shape == (3, 14)
