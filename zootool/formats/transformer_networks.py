"""The networks of the Small Transformer Zoo, from their tensors.

Each block computes fc2(relu(fc1(norm(attention(norm(x)))))), without skips; then a norm, the mean over the tokens and
a classifier of two layers. MNIST's patches are embedded by a convolution, to which positions are added. Another
embedding, such as that of words, isn't part of a dynamic graph: its tensors are kept among the extras, and the network
begins behind it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from zootool.architecture import Activation, Architecture, Norm, Pooling, Timestamp, Tokens
from zootool.errors import FormatError, printable
from zootool.nets.lay_out import Entry, lay_out
from zootool.untrusted.lazy_tensor import LazyTensor

NUM_HEADS = 2

_NORM = Norm("layer")
_RELU = Activation("relu")
_MAX_BLOCKS = 64
_MAX_WIDTH = 1 << 14
_ATTENTION = ("queries", "keys", "values", "out_projection")
_PARTS = (*(f"attention.{name}.weight" for name in _ATTENTION), "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
_CLASSIFIER = ("classifier.fc1.weight", "classifier.fc1.bias", "classifier.fc2.weight", "classifier.fc2.bias")


def transformer_architecture(tensors: Mapping[str, LazyTensor], shown: str) -> Architecture:
    """The architecture of a network with these tensors. Raises FormatError for others than the zoo's."""
    num_blocks = _num_blocks(tensors, shown)
    dim = _shape(tensors, "encoder.0.attention.queries.weight", 2, shown)[1]
    timestamps, entries, rest = _embedding(tensors, dim)
    for block in range(num_blocks):
        _add_block(tensors, block, dim, timestamps, entries, shown)
    _add_classifier(tensors, dim, timestamps, entries, shown)
    for timestamp in timestamps:
        if max(timestamp.num_nodes, timestamp.num_sources) > _MAX_WIDTH:
            raise FormatError(f"{shown} has a layer of {timestamp.num_nodes} nodes, at most {_MAX_WIDTH} are read")
    known = {entry.key for entry in entries}
    entries += [Entry(key, tensor.shape, dtype=tensor.dtype) for key, tensor in tensors.items() if key not in known]
    return lay_out(timestamps[0].num_sources, timestamps, entries, family="transformer", **rest)


def describe_extras(architectures: Sequence[Architecture]) -> tuple[str, ...]:
    """Notes on tensors that are kept, but are no part of a network's graph."""
    keys = sorted({s.key for a in architectures for s in a.slots if s.timestamp is None and s.role == "other"})
    if not keys:
        return ()
    shown = printable(", ".join(keys), 160)
    return (f"{shown}: kept among the extras; the network begins behind this embedding, at the encoder's input",)


def _num_blocks(tensors: Mapping[str, LazyTensor], shown: str) -> int:
    numbers = {match[1] for key in tensors if (match := re.match(r"encoder\.(\d{1,6})\.", key))}
    blocks = sorted(map(int, numbers))
    if not blocks or blocks != list(range(len(blocks))) or len(blocks) > _MAX_BLOCKS:
        raise FormatError(f"{shown} has the encoder blocks {blocks[:8]}, wanted are 0, 1, ...")
    wanted = {f"encoder.{block}.{part}" for block in blocks for part in _PARTS} | set(_CLASSIFIER)
    odd = next((key for key in tensors if key not in wanted and not key.startswith("embedding.")), None)
    odd = odd or next((key for key in sorted(wanted) if key not in tensors), None)
    if odd is not None:
        state = "has" if odd in tensors else "lacks"
        raise FormatError(f"{shown} {state} {printable(odd, 80)!r}: it is no network of the small transformer zoo")
    return len(blocks)


def _shape(tensors: Mapping[str, LazyTensor], key: str, dims: int, shown: str) -> tuple[int, ...]:
    shape = tensors[key].shape
    if len(shape) != dims or min(shape) < 1:
        raise FormatError(f"{shown}: {printable(key, 80)} is {shape}, wanted are {dims} axes")
    return shape


