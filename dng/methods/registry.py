"""Every method that reads networks, one record each: what commands, benchmarks, tables and docs know of it.

Light to import: a record names the method's classes, which are imported when somebody asks for them. To add a method,
write its file and its record here; docs/methods.md has a row for each.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from zootool.architecture import Architecture
from zootool.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from dng.models.model import Reader

ZooKind = Literal["inr", "small-cnn", "wild-park", "vit"]
CLASSIFIERS: tuple[ZooKind, ...] = ("small-cnn", "wild-park", "vit")
"""The kinds of zoos whose networks have accuracies."""


@dataclass(frozen=True)
class Method:
    """A method under the name that users give.

    `about` says what it is and where it was published, `takes` which networks. `model` is its class, as
    "module:Class"; trees, which are fitted and not trained, have none. `presets` are the published configurations for
    each kind of zoo, or those that come closest, `costs` those whose costs the paper's tables quote; both are names in
    the class's own `presets`. `learns_from` is what it is trained on: a column of the zoo's table, or to give back
    images or renderings, in which case a classifier of its codes is a second stage. `editor` is the class that edits
    networks, and its preset.

    `revision` counts how often what the method computes, from the same settings, has changed; None: never. Raise it
    with such a change: what a run has kept of an older revision is then refused, and not mixed with newer numbers.
    """

    name: str
    title: str
    about: str
    takes: str
    model: str | None = None
    presets: Mapping[ZooKind, str] = field(default_factory=dict)
    costs: Mapping[ZooKind, str] = field(default_factory=dict)
    learns_from: Literal["targets", "images", "renderings"] = "targets"
    editor: tuple[str, str] | None = None
    revision: int | None = None

    @property
    def has_two_stages(self) -> bool:
        """Whether it learns codes first, and then a classifier of the frozen codes."""
        return self.learns_from != "targets"

    @property
    def predicts_accuracies(self) -> bool:
        """Whether it takes zoos of classifiers, whose accuracies can be predicted."""
        return not self.has_two_stages and (self.model is None or any(kind in self.presets for kind in CLASSIFIERS))

    def reader(self) -> "type[Reader]":
        """The class of a method that learns from targets."""
        assert self.model is not None, "trees have no class"
        return _named(self.model)

    def config(self, kind: ZooKind) -> Any:
        """The published configuration for zoos of a kind, or the one that comes closest. Raises UsageError."""
        if kind not in self.presets:
            able = ", ".join(other.name for other in METHODS.values() if kind in other.presets)
            raise UsageError(
                f"{self.name} can't take the zoo: nothing was published for it on zoos like this ({kind})",
                hint=f"methods that can: {able}",
            )
        return self.reader().presets[self.presets[kind]]

    def editing(self) -> tuple[Any, Any]:
        """The class that edits networks, and its published configuration."""
        assert self.editor is not None, "only some methods edit"
        made, preset = _named(self.editor[0]), self.editor[1]
        return made, made.presets[preset]


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(f"dng.methods.{module}"), name)


_ALL: dict[ZooKind, str] = {kind: kind for kind in ("inr", *CLASSIFIERS)}
_ONE_SHAPE: dict[ZooKind, str] = {"inr": "inr", "small-cnn": "small-cnn"}
_AS_NFN = "one depth, one set of widths, no residuals, norms or attention"
_AS_GRAPHS = "any widths, depths and residuals up to its tables; no norms, but transformers"

BUILT_IN = (
    Method("dng", "DNG-Encoder", "the DNG-Encoder with an MLP head", "everything", "dynamic_graph:DNG", _ALL),
    Method(
        "dng-probes", "DNG-Encoder, 64 probes", "the same with 64 probe features", "INRs",
        "dynamic_graph:DNG", {"inr": "inr-probes"},
    ),
    Method(
        "statistics", "statistics + trees", "gradient-boosted trees on statistics of layers", "classifiers",
    ),
    Method(
        "flat-mlp", "flat MLP", "an MLP on all weights behind one another", "everything",
        "plain:FlatMLP", dict.fromkeys(_ALL, "flat"),
    ),
    Method(
        "nfn-hnp", "NFN (HNP)", "NFN (Zhou et al. 2023), symmetric in hidden neurons", _AS_NFN,
        "nfn:NFN", _ONE_SHAPE, {"inr": "inr-mnist"}, editor=("editors:NFNEditor", "inr"), revision=1,
    ),
    Method(
        "nfn-np", "NFN (NP)", "NFN, symmetric in all neurons and told which are which", _AS_NFN,
        "nfn:NFN", {"inr": "inr-np", "small-cnn": "small-cnn-np"}, {"inr": "inr-np-mnist"},
        editor=("editors:NFNEditor", "inr-np"), revision=1,
    ),
    Method(
        "nft", "NFT", "NFT (Zhou et al. 2023b) blocks with NFN's pooling and head; a model of our own, since none was "
        "published", "as NFN", "nft:NFT", _ONE_SHAPE, revision=1,
    ),
    Method(
        "ng-gnn", "NG-GNN", "neural graphs (Kofinas et al. 2024) read by a PNA network", _AS_GRAPHS,
        "ng_gnn:NGGNN", _ALL, {"vit": "vit"}, editor=("editors:NGGNNEditor", "inr"), revision=1,
    ),
    Method(
        "ng-gnn-probes", "NG-GNN, 64 probes", "the same with 64 probe features", "INRs",
        "ng_gnn:NGGNN", {"inr": "inr-probes"}, {"inr": "inr-probes-6m"}, revision=1,
    ),
    Method(
        "ng-t", "NG-T", "neural graphs read by a relational transformer", _AS_GRAPHS,
        "ng_t:NGT", _ALL, {"vit": "vit"}, editor=("editors:NGTEditor", "inr"), revision=1,
    ),
    Method(
        "ng-t-probes", "NG-T, 64 probes", "the same with 64 probe features", "INRs",
        "ng_t:NGT", {"inr": "inr-probes"}, {"inr": "inr-probes-6m"}, revision=1,
    ),
    Method(
        "stat-nn", "StatNN", "an MLP on statistics of layers (Unterthiner et al. 2020)", "classifiers",
        "plain:StatNN", {"small-cnn": "small-cnn", "wild-park": "wild-park", "vit": "small-cnn"},
    ),
    Method(
        "inr2jls", "INR2JLS", "INR2JLS: learns from images too", "INRs with images", learns_from="images",
    ),
    Method(
        "inr2array", "NFT (INR2ARRAY and classifier)",
        "INR2ARRAY (Zhou et al. 2023b): NFT blocks that turn a SIREN into an array of latents",
        "SIRENs of one architecture", learns_from="renderings",
    ),
)  # fmt: skip


def by_name(*methods: Method) -> dict[str, Method]:
    """The methods under their names. Raises ValueError where two have the same."""
    names = [method.name for method in methods]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two methods are called {twice[0]!r}")
    return dict(zip(names, methods, strict=True))


METHODS = by_name(*BUILT_IN)
READERS = tuple(name for name, found in METHODS.items() if found.model is not None)
"""Those that predict a column of a zoo's table and are trained in steps."""
PREDICTORS = tuple(name for name, found in METHODS.items() if found.predicts_accuracies)
"""Those that predict classifiers' accuracies."""
EDITORS = tuple(name for name, found in METHODS.items() if found.editor is not None)
TWO_STAGE = tuple(name for name, found in METHODS.items() if found.has_two_stages)


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
