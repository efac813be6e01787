"""The paper's numbers: measured by its authors on whole zoos and GPUs, with their budgets.

Accuracies are in percent, tau as it is. Methods have the names of `dng.methods.methods`; `inr2jls` is INR2JLS, and
`inr2array` is INR2ARRAY with its classifier, the row NFT of Table 1. A number stands beside one of ours only where the
zoo is the published one, or was fitted exactly as that was, and where both score the same networks.
"""

from typing import Literal

from dng.bench.page import Table
from dng.zoo_data import Zoo, siren_architecture

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


def _rows(columns: str, **rows: str) -> dict[str, dict[str, str]]:
    """A printed table by method and column; "-" where nothing was measured."""
    split = {name: zip(columns.split(), map(str.strip, cells.split("|")), strict=True) for name, cells in rows.items()}
    return {
        name.replace("_", "-"): {column: cell for column, cell in cells if cell != "-"} for name, cells in split.items()
    }


PUBLISHED: dict[int, dict[str, dict[str, str]]] = {
    1: _rows(
        "mnist fashion-mnist cifar10 cifar100",
        nfn_hnp="      92.9 ± 0.38  | 75.6 ± 1.07  | 46.6 ± 0.13  | 20.55 ± 0.93",
        inr2array="    98.5 ± 0.00  | 79.3 ± 0.00  | 63.4 ± 0.00  | 31.30 ± 0.04",
        ng_gnn_probes="97.3 ± 0.02  | 86.53 ± 0.58 | 55.11 ± 1.43 | 26.50 ± 1.32",
        ng_t_probes="  96.83 ± 0.06 | 85.24 ± 0.13 | 57.7 ± 0.36  | 31.65 ± 0.28",
        inr2jls="      98.6 ± 0.01  | 90.6 ± 0.07  | 73.2 ± 0.28  | 42.4 ± 0.32",
    ),
    2: _rows(
        "cifar10 svhn cnn-wild-park",
        nfn_hnp="0.934 ± 0.001 | 0.931 ± 0.005 | -",
        nfn_np=" 0.922 ± 0.001 | 0.856 ± 0.001 | -",
        nft="    0.926 ± 0.001 | 0.858 ± 0.000 | -",
        ng_gnn=" 0.930 ± 0.001 | 0.863 ± 0.002 | 0.8040 ± 0.0090",
        ng_t="   0.935 ± 0.000 | 0.872 ± 0.001 | 0.8170 ± 0.0070",
        dng="    0.936 ± 0.000 | 0.867 ± 0.002 | 0.8743 ± 0.0021",
    ),
    7: _rows(
        "mnist fashion-mnist cifar10",
        ng_gnn="79.60 ± 1.30 | 71.10 ± 0.42 | 43.94 ± 0.06",
        ng_t="  83.43 ± 0.12 | 72.13 ± 0.51 | 44.69 ± 0.03",
        dng="   96.60 ± 0.09 | 78.40 ± 0.61 | 54.00 ± 0.07",
    ),
    8: _rows("simple-vit-zoo", ng_gnn="0.8844 ± 0.006", ng_t="0.8917 ± 0.002", dng="0.9028 ± 0.005"),
}

CONTROLS: dict[int, tuple[str, ...]] = {
    1: ("nft", "dng-probes", "dng"),
    2: ("statistics",),
    7: ("nfn-hnp", "nft"),
    8: ("statistics",),
}
"""Methods that the paper's table doesn't have, and without which its numbers say less."""

SCORED: dict[str, Scored] = {"cifar10": LAST, "svhn": LAST, "cnn-wild-park": ALL, "simple-vit-zoo": ALL}
"""What Tables 2 and 8 are over. The Small CNN Zoo's protocol keeps step 86 alone, a SimpleViT has one checkpoint."""

PUBLISHED_COSTS = tuple(
    Table(f"MEASURED ELSEWHERE: {caption}", ("method", "GFLOP", "memory (MB)", "run time (ms)"), rows)
    for caption, rows in (
        (
            "one INR of MNIST, on a GPU (paper, Table 5)",
            (
                ("NFN", "2.58", "273.08", "8.2 ± 0.09"),
                ("NFT", "10.60", "241.15", "52.7 ± 1.70"),
                ("NG-GNN", "2.13", "27.40", "12.4 ± 0.70"),
                ("NG-T", "14.82", "29.77", "9.2 ± 0.41"),
                ("INR2JLS", "1.31", "29.17", "4.7 ± 0.18"),
            ),
        ),
        (
            "one SimpleViT, on a GPU (paper, Table 8)",
            (
                ("NG-GNN", "3.22", "54.49", "5.94"),
                ("NG-T", "44.69", "446.95", "11.77"),
                ("DNG-Encoder", "0.12", "25.36", "4.38"),
            ),
        ),
    )
)

PUBLISHED_GFLOP = {
    "INR2JLS + classifier, 28x28x1": "1.31",
    "NFN (HNP), 28x28x1": "2.58",
    "INR2ARRAY + classifier, 28x28x1": "10.60",
    "NG-GNN, 64 probes, 28x28x1": "2.13",
    "NG-T, 64 probes, 28x28x1": "14.82",
    "DNG-Encoder + MLP, SimpleViT": "0.12",
    "NG-GNN, SimpleViT": "3.22",
    "NG-T, SimpleViT": "44.69",
}
"""The same by the names of our cases: multiply-adds count twice, and short cuts count for nothing."""

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
    channels = 3 if names[0] in ("cifar10", "cifar100") else 1
    is_siren = set(zoo.architectures.values()) == {siren_architecture(2, (32, 32), channels)}
    is_fitted = found in _SIREN_SETS or all(zoo.info.recipe.get(key) == value for key, value in _FITTED.items())
    return names[0] if is_siren and is_fitted and names[0] in PUBLISHED[1]["inr2jls"] else None


def published_taus(column: str | None) -> dict[str, str]:
    """By method, the published tau of the zoo in `column`, over the networks that `SCORED` says."""
    rows = [*PUBLISHED[2].items(), *PUBLISHED[8].items()]
    return {name: row[column] for name, row in rows if column is not None and column in row}
