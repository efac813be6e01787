"""Which networks are for training, validation and testing, where a source leaves that open; and leaks between them."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pyarrow as pa

from zootool.errors import UsageError

SPLITS = ("train", "validation", "test")


def seeded_split(
    names: Sequence[str], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
) -> tuple[np.ndarray, str]:
    """A split for every name, and the rule in words. Equal names (checkpoints of one run) share theirs.

    The rule: the distinct names in order, shuffled, the first `fractions[0]` of them for training, and so on. Neither
    the order of `names` nor the file system's matters.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UsageError(f"the splits' shares must add up to 1, got {fractions}")
    distinct, place = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    order = np.random.Generator(np.random.Philox(key=[seed, 0])).permutation(len(distinct))
    shares = [Fraction(share).limit_denominator(10_000) for share in fractions]
    first, second = (int(len(distinct) * sum(shares[: i + 1])) for i in range(2))
    of_name = np.empty(len(distinct), dtype=object)
    of_name[order[:first]], of_name[order[first:second]], of_name[order[second:]] = SPLITS
    cuts = " / ".join(f"{share:g}" for share in fractions)
    return of_name[place], f"sorted names, shuffled by numpy's Philox with seed {seed}, cut at {cuts}"


def find_leaks(table: pa.Table) -> list[str]:
    """What stands on both sides of a split, in words: runs, and source images."""
    if "split" not in table.column_names:
        return []
    found = []
    for columns, noun in ((["run_id"], "runs"), (["source", "source_index"], "source images")):
        known = [name for name in columns if name in table.column_names]
        if columns[-1] not in known or table[columns[-1]].null_count == len(table):
            continue
        groups = table.select([*known, "split"]).group_by([*known, "split"]).aggregate([])
        per_thing = groups.group_by(known).aggregate([("split", "count")])
        leaking = int((per_thing["split_count"].to_numpy() > 1).sum())
        if leaking:
            found.append(f"{leaking:,} {noun} have networks in more than one split")
    return found
