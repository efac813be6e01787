"""The kinds of layers: of each its traits, checks, sizes, product and tracing rule, in one class.

To add one, write its class and put an instance into `KINDS`; everything else asks for traits.
"""

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from zootool.architecture.steps import Pooling
from zootool.errors import FormatError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from zootool.architecture.layers import Timestamp


class TracedSources(NamedTuple):
    """What a traced module is applied to: its shape; positions per channel where it was flattened, else None."""

    shape: tuple[int, ...]
    positions: int | None
    is_pooled: bool


class LayerKind:
    """What there is to know of a kind of layer; this base is a layer with a weight (targets, sources, ...)."""

    name: ClassVar[str]
    has_edges: ClassVar[bool] = True
    """Whether it has a weight, whose elements are stored edges; else it computes without parameters."""
    has_parallel_edges: ClassVar[bool] = False
    """Whether there may be several edges from one source to one target."""
    is_spatial: ClassVar[bool] = False
    """Whether its nodes are feature maps that a kernel with a stride, a padding and a dilation makes of maps."""
    flattens: ClassVar[bool] = False
    """Whether its edges to a source are one for each position of the source's feature map."""
    is_coupled: ClassVar[bool] = False
    """Whether its nodes belong to heads, so that they can't be permuted one by one."""
    default_pooling: ClassVar[Pooling | None] = None
    """What its sources are pooled by, where its timestamp doesn't say."""
    modules: ClassVar[tuple[type["nn.Module"], ...]] = ()
    """Modules of code outside torch that are such a layer; tracing looks into any others."""

    def check(self, layer: "Timestamp") -> None:
        """Raise ValueError where the fields of a timestamp aren't those of this kind."""
        if self.has_edges and not self.has_parallel_edges and layer.edges_per_pair != 1:
            raise ValueError(f"a {self.name} layer has one edge per pair, not {layer.edges_per_pair}")
        if not self.is_spatial and (layer.stride, layer.dilation, layer.padding) != (1, 1, 0):
            raise ValueError(f"a {self.name} layer has no stride, dilation or padding")
        if not self.is_coupled and layer.num_heads is not None:
            raise ValueError(f"a {self.name} layer has no heads")

    def check_follows(self, index: int, layer: "Timestamp", before: "Timestamp | None") -> None:
        """Raise ValueError where layer `index` doesn't go with the one before it."""

    def sizes(self, weight: tuple[int, ...], num_before: int) -> dict[str, Any]:
        """The fields of a timestamp that follow from its weight's shape and the number of nodes before it."""
        num_nodes, num_sources, *window = weight
        found = {"num_nodes": num_nodes, "num_sources": num_sources}
        return found | {"kernel": tuple(window), "edges_per_pair": math.prod(window)} if window else found

    def is_likely(self, weight: tuple[int, ...], before: tuple[int, ...] | None) -> bool:
        """Whether a weight of this shape, behind one of the shape `before`, is of such a layer if nothing else says."""
        return False

    def compute(self, layer: "Timestamp", x: "Tensor", weight: "Tensor | None", bias: "Tensor | None") -> "Tensor":
        """The layer's product and bias, here that of a linear layer.

        `weight` is (targets, sources, k) or has k's axes apart, and None where there are no edges.
        """
        from torch.nn import functional

        assert weight is not None
        return functional.linear(x.flatten(1) if self.flattens else x, weight.reshape(layer.num_nodes, -1), bias)

    def traced(self, module: "nn.Module", sources: TracedSources) -> dict[str, Any] | None:
        """The fields of the timestamp that a module is, None where it isn't of this kind.

        Raises FormatError for what they can't say.
        """
        return None


