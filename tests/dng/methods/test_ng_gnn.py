import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dng.methods.neural_graph_config import ACTIVATIONS
from dng.methods.ng_gnn import INR, NGGNN, NGGNNConfig
from dng.models.heads import count_parameters
from tests.dng.methods.neural_graphs import SIREN, different_cnns, symmetric_cases, tiny_gnn
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture


def test_what_the_published_small_cnn_model_has_and_does_not_read() -> None:
    preset = NGGNN.presets["small-cnn"]
    with torch.device("meta"):
        model = NGGNN([cnn_architecture(CnnConfig())], 1, preset)
        activations = replace(preset, graph=replace(preset.graph, activations=ACTIVATIONS))
        embedded = NGGNN([cnn_architecture(CnnConfig())], 1, activations)
    projection = count_parameters(model.network.graph.edge_projection)
    assert count_parameters(embedded) + projection == 5_587_969


@pytest.mark.parametrize(("width", "count"), [(32, 100_714), (284, 6_045_646)])
def test_a_budget_of_parameters_is_met_by_width(width: int, count: int) -> None:
    preset, siren = NGGNN.presets["inr-probes"], siren_architecture(2, (32, 32), 1)
    with torch.device("meta"):
        assert count_parameters(NGGNN([siren], 10, preset.widened(width / preset.dim))) == count
    assert preset.widened(0.001).dim == 1
    assert replace(preset.widened(2.0), dim=preset.dim) == preset


def test_delta_is_that_of_the_architectures_until_it_is_measured() -> None:
    parts = different_cnns()
    architectures = [part.architecture for part in parts]
    config = NGGNNConfig(symmetric_cases()["cnn"][1], dim=3)
    plain, with_one = [0] * 2 + [2] * 4 + [4] * 4 + [4] * 4 + [4] * 3, [0] * 2 + [2] * 4 + [4] * 4 + [5] * 4 + [4] * 3
    logs = [sum(math.log(d + 1) for d in degrees) / 17 for degrees in (with_one, plain)]
    model = NGGNN(architectures[:2], 1, config)
    assert float(model.network.delta) == pytest.approx(sum(logs) / 2)
    model.fit(iter([parts[0].map_weights(lambda tensor: tensor[:1]), parts[1], parts[1]]))
    assert float(model.network.delta) == pytest.approx((logs[0] + 4 * logs[1]) / 5)
    assert "network.delta" in model.state_dict()


def test_delta_leaves_out_reverse_edges() -> None:
    both = NGGNN([SIREN], 1, replace(INR, dim=3))
    one = NGGNN([SIREN], 1, replace(INR, dim=3, graph=replace(INR.graph, reverse=False)))
    assert float(both.network.delta) == float(one.network.delta)


def test_what_nobody_reads_is_not_computed() -> None:
    model, graph = tiny_gnn("siren with residuals", num_layers=3)
    targets: list[list[int]] = []

    def note(module: nn.Module, inputs: tuple, blocks: Any) -> None:
        targets.append([block.target.layer for block in blocks])

    for module in model.network.edge_updates:
        module.register_forward_hook(note)
    model(graph)
    assert targets == [[1, 2, 3, 4, 2, 3, 0, 1, 2, 3, 1, 1], [4]]
