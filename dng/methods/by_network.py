"""What differs between the networks of a batch because their architectures do."""

from jaxtyping import Shaped
from torch import Tensor

from zootool.graph import GraphBatch


def by_network(graph: GraphBatch, by_architecture: Shaped[Tensor, "architectures ..."]) -> Shaped[Tensor, "#batch ..."]:
    """Every network's row of a table with a row per architecture of the batch; one row where there is only one."""
    if len(graph.architectures) == 1:
        return by_architecture
    assert graph.architecture_index is not None, "a batch of several architectures says which is whose"
    return by_architecture[graph.architecture_index]
