import numpy as np
import pyarrow as pa
import pytest

from zootool.columns.splits import find_leaks, seeded_split
from zootool.errors import UsageError


def test_the_order_of_names_does_not_matter_and_runs_stay_together() -> None:
    names = [f"run-{i // 3}" for i in range(300)]
    split, rule = seeded_split(names, seed=4)
    backwards, _ = seeded_split(names[::-1], seed=4)
    assert split.tolist() == backwards[::-1].tolist()
    assert all(len(set(split[i : i + 3])) == 1 for i in range(0, 300, 3))
    assert {name: (split == name).sum() for name in ("train", "validation", "test")} == {
        "train": 240,
        "validation": 30,
        "test": 30,
    }
    assert "seed 4" in rule
    assert split.tolist() != seeded_split(names, seed=5)[0].tolist()


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        seeded_split(["a"], (0.8, 0.1, 0.2))


def test_leaks_of_runs_and_images_are_counted() -> None:
    table = pa.table(
        {
            "run_id": ["a", "a", "b", "c"],
            "source_index": [1, 2, 2, 3],
            "split": ["train", "test", "train", "test"],
        }
    )
    assert find_leaks(table) == [
        "1 runs have networks in more than one split",
        "1 source images have networks in more than one split",
    ]
    assert find_leaks(table.append_column("source", pa.array([0, 0, 1, 0])))[1:] == []
    assert find_leaks(table.drop_columns(["split"])) == []
    assert find_leaks(pa.table({"split": ["train"], "source_index": pa.array([None], pa.int64())})) == []


def test_no_network_is_lost_between_the_cuts() -> None:
    for count in range(1, 40):
        split, _ = seeded_split([str(i) for i in range(count)], (1 / 3, 1 / 3, 1 / 3))
        assert np.isin(split, ("train", "validation", "test")).all()
