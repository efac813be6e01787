"""SIRENs by what the published code calls their layers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zootool.nets.module_names import Module

_SINE_LAYER = re.compile(r"(?P<head>(?:.*\.)?)(?P<box>[^.]+)\.(?P<number>[0-9]{1,3})\.linear")
_FIRST_CODE = re.compile(r"(?P<head>(?:.*\.)?)(?P<box>[^.]+)\.(?P<number>[0-9]{1,3})\.0")
_PLAIN_LAYER = re.compile(r"(?P<head>(?:.*\.)?)(?P<box>[^.]+)\.(?P<number>[0-9]{1,3})")
_LAST_LAYER = re.compile(r"(last|final|output)(_layer|_linear)?(\.linear)?")
_WORDS = re.compile(r".*(siren|sine|inr|coin|nerf|omega).*")
_COORDINATES = 4


@dataclass(frozen=True)
class SirenNames:
    """Layers that are called like a SIREN's, from first to last; `is_certain` if other networks hardly are."""

    layers: tuple[Module, ...]
    has_sine_output: bool = False
    is_certain: bool = False


def siren_names(modules: Sequence[Module]) -> SirenNames | None:
    """The SIREN that linear layers are named like, None where they aren't."""
    texts = [".".join(module.path) for module in modules]
    takes_coordinates = min(module.weight[1] for module in modules) <= _COORDINATES
    has_words = any(_WORDS.fullmatch(text.lower()) for text in texts)
    sines, rest = _numbered(_SINE_LAYER, modules)
    if sines and len(rest) <= 1:
        # net.0.linear of the SIREN notebook and the neural-functional sets, COIN with last_layer.linear.
        box, layers = sines
        ends = {f"{box}.{len(layers)}", f"{box}.{len(layers)}.linear"}
        head = box.rpartition(".")[0]
        tail = ".".join(rest[0].path).removeprefix(f"{head}.") if rest else ""
        if not rest or ".".join(rest[0].path) in ends or _LAST_LAYER.fullmatch(tail):
            is_certain = box.rpartition(".")[2] == "net" or has_words
            if is_certain or takes_coordinates:
                return SirenNames((*layers, *rest), not rest, is_certain)
    first, rest = _numbered(_FIRST_CODE, modules)
    if first and not rest and (first[0].endswith("net.net") or (first[0].endswith("net") and takes_coordinates)):
        # net.net.0.0 of the first SIREN code, whose activation is a setting; without coordinates it is an encoding.
        return SirenNames(first[1], is_certain=first[0].endswith("net.net") and takes_coordinates)
    plain, rest = _numbered(_PLAIN_LAYER, modules)
    is_of_pytorch = plain and len(rest) == 1 and _LAST_LAYER.fullmatch(rest[0].path[-1])
    if takes_coordinates and (has_words or is_of_pytorch or any(map(_SINE_LAYER.fullmatch, texts))):
        # layers.0 and last_layer of siren-pytorch are anybody's names.
        return SirenNames(tuple(modules))
    return None


def _numbered(
    pattern: re.Pattern[str], modules: Sequence[Module]
) -> tuple[tuple[str, tuple[Module, ...]] | None, list]:
    """The modules that a pattern fits, 0, 1, ... in one box, with the box's name; and all others."""
    matches = [(pattern.fullmatch(".".join(module.path)), module) for module in modules]
    found = sorted((int(match["number"]), module.name, module) for match, module in matches if match)
    boxes = {match["head"] + match["box"] for match, _ in matches if match}
    rest = [module for match, module in matches if not match]
    if len(boxes) != 1 or [number for number, *_ in found] != list(range(len(found))):
        return None, rest
    return (boxes.pop(), tuple(module for *_, module in found)), rest
