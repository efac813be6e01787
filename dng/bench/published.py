"""The paper's numbers: measured by its authors on whole zoos and GPUs, with their budgets.

Accuracies are in percent, tau as it is. Methods have the names of `dng.methods.methods`; `inr2jls` is INR2JLS, and
`inr2array` is INR2ARRAY with its classifier, the row NFT of Table 1. A number stands beside one of ours only where the
zoo is the published one, or was fitted exactly as that was, and where both score the same networks.
"""

from typing import Literal

from dng.data import Zoo, siren_architecture

Scored = Literal["last checkpoints", "all checkpoints"]
"""The test networks that a tau is over: each run's last checkpoint, or every one."""

LAST: Scored = "last checkpoints"
ALL: Scored = "all checkpoints"

TITLES = {
    1: "Table 1: INR classification, accuracy in percent",
    2: "Table 2: generalisation of CNNs predicted, Kendall's tau",
    5: "Table 5: what classifying one INR costs",
    7: "Table 7: encoders alone, without probes and augmentation, accuracy in percent",
    8: "Table 8: generalisation of SimpleViTs predicted, Kendall's tau",
}

_MNIST, _FASHION, _CIFAR10, _CIFAR100 = "mnist", "fashion-mnist", "cifar10", "cifar100"

PUBLISHED: dict[int, dict[str, dict[str, str]]] = {
    1: {
        "nfn-hnp": {_MNIST: "92.9 ± 0.38", _FASHION: "75.6 ± 1.07", _CIFAR10: "46.6 ± 0.13", _CIFAR100: "20.55 ± 0.93"},
        "inr2array": {
            _MNIST: "98.5 ± 0.00", _FASHION: "79.3 ± 0.00", _CIFAR10: "63.4 ± 0.00", _CIFAR100: "31.30 ± 0.04"
        },
        "ng-gnn-probes": {
            _MNIST: "97.3 ± 0.02", _FASHION: "86.53 ± 0.58", _CIFAR10: "55.11 ± 1.43", _CIFAR100: "26.50 ± 1.32"
        },
        "ng-t-probes": {
            _MNIST: "96.83 ± 0.06", _FASHION: "85.24 ± 0.13", _CIFAR10: "57.7 ± 0.36", _CIFAR100: "31.65 ± 0.28"
        },
        "inr2jls": {_MNIST: "98.6 ± 0.01", _FASHION: "90.6 ± 0.07", _CIFAR10: "73.2 ± 0.28", _CIFAR100: "42.4 ± 0.32"},
    },
    2: {
        "nfn-hnp": {_CIFAR10: "0.934 ± 0.001", "svhn": "0.931 ± 0.005"},
        "nfn-np": {_CIFAR10: "0.922 ± 0.001", "svhn": "0.856 ± 0.001"},
        "nft": {_CIFAR10: "0.926 ± 0.001", "svhn": "0.858 ± 0.000"},
        "ng-gnn": {_CIFAR10: "0.930 ± 0.001", "svhn": "0.863 ± 0.002", "cnn-wild-park": "0.8040 ± 0.0090"},
        "ng-t": {_CIFAR10: "0.935 ± 0.000", "svhn": "0.872 ± 0.001", "cnn-wild-park": "0.8170 ± 0.0070"},
        "dng": {_CIFAR10: "0.936 ± 0.000", "svhn": "0.867 ± 0.002", "cnn-wild-park": "0.8743 ± 0.0021"},
    },
    7: {
        "ng-gnn": {_MNIST: "79.60 ± 1.30", _FASHION: "71.10 ± 0.42", _CIFAR10: "43.94 ± 0.06"},
        "ng-t": {_MNIST: "83.43 ± 0.12", _FASHION: "72.13 ± 0.51", _CIFAR10: "44.69 ± 0.03"},
        "dng": {_MNIST: "96.60 ± 0.09", _FASHION: "78.40 ± 0.61", _CIFAR10: "54.00 ± 0.07"},
    },
    8: {
        "ng-gnn": {"simple-vit-zoo": "0.8844 ± 0.006"},
        "ng-t": {"simple-vit-zoo": "0.8917 ± 0.002"},
        "dng": {"simple-vit-zoo": "0.9028 ± 0.005"},
    },
}  # fmt: skip

CONTROLS: dict[int, tuple[str, ...]] = {
    1: ("nft", "dng-probes", "dng"),
    2: ("statistics",),
    7: ("nfn-hnp", "nft"),
    8: ("statistics",),
}
"""Methods that the paper's table doesn't have, and without which its numbers say less."""


SCORED: dict[str, Scored] = {_CIFAR10: LAST, "svhn": LAST, "cnn-wild-park": ALL, "simple-vit-zoo": ALL}
"""What Tables 2 and 8 are over. The Small CNN Zoo's protocol keeps step 86 alone, a SimpleViT has one checkpoint."""

_SIREN_SETS = ("nfn-siren", "nfn-converted")
_FITTED = {"init": "random", "steps": 5000, "lr": 5e-5, "target": [-1.0, 1.0]}


def published(table: int, method: str, column: str) -> str | None:
    """The paper's number for a cell, or None."""
    return PUBLISHED.get(table, {}).get(method, {}).get(column)


def published_column(zoo: Zoo) -> str | None:
    """The column of the paper's tables that was measured on such a zoo; None for zoos of any other kind.

    Zoos of classifiers are those that others published. SIRENs may be our own where they were fitted as the published
    ones: from random initial weights, for as many steps.
    """
    found = str(zoo.info.provenance.get("format", ""))
    if found in ("cnn-wild-park", "simple-vit-zoo"):
        return found
    names = [source.name for source in zoo.info.sources]
    if len(names) != 1:
        return None
    if found == "small-cnn-zoo":
        return names[0] if names[0] in SCORED else None
    channels = 3 if names[0] in (_CIFAR10, _CIFAR100) else 1
    is_siren = set(zoo.architectures.values()) == {siren_architecture(2, (32, 32), channels)}
    is_fitted = found in _SIREN_SETS or all(zoo.info.recipe.get(key) == value for key, value in _FITTED.items())
    return names[0] if is_siren and is_fitted and names[0] in PUBLISHED[1]["inr2jls"] else None


def published_taus(column: str | None) -> dict[str, str]:
    """By method, the published tau of the zoo in `column`, over the networks that `SCORED` says."""
    rows = [*PUBLISHED[2].items(), *PUBLISHED[8].items()]
    return {name: row[column] for name, row in rows if column is not None and column in row}
