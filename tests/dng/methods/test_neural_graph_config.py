from dataclasses import replace

import pytest

from dng.methods.neural_graph import NeuralGraphEmbedding
from dng.methods.neural_graph_config import ACTIVATIONS, NeuralGraphConfig, neural_graph_refusal
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from tests.dng.methods.neural_graphs import SIREN, SMALL_VIT, cnn
from zootool.architecture import Activation, Architecture, Norm, Timestamp
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

INR = NeuralGraphConfig(standardise=True, reverse=True)
CNN = NeuralGraphConfig(kernel_size=3, activations=ACTIVATIONS)
VIT = NeuralGraphConfig(attention=True, activations=ACTIVATIONS)


BATCH_NORM = replace(small_cnn().timestamps[0], norm=Norm("batch"))
SOFT_OUTPUTS = Architecture(
    2, (Timestamp("linear", 3, 2), Timestamp("linear", 3, 3, activation=Activation("softplus")))
)
TALL = Architecture(1, (Timestamp("conv", 2, 1, edges_per_pair=5, kernel=(5, 1)),))
CONVOLVED_VIT = Architecture(3, (Timestamp("conv", 6, 3, kernel=(1, 1)), *SMALL_VIT.timestamps[1:]))
OTHER_PIXELS = cnn((3, 3, 3), ("relu",) * 3, positions=4)


@pytest.mark.parametrize(
    ("architectures", "config", "reason"),
    [
        ([SIREN], INR, None),
        ([simple_vit()], VIT, None),
        ([residual_cnn(3), residual_cnn(5)], CNN, None),
        ([], None, "it has no networks"),
        ([SIREN, siren_architecture(3, (5, 4), 3)], None, r"differ in inputs \(2 and 3\)"),
        ([SIREN, siren_architecture(2, (5, 4), 1)], None, r"differ in outputs \(1 and 3\)"),
        ([simple_vit(), Architecture(48, (Timestamp("linear", 10, 48),))], None, "some are not"),
        ([replace(small_cnn(), timestamps=(BATCH_NORM, *small_cnn().timestamps[1:]))], None, "layer 1 has a norm"),
        ([Architecture(6, SMALL_VIT.timestamps[1:2])], None, "attention doesn't follow"),
        ([TALL], CNN, "layer 1 has a kernel of 5 x 1"),
        ([CONVOLVED_VIT], VIT, "layer 1 of a transformer is of kind conv"),
        ([simple_vit()], CNN, "transformers go with attention=True"),
        ([small_cnn()], VIT, "transformers go with attention=True"),
        ([residual_cnn(3), residual_cnn(5)], replace(CNN, hidden_layers=4), "5 hidden layers, and 4.*DNG-Encoder"),
        ([small_cnn()], replace(CNN, kernel_size=2), "layer 2 has a kernel of 3 x 3.*DNG-Encoder"),
        ([OTHER_PIXELS], CNN, "layer 4 reads a flattened feature map, which.*DNG-Encoder"),
        ([OTHER_PIXELS], replace(CNN, repeat_nodes=True, max_positions=3), "of 4 pixels, and 3.*DNG-Encoder"),
        ([OTHER_PIXELS], replace(CNN, repeat_nodes=True, max_positions=4), None),
        (
            [OTHER_PIXELS, cnn((3, 3, 3), ("relu",) * 3, positions=9)],
            replace(CNN, repeat_nodes=True),
            "differ in the pixels.*DNG-Encoder",
        ),
        ([SOFT_OUTPUTS], CNN, None),
        ([SIREN], replace(INR, activations=ACTIVATIONS), "layer 1 has the activation 'sine'"),
        ([small_cnn()], replace(CNN, num_probes=3), "probes run plain MLPs only"),
    ],
)
def test_what_cannot_become_a_neural_graph(
    architectures: list[Architecture], config: NeuralGraphConfig | None, reason: str | None
) -> None:
    found = neural_graph_refusal(architectures, config)
    if reason is None:
        assert found is None
        return
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found)
    if config is not None:
        with pytest.raises(UsageError, match=reason):
            NeuralGraphEmbedding(architectures, config, 8, 6)


def test_a_layer_is_a_convolution_in_all_networks_of_equal_widths_or_in_none() -> None:
    convolution = Timestamp("conv", 3, 2, edges_per_pair=1, kernel=(1, 1), activation=Activation("relu"))
    last = Timestamp("linear", 3, 3)
    networks = [Architecture(2, (convolution, last)), Architecture(2, (Timestamp("linear", 3, 2), last))]
    assert neural_graph_refusal(networks, CNN) is None
    found = neural_graph_refusal(networks, replace(CNN, scalar_encoder=True))
    assert found is not None
    assert "convolutions" in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be positive"),
        ({"noise": -1.0}, "noise can't be negative"),
        ({"num_probes": -1}, "num_probes can't be negative"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"attention": True, "kernel_size": 3}, "attention goes with"),
    ],
)
def test_settings_that_cannot_be_meant(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NeuralGraphConfig(**options)
