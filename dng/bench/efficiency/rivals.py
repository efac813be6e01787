"""What the published methods cost, at their published sizes: MNIST INRs (paper, Table 5) and SimpleViTs (Table 8)."""

from collections.abc import Callable

from torch import Tensor, nn

from dng.bench.efficiency.cases import NUM_CLASSES, Case
from dng.data import SimpleVitConfig, simple_vit_architecture, siren_architecture
from dng.methods.inr2array import INR2Array, LatentTransformer
from dng.methods.nfn import NFN
from dng.methods.ng_gnn import NGGNN
from dng.methods.ng_t import NGT
from dng.models.model import Reader
from zootool.architecture import Architecture
from zootool.graph import GraphBatch


class LatentArrayClassifier(nn.Module):
    """INR2ARRAY's encoder and the classifier of its latents: what a new INR goes through."""

    def __init__(self, siren: Architecture) -> None:
        super().__init__()
        self.encoder = INR2Array([siren], INR2Array.presets["inr"]).encoder
        self.classifier = LatentTransformer(INR2Array.presets["inr"].dim, NUM_CLASSES)

    def forward(self, graph: GraphBatch) -> Tensor:
        return self.classifier(self.encoder(graph))


def rival_cases() -> list[Case]:
    """NFN, INR2ARRAY and its classifier, NG-GNN and NG-T on MNIST INRs; NG-GNN and NG-T on SimpleViTs.

    Neural graphs aren't as written: dense layers take the place of edge lists, and what no output reads is left out.
    """
    siren, vit = siren_architecture(2, (32, 32), 1), simple_vit_architecture(SimpleVitConfig())
    return [
        Case("NFN (HNP), 28x28x1", siren, _method(NFN, siren, "inr-mnist", NUM_CLASSES), has_fast_path=False),
        Case("NFN (NP), 28x28x1", siren, _method(NFN, siren, "inr-np-mnist", NUM_CLASSES), has_fast_path=False),
        Case("INR2ARRAY + classifier, 28x28x1", siren, lambda _: LatentArrayClassifier(siren), has_fast_path=False),
        Case("NG-GNN, 64 probes, 28x28x1", siren, _method(NGGNN, siren, "inr-probes-6m", NUM_CLASSES), False, False),
        Case("NG-T, 64 probes, 28x28x1", siren, _method(NGT, siren, "inr-probes-6m", NUM_CLASSES), False, False),
        Case("NG-GNN, SimpleViT", vit, _method(NGGNN, vit, "vit", 1), False, False),
        Case("NG-T, SimpleViT", vit, _method(NGT, vit, "vit", 1), False, False),
    ]


def _method(
    kind: type[Reader], architecture: Architecture, preset: str, num_outputs: int
) -> Callable[[bool], nn.Module]:
    return lambda _: kind([architecture], num_outputs, kind.presets[preset])  # type: ignore[call-arg]