class Linear(LayerKind):
    """A linear layer behind vectors or tokens."""

    name = "linear"

    def is_likely(self, weight: tuple[int, ...], before: tuple[int, ...] | None) -> bool:
        return len(weight) == 2 and (before is None or len(before) == 2)

    def traced(self, module: "nn.Module", sources: TracedSources) -> dict[str, Any] | None:
        from torch import nn

        is_mine = (sources.positions is not None, sources.is_pooled) == (
            self.flattens,
            self.default_pooling is not None,
        )
        if not isinstance(module, nn.Linear) or not is_mine:
            return None
        if len(sources.shape) == 4:
            raise FormatError("a linear layer on feature maps that are neither flattened nor pooled can't be expressed")
        return self.sizes(tuple(module.weight.shape), sources.shape[1] // (sources.positions or 1))


class FlattenLinear(Linear):
    """A linear layer behind a flatten: k is the number of positions per channel (channels first)."""

    name = "flatten_linear"
    has_parallel_edges = True
    flattens = True

    def sizes(self, weight: tuple[int, ...], num_before: int) -> dict[str, Any]:
        if len(weight) != 2:
            return super().sizes(weight, num_before)
        return {"num_nodes": weight[0], "num_sources": num_before, "edges_per_pair": weight[1] // max(num_before, 1)}

    def is_likely(self, weight: tuple[int, ...], before: tuple[int, ...] | None) -> bool:
        return before is not None and (len(weight), len(before)) == (2, 4) and weight[1] > before[0]


class PoolLinear(Linear):
    """A linear layer behind a pooling over everything."""

    name = "pool_linear"
    default_pooling = Pooling("mean")

    def is_likely(self, weight: tuple[int, ...], before: tuple[int, ...] | None) -> bool:
        return before is not None and (len(weight), len(before)) == (2, 4) and weight[1] <= before[0]


class Convolution(LayerKind):
    """A convolution in two dimensions: k is the kernel's height x width."""

    name = "conv"
    has_parallel_edges = True
    is_spatial = True

    def check(self, layer: "Timestamp") -> None:
        super().check(layer)
        if layer.kernel is None or math.prod(layer.kernel) != layer.edges_per_pair:
            raise ValueError(f"kernel {layer.kernel} doesn't have {layer.edges_per_pair} edges per pair")

    def is_likely(self, weight: tuple[int, ...], before: tuple[int, ...] | None) -> bool:
        return len(weight) == 4

    def compute(self, layer: "Timestamp", x: "Tensor", weight: "Tensor | None", bias: "Tensor | None") -> "Tensor":
        from torch.nn import functional

        assert weight is not None
        kernel = weight.reshape(layer.num_nodes, layer.num_sources, *(layer.kernel or (1, 1)))
        return functional.conv2d(x, kernel, bias, layer.stride, layer.padding, layer.dilation)

    def traced(self, module: "nn.Module", sources: TracedSources) -> dict[str, Any] | None:
        from torch import nn

        if not isinstance(module, nn.Conv2d):
            return None
        fields = self.sizes(tuple(module.weight.shape), 0)
        for name in ("stride", "padding", "dilation"):
            pair = getattr(module, name)
            if not isinstance(pair, tuple) or len(set(pair)) != 1:
                raise FormatError(f"a convolution with {name} {pair} can't be expressed: both directions must be alike")
            fields[name] = pair[0]
        if module.groups != 1 or module.padding_mode != "zeros":
            raise FormatError(
                f"a convolution with {module.groups} groups and {module.padding_mode} padding can't be expressed"
            )
        return fields


class QueriesKeysValues(LayerKind):
    """The queries, keys and values of all heads, in this order."""

    name = "qkv"
    is_coupled = True
    num_parts: ClassVar[int] = 3

    def check(self, layer: "Timestamp") -> None:
        super().check(layer)
        if layer.num_heads is None or layer.num_nodes % (self.num_parts * layer.num_heads):
            raise ValueError(f"{layer.num_nodes} nodes of a {self.name} layer don't make {layer.num_heads} heads")


class Attention(QueriesKeysValues):
    """The heads' outputs of the queries, keys and values before it."""

    name = "attention"
    has_edges = False
    num_parts = 1

    def check(self, layer: "Timestamp") -> None:
        super().check(layer)
        if layer.edges_per_pair or layer.has_bias or layer.num_sources != 3 * layer.num_nodes:
            raise ValueError("an attention layer has a third as many nodes as sources, no bias and no stored edges")

    def check_follows(self, index: int, layer: "Timestamp", before: "Timestamp | None") -> None:
        if before is None or before.kind != QueriesKeysValues.name or before.num_heads != layer.num_heads:
            raise ValueError(f"layer {index} attends with {layer.num_heads} heads, but no such qkv layer precedes it")

    def sizes(self, weight: tuple[int, ...], num_before: int) -> dict[str, Any]:
        return {"num_nodes": num_before // 3, "num_sources": num_before, "edges_per_pair": 0, "has_bias": False}

    def compute(self, layer: "Timestamp", x: "Tensor", weight: "Tensor | None", bias: "Tensor | None") -> "Tensor":
        return attend(layer.num_heads or 1, x)


def attend(
    num_heads: int, x: "Float[Tensor, 'batch tokens qkv']"
) -> "Float[Tensor, 'batch tokens heads_times_values']":
    """Scaled dot-product attention of queries, keys and values that lie behind one another, each head by head."""
    batch, tokens, width = x.shape
    heads = x.reshape(batch, tokens, 3, num_heads, width // (3 * num_heads)).permute(2, 0, 3, 1, 4)
    queries, keys, values = heads
    weights = (queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])).softmax(-1)
    return (weights @ values).transpose(1, 2).flatten(2)


KINDS: dict[str, LayerKind] = {
    kind.name: kind
    for kind in (Linear(), Convolution(), FlattenLinear(), PoolLinear(), QueriesKeysValues(), Attention())
}
