"""Every method that reads networks, by name, with its published configuration for each kind of zoo."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

from dng.methods.baseline import Baseline
from dng.methods.budget import fit_to_budget
from dng.methods.dynamic_graph import DynamicGraphConfig, DynamicGraphModel
from dng.methods.nfn import NFN
from dng.methods.nft import NFT
from dng.methods.ng_gnn import NGGNN
from dng.methods.ng_t import NGT
from dng.methods.stat_nn import StatNN
from dng.training.seed import seeded
from zootool.architecture import Architecture
from zootool.errors import UsageError, did_you_mean

ZooKind = Literal["inr", "small-cnn", "wild-park", "vit"]


@dataclass(frozen=True)
class Method:
    """A method under the name that users give: its class, and its preset by kind of zoo."""

    title: str
    model: type[Baseline]
    presets: dict[ZooKind, str]

    def config(self, kind: ZooKind) -> Any:
        """The published configuration for zoos of a kind, or the one that comes closest."""
        return self.model.presets[self.presets[kind]]


def _as_named(*without: ZooKind) -> dict[ZooKind, str]:
    kinds: tuple[ZooKind, ...] = ("inr", "small-cnn", "wild-park", "vit")
    return {kind: kind for kind in kinds if kind not in without}


METHODS: dict[str, Method] = {
    "dng": Method("DNG-Encoder", DynamicGraphModel, _as_named()),
    "dng-probes": Method("DNG-Encoder, 64 probes", DynamicGraphModel, {"inr": "inr-probes"}),
    "nfn-hnp": Method("NFN (HNP)", NFN, {"inr": "inr", "small-cnn": "small-cnn"}),
    "nfn-np": Method("NFN (NP)", NFN, {"inr": "inr-np", "small-cnn": "small-cnn-np"}),
    "nft": Method("NFT", NFT, {"inr": "inr", "small-cnn": "small-cnn"}),
    "ng-gnn": Method("NG-GNN", NGGNN, _as_named()),
    "ng-gnn-probes": Method("NG-GNN, 64 probes", NGGNN, {"inr": "inr-probes"}),
    "ng-t": Method("NG-T", NGT, _as_named()),
    "ng-t-probes": Method("NG-T, 64 probes", NGT, {"inr": "inr-probes"}),
    "stat-nn": Method("StatNN", StatNN, {"small-cnn": "small-cnn", "wild-park": "wild-park", "vit": "small-cnn"}),
}


REVISIONS = dict.fromkeys(("nfn-hnp", "nfn-np", "nft", "ng-gnn", "ng-gnn-probes", "ng-t", "ng-t-probes"), 1)
"""How often what a method computes, from the same settings, has changed; absent: never.

Raise it with such a change: what a run has kept of an older revision is then refused, and not mixed with newer numbers.
"""


class RefusedError(UsageError):
    """A method can't take a zoo, or can't have the size that it is asked for."""


def method(name: str) -> Method:
    """The method of this name. Raises UsageError."""
    if name not in METHODS:
        raise UsageError(f"there is no method {name!r}", hint=did_you_mean(name, METHODS))
    return METHODS[name]


def zoo_kind(architectures: Collection[Architecture]) -> ZooKind:
    """What kind of zoo these architectures make, as published methods tell them apart."""
    kinds = {timestamp.kind for architecture in architectures for timestamp in architecture.timestamps}
    if "attention" in kinds:
        return "vit"
    shapes = {(a.node_counts, a.edges_per_pair, tuple(t.kind for t in a.timestamps)) for a in architectures}
    if len(shapes) > 1:
        return "wild-park"
    return "small-cnn" if "conv" in kinds else "inr"


def build_method(
    name: str, architectures: Collection[Architecture], num_outputs: int, budget: int | None = None, seed: int = 0
) -> Baseline:
    """A method for a zoo's networks, at its published size or with about `budget` parameters.

    Raises UsageError for an unknown name, RefusedError for a zoo that the method can't take and a budget that it can't
    meet.
    """
    found, kind = method(name), zoo_kind(architectures)
    if kind not in found.presets:
        raise RefusedError(
            f"{name} can't take the zoo: nothing was published for it on zoos like this ({kind})",
            hint="methods that can: " + ", ".join(other for other, known in METHODS.items() if kind in known.presets),
        )
    config = found.config(kind)
    if isinstance(config, DynamicGraphConfig):
        config = replace(config, encoder=config.encoder.covering(architectures))

    def build(config: Any) -> Baseline:
        return found.model(architectures, num_outputs, config)

    try:
        if budget is not None:
            config = fit_to_budget(config, build, budget, name)
        with seeded(seed, name):
            return build(config)
    except UsageError as error:
        raise RefusedError(error.message, hint=error.hint) from error
