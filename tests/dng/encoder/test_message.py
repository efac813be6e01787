import torch
from torch import nn

from dng.encoder.features import FourierFeatures
from dng.encoder.message import MultiEdgeMessage, SingleEdgeMessage


class Identity(FourierFeatures):
    """g(x) = [x], so that a message can be computed by hand."""

    def __init__(self) -> None:
        super().__init__(1, sigma=1.0, expansion_range=0.0)

    @property
    def out_dim(self) -> int:
        return 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., None]


def fill(linear: nn.Linear, weight: list, bias: list) -> None:
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        linear.bias.copy_(torch.tensor(bias))


def test_single_edge_message_by_hand() -> None:
    message = SingleEdgeMessage(feature_dim=1, dim=1)
    fill(message.edge, [[2.0]], [1.0])
    fill(message.source, [[3.0]], [-1.0])
    edges = torch.tensor([0.5, -1.0]).view(1, 1, 2, 1)
    sources = torch.tensor([1.0, 2.0]).view(1, 2, 1)
    # (2 * 0.5 + 1)(3 * 1 - 1) + (2 * -1 + 1)(3 * 2 - 1) = 4 - 5
    assert message(Identity(), edges, sources).item() == -1.0


def test_multi_edge_message_by_hand() -> None:
    message = MultiEdgeMessage(feature_dim=1, dim=1, head_dim=1, num_edges=2)
    fill(message.edge, [[2.0]], [1.0])
    fill(message.source, [[3.0], [1.0]], [-1.0, 0.0])
    fill(message.merge_heads, [[1.0, 1.0]], [0.0])
    fill(message.merge_out, [[10.0]], [0.5])
    edges = torch.tensor([[0.5, 1.0], [-2.0, 0.0]]).view(1, 1, 2, 2)
    sources = torch.tensor([1.0, 2.0]).view(1, 2, 1)
    # source 1: heads (2*.5+1)(3*1-1) = 4 and (2*1+1)(1) = 3 -> relu(7)*10 + .5 = 70.5
    # source 2: heads (2*-2+1)(3*2-1) = -15 and (2*0+1)(2) = 2 -> relu(-13)*10 + .5 = .5
    assert message(Identity(), edges, sources).item() == 71.0


def test_padded_edges_send_nothing() -> None:
    message = MultiEdgeMessage(feature_dim=1, dim=4, head_dim=3, num_edges=3)
    edges, sources = torch.randn(2, 5, 4, 3), torch.randn(2, 4, 4)
    mask = torch.ones(2, 5, 4, 3, dtype=torch.bool)
    mask[..., 2] = False
    mask[:, :, 3] = False
    changed = torch.where(mask, edges, torch.tensor(7.0))
    torch.testing.assert_close(message(Identity(), changed, sources, mask), message(Identity(), edges, sources, mask))
    without_last_source = message(Identity(), edges[:, :, :3], sources[:, :3], mask[:, :, :3])
    torch.testing.assert_close(message(Identity(), edges, sources, mask), without_last_source)


def test_masked_single_edges_send_nothing() -> None:
    message = SingleEdgeMessage(feature_dim=1, dim=4)
    edges, sources = torch.randn(2, 5, 4, 1), torch.randn(2, 4, 4)
    mask = torch.ones(2, 5, 4, 1, dtype=torch.bool)
    mask[:, :, 3] = False
    torch.testing.assert_close(
        message(Identity(), edges, sources, mask), message(Identity(), edges[:, :, :3], sources[:, :3])
    )


def test_padded_features_let_the_bias_along_edges_that_are_not_there() -> None:
    message = MultiEdgeMessage(feature_dim=1, dim=1, head_dim=1, num_edges=2, pads_features=True)
    fill(message.edge, [[2.0]], [1.0])
    fill(message.source, [[3.0], [1.0]], [-1.0, 0.0])
    fill(message.merge_heads, [[1.0, 1.0]], [0.0])
    fill(message.merge_out, [[10.0]], [0.5])
    edges, sources = torch.tensor([0.5, -2.0]).view(1, 1, 2, 1), torch.tensor([1.0, 2.0]).view(1, 2, 1)
    # source 1: heads (2*.5+1)(3*1-1) = 4 and A's bias 1 * 1 -> relu(5)*10 + .5; source 2: relu(-15 + 1*2)*10 + .5
    assert message(Identity(), edges, sources).item() == 51.0
    padded, mask = (
        torch.cat([edges, torch.full_like(edges, 7.0)], dim=-1),
        torch.tensor([True, False]).expand(1, 1, 2, 2),
    )
    assert message(Identity(), padded, sources, mask).item() == 51.0
