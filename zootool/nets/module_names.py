"""What a checkpoint's keys say: which tensors are of one module, and which modules come before which others."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""state_dict key -> (shape, dtype), in the checkpoint's order."""

WRAPPERS = frozenset(
    {"module", "_module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)
"""Segments that parallel, compiled and checkpointed modules put into keys, anywhere."""

_NUMBERS = re.compile(r"([0-9]{1,9})")
_SIZES = re.compile(r"[0-9]x[0-9]")
# What is said by a name about a place in the network, from first to last; anything else stands in the middle.
_PLACES = (
    frozenset({"input", "in", "stem", "first"}),
    frozenset({"encoder", "enc"}),
    frozenset(),
    frozenset({"decoder", "dec"}),
    frozenset({"output", "out", "head", "classifier", "last", "final", "logits"}),
)
_MIDDLE = 2


@dataclass(frozen=True, eq=False)
class Module:
    """A module that has tensors: `name` is its keys' prefix, `path` the name in segments, without wrappers.

    `tensors` are (shape, dtype) by the last segment of their key.
    """

    name: str
    path: tuple[str, ...]
    tensors: Mapping[str, tuple[tuple[int, ...], str]]

    def key(self, tensor: str) -> str:
        """The state_dict key of one of its tensors."""
        return f"{self.name}.{tensor}" if self.name else tensor

    @property
    def weight(self) -> tuple[int, ...]:
        """The weight's shape, () where there is none."""
        return self.tensors["weight"][0] if "weight" in self.tensors else ()


def modules_of(shapes: Shapes) -> list[Module]:
    """The modules in the order of their first tensors."""
    tensors: dict[str, dict[str, tuple[tuple[int, ...], str]]] = {}
    for key, found in shapes.items():
        prefix, _, name = key.rpartition(".")
        tensors.setdefault(prefix, {})[name] = found
    paths = {prefix: tuple(s for s in prefix.split(".") if s not in WRAPPERS) or ("",) for prefix in tensors}
    if len(set(paths.values())) < len(paths):
        paths = {prefix: tuple(prefix.split(".")) for prefix in tensors}
    return [Module(prefix, paths[prefix], found) for prefix, found in tensors.items()]


def num_shared(paths: Sequence[Sequence[str]]) -> int:
    """How many segments all paths begin with."""
    return sum(1 for _ in takewhile(lambda segments: len(set(segments)) == 1, zip(*paths, strict=False)))


def num_outer(modules: Sequence[Module]) -> int:
    """How many segments all modules' paths begin with, the last segment of each aside."""
    return num_shared([module.path[:-1] for module in modules])


def is_in_order_of_definition(shapes: Shapes) -> bool:
    """Whether the checkpoint can have its modules in the order of their definition, as torch writes them.

    Files whose tensors are sorted by name, such as safetensors, have biases before weights.
    """
    places = {key: place for place, key in enumerate(shapes)}
    pairs = [(key, f"{key.removesuffix('weight')}bias") for key in shapes if key.rpartition(".")[2] == "weight"]
    known = [places[weight] < places[bias] for weight, bias in pairs if bias in places]
    if known:
        return all(known)
    by_dtype: dict[str, list[str]] = {}
    for key, (_, dtype) in shapes.items():
        by_dtype.setdefault(dtype, []).append(key)
    return any(keys != sorted(keys) for keys in by_dtype.values())


def precedes(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether names say that the module at path `a` comes before the one at `b`: fc2 before fc10, in before out."""
    for one, other in zip(a, b, strict=False):
        if one != other:
            (place, texts, numbers), (other_place, other_texts, other_numbers) = parts_of(one), parts_of(other)
            if texts == other_texts:
                return numbers < other_numbers
            return place < other_place
    return False


@lru_cache(1 << 16)
def parts_of(segment: str) -> tuple[int, tuple[str, ...], tuple[int, ...]]:
    """A segment's place in the network, its texts and its numbers; sizes such as 3x3 are text."""
    parts = [segment] if _SIZES.search(segment) else _NUMBERS.split(segment)
    words = set(re.split(r"[^a-z]+", segment.lower()))
    place = next((i for i, known in enumerate(_PLACES) if known & words), _MIDDLE)
    return place, tuple(parts[::2]), tuple(map(int, parts[1::2]))


def last_numbers(path: Sequence[str]) -> tuple[int | None, ...]:
    """The last number in each segment."""
    return tuple(numbers[-1] if (numbers := parts_of(segment)[2]) else None for segment in path)