def _embedding(tensors: Mapping[str, LazyTensor], dim: int) -> tuple[list[Timestamp], list[Entry], dict[str, Any]]:
    """The first timestamp, its entries and how images become tokens, where a convolution and positions do that."""
    own = {key: tensor for key, tensor in tensors.items() if key.startswith("embedding.")}
    weight, bias, position = (
        next((key for key, tensor in own.items() if len(tensor.shape) == dims and is_position == ("pos" in key)), None)
        for dims, is_position in ((4, False), (1, False), (2, True))
    )
    position = position or next((key for key, t in own.items() if len(t.shape) == 3 and "pos" in key), None)
    if weight is None or bias is None or position is None or len(own) != 3 or own[position].shape[-1] != dim:
        return [], [], {}
    channels_out, channels_in, *kernel = own[weight].shape
    if (
        channels_out != dim
        or own[bias].shape != (dim,)
        or kernel[0] != kernel[1]
        or own[position].shape[:-2] not in ((), (1,))
    ):
        return [], [], {}
    first = Timestamp("conv", dim, channels_in, kernel[0] * kernel[1], kernel=(kernel[0], kernel[1]), stride=kernel[0])
    entries = [
        _entry(tensors, weight, "weight", 1),
        _entry(tensors, bias, "bias", 1),
        _entry(tensors, position, "position", None),
    ]
    return [first], entries, {"tokens": Tokens(positions="learned")}


def _add_block(
    tensors: Mapping[str, LazyTensor],
    block: int,
    dim: int,
    timestamps: list[Timestamp],
    entries: list[Entry],
    shown: str,
) -> None:
    prefix = f"encoder.{block}"
    names = [f"{prefix}.attention.{name}.weight" for name in _ATTENTION]
    queries, keys, values, out = (_shape(tensors, name, 2, shown) for name in names)
    inner = queries[0]
    if keys != queries or values != queries or out != (dim, inner) or inner % NUM_HEADS:
        raise FormatError(f"{shown}: the attention of block {block} has {queries}, {keys}, {values} and {out}")
    hidden = _shape(tensors, f"{prefix}.fc1.weight", 2, shown)[0]
    first = len(timestamps) + 1
    timestamps += [
        Timestamp("qkv", 3 * inner, dim, has_bias=False, source_norm=_NORM, num_heads=NUM_HEADS),
        Timestamp("attention", inner, 3 * inner, edges_per_pair=0, has_bias=False, num_heads=NUM_HEADS),
        Timestamp("linear", dim, inner, has_bias=False),
        Timestamp("linear", hidden, dim, source_norm=_NORM, activation=_RELU),
        Timestamp("linear", dim, hidden),
    ]
    entries += [_entry(tensors, name, "weight", first) for name in names[:3]]
    entries.append(_entry(tensors, names[3], "weight", first + 2))
    for number, layer in ((first + 3, "fc1"), (first + 4, "fc2")):
        entries += _layer(tensors, f"{prefix}.{layer}", number, timestamps[number - 1], shown)


def _add_classifier(
    tensors: Mapping[str, LazyTensor], dim: int, timestamps: list[Timestamp], entries: list[Entry], shown: str
) -> None:
    hidden = _shape(tensors, "classifier.fc1.weight", 2, shown)[0]
    classes = _shape(tensors, "classifier.fc2.weight", 2, shown)[0]
    timestamps += [
        Timestamp("pool_linear", hidden, dim, source_norm=_NORM, pooling=Pooling("mean"), activation=_RELU),
        Timestamp("linear", classes, hidden),
    ]
    for number, layer in ((len(timestamps) - 1, "fc1"), (len(timestamps), "fc2")):
        entries += _layer(tensors, f"classifier.{layer}", number, timestamps[number - 1], shown)


def _layer(
    tensors: Mapping[str, LazyTensor], prefix: str, number: int, timestamp: Timestamp, shown: str
) -> list[Entry]:
    weight, bias = f"{prefix}.weight", f"{prefix}.bias"
    wanted = (timestamp.num_nodes, timestamp.num_sources)
    if tensors[weight].shape != wanted or tensors[bias].shape != wanted[:1]:
        raise FormatError(f"{shown}: {prefix} is {tensors[weight].shape} and {tensors[bias].shape}, wanted is {wanted}")
    return [_entry(tensors, weight, "weight", number), _entry(tensors, bias, "bias", number)]


def _entry(tensors: Mapping[str, LazyTensor], key: str, role: Any, timestamp: int | None) -> Entry:
    return Entry(key, tensors[key].shape, role, timestamp, tensors[key].dtype)
