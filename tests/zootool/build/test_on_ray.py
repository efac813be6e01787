from pathlib import Path

import pytest

from tests.zootool.build.small import TINY, content, small_images
from zootool.build import build_sirens
from zootool.engines.engine import choose_engine

IMAGES = small_images(train=40)


@pytest.mark.filterwarnings("ignore")
def test_every_unit_is_right_although_a_node_is_killed(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is an extra")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    recipe = TINY.model_copy(update={"hidden": (32, 32), "steps": 20_000})
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    removed: list[int] = []

    def kill_one(stage: str, done: int, total: int) -> None:
        if done > 6 and not removed:
            removed.append(done)
            cluster.remove_node(node, allow_graceful=False)

    try:
        engine = choose_engine("ray", address=cluster.address)
        result = build_sirens(IMAGES, recipe, tmp_path / "cluster", engine=engine, report=kill_one)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert removed
    assert (result.built, result.left) == (84, 0)
    build_sirens(IMAGES, recipe, tmp_path / "here")
    assert content(tmp_path / "cluster") == content(tmp_path / "here")
