"""`zoo verify`: is a zoo complete, undamaged, and what its table says?"""

from pathlib import Path
from typing import Literal

from zootool.progress import Reporter, silent
from zootool.store.reader import open_store
from zootool.store.verification import Verification, check_contents, check_names

Level = Literal["quick", "deep", "functional"]


def verify(
    path: str | Path, level: Level = "functional", *, sample: int = 16, seed: int = 0, report: Reporter = silent
) -> Verification:
    """Check the store at `path`; the result lists the problems.

    quick: manifest, names and sizes of the files, digests of the small ones. deep: also the digest of every file,
    every chunk's checksum, offsets, the columns that the format knows and the networks' own digests. functional:
    also runs every architecture once on shapes alone, rebuilds `sample` networks and compares what they compute with
    the recorded metrics.

    Raises what `open_zoo` raises for a store that can't be opened at all.
    """
    store = open_store(path)
    result = Verification(store.zoo_id, len(store))
    check_names(store, result)
    if level != "quick":
        check_contents(store, result, report)
    if level == "functional" and result.passed:
        from zootool.zoo.functional import check_metrics, run_architectures

        run_architectures(store, result, seed, report)
        check_metrics(store, result, sample, seed, report)
    return result
