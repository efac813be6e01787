"""The methods that edit: editors of weights, judged by what the edited networks render, and a predictor of images."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from dng.bench.editing.material import Canvas, Material
from dng.methods.editors import Editor, NFNEditor, NFNEditorConfig, NGGNNEditor, NGTEditor
from dng.methods.ng_gnn import NGGNNConfig
from dng.methods.ng_t import NGTConfig
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from zootool.graph import GraphBatch

MethodConfig = NFNEditorConfig | NGGNNConfig | NGTConfig | INR2JLSConfig

LABELS = {
    "nfn-hnp": "NFN (HNP)",
    "nfn-np": "NFN (NP)",
    "ng-gnn": "NG-GNN",
    "ng-t": "NG-T",
    "dng": "DNG (INR2JLS)",
}

PREDICTORS = ("dng",)
"""The methods that predict the edited image from the weights, and edit none."""

_EDITORS: dict[type, type[Any]] = {NFNEditorConfig: NFNEditor, NGGNNConfig: NGGNNEditor, NGTConfig: NGTEditor}


class RenderedEditor(nn.Module):
    """An editor of weights and the canvas on which the edited networks are rendered."""

    def __init__(self, editor: Editor, canvas: Canvas) -> None:
        super().__init__()
        self.editor = editor
        self.canvas = canvas

    def reconstruct(self, graph: GraphBatch) -> Float[Tensor, "batch channels height width"]:
        """What the edited networks render."""
        return self.canvas.render(self.editor(graph))

    def loss(self, graph: GraphBatch, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, ""]:
        """The mean squared error of the rendered pixels."""
        return (self.reconstruct(graph) - images).square().mean()


Method = RenderedEditor | INR2JLS
"""Both give edited images by `reconstruct`, and by `loss` their error against those that are wanted."""


def build_method(config: MethodConfig, material: Material) -> Method:
    """The untrained method that `config` is of, for the networks of `material`.

    Raises UsageError where it can't take them.
    """
    if isinstance(config, INR2JLSConfig):
        return INR2JLS(material.architecture, config)
    editor = _EDITORS[type(config)]([material.architecture], config)
    return RenderedEditor(editor, material.canvas)
