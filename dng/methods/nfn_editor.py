"""NFN as an editor: equivariant layers give a change of every weight and bias (Zhou et al. 2023, stylising INRs)."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn

from dng.methods.baseline import Editor
from dng.methods.nfn import InputEncoding, parameters_of
from dng.methods.nfn_config import NFNLayersConfig
from dng.methods.nfn_layers import LAYERS, Features, nfn_refusal, rectified
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class NFNEditorConfig(NFNLayersConfig):
    """The widths and options of an editor; a last layer of width 1 follows `channels`.

    `scale` is what the learned scales of the changes begin at.
    """

    channels: tuple[int, ...] = (128, 128, 128)
    sigma: float = 3.0
    io_max_frequency: float = 3.0
    scale: float = 0.01

    @property
    def name(self) -> str:
        """The method's name: nfn-hnp-editor or nfn-np-editor."""
        return f"nfn-{self.variant}-editor"

    def widened(self, factor: float) -> "NFNEditorConfig":
        """The layers' widths times `factor`; the encodings stay."""
        return replace(self, channels=self.widened_channels(factor))


INR_EDITOR = NFNEditorConfig()


class NFNEditor(Editor):
    """theta + scale * Delta(theta), with a learned scale per weight and per bias tensor."""

    name: ClassVar[str] = "nfn-editor"
    presets: ClassVar[dict[str, Any]] = {"inr": INR_EDITOR, "inr-np": replace(INR_EDITOR, variant="np", io_bands=3)}

    def __init__(self, architectures: Collection[Architecture], config: NFNEditorConfig = INR_EDITOR) -> None:
        super().__init__()
        self.config = config
        if reason := nfn_refusal(architectures):
            raise UsageError(f"{config.name} can't take the zoo: {reason}")
        architecture = next(iter(architectures))
        self.encoding = InputEncoding(config)
        widths = (self.encoding.out_dim, *config.channels, 1)
        layer = LAYERS[config.variant]
        self.layers = nn.ModuleList(layer(architecture, *pair) for pair in pairwise(widths))
        self.weight_scales = nn.Parameter(torch.full((architecture.num_layers,), config.scale))
        self.bias_scales = nn.Parameter(torch.full((architecture.num_layers,), config.scale))
        self._has_bias = [timestamp.has_bias for timestamp in architecture.timestamps]

    def forward(self, graph: GraphBatch) -> GraphBatch:
        weights, biases = self.changes(graph)
        edges = [edge + s * change for edge, s, change in zip(graph.edges, self.weight_scales, weights, strict=True)]
        nodes = []
        for index, (node, change) in enumerate(zip(graph.nodes, biases, strict=True)):
            # A layer without biases gets none.
            bias = node[..., :1] + (self.bias_scales[index] * change if self._has_bias[index] else 0)
            nodes.append(torch.cat([bias, node[..., 1:]], dim=-1))
        return replace(graph, edges=tuple(edges), nodes=tuple(nodes))

    def changes(self, graph: GraphBatch) -> Features:
        """The unscaled changes of the weights (B, n_l, n_{l-1}, k_l) and of the biases (B, n_l, 1)."""
        features = self.encoding(*parameters_of(graph))
        for layer in self.layers[:-1]:
            features = rectified(*layer(*features))
        return self.layers[-1](*features)
