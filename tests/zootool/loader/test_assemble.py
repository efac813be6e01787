from pathlib import Path

import pyarrow as pa
import torch

from tests.zootool.store.small_stores import random_block, write_small_store
from zootool.loader import shuffle_quality
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.resnet import cifar_resnet_architecture
from zootool.nets.siren import siren_architecture
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture
from zootool.store.blocks import Block
from zootool.zoo import open_zoo

PLAIN = cnn_architecture(CnnConfig((1, 4, 4), (3, 3), (1, 1), (1, 1), ("relu", "relu"), (None, None), 3))
OTHER = cnn_architecture(CnnConfig((1, 4, 4), (5, 3), (1, 1), (2, 1), ("tanh", "gelu"), (None, 0), 3))


def test_k_activations_and_residuals_vary_inside_a_batch(tmp_path: Path) -> None:
    blocks = [random_block(PLAIN, 5, 0), random_block(OTHER, 4, 1), random_block(siren_architecture(1, (3,), 3), 3, 2)]
    write_small_store(tmp_path / "x.zoo", *blocks)
    zoo = open_zoo(tmp_path / "x.zoo")
    batches = list(zoo.loader(16, shuffle=True, targets=[]))
    assert sorted(len(batch) for batch in batches) == [3, 9]
    batch = max(batches, key=len)
    assert set(batch.architectures) == {PLAIN, OTHER}
    assert [tuple(edges.shape) for edges in batch.edges] == [(9, 4, 1, 25), (9, 4, 4, 9), (9, 3, 4, 1)]
    mask = batch.edge_masks[0]
    assert mask is not None
    assert batch.edge_masks[1:] == (None, None)
    (residual,) = batch.residuals
    assert (residual.target, residual.residual.source) == (2, 1)
    assert residual.networks is not None
    assert batch.architecture_index is not None
    for place, row in enumerate(batch.rows.tolist()):
        architecture = batch.architectures[int(batch.architecture_index[place])]
        assert architecture == zoo.architecture_of(row)
        k = architecture.edges_per_pair[0]
        weight = zoo.state_dict(row)["layers.0.weight"].flatten(2)
        assert torch.equal(batch.edges[0][place, ..., :k], weight)
        assert not batch.edges[0][place, ..., k:].any()
        assert mask[place].sum() == weight.numel()
        assert bool(mask[place, ..., :k].all())
        assert bool(residual.networks[place]) == (architecture == OTHER)
        assert torch.equal(batch.nodes[1][place, :, 0], zoo.state_dict(row)["layers.1.bias"])


def test_norms_are_features_of_the_nodes_that_they_normalise(tmp_path: Path) -> None:
    architecture = cifar_resnet_architecture(8)
    write_small_store(tmp_path / "x.zoo", random_block(architecture, 2))
    zoo = open_zoo(tmp_path / "x.zoo")
    (batch,) = zoo.loader(2)
    assert batch.node_names[0] == ("bias", "scale", "shift", "running_mean", "running_var")
    assert batch.node_names[-1] == ("bias",)
    state = zoo.state_dict(1)
    assert not batch.nodes[0][1, :, 0].any()
    assert torch.equal(batch.nodes[0][1, :, 1], state["bn1.weight"])
    assert torch.equal(batch.nodes[0][1, :, 4], state["bn1.running_var"])


def test_a_transformers_attention_has_no_edges_and_its_norms_belong_to_the_layer_before(tmp_path: Path) -> None:
    config = SimpleVitConfig(1, 2, 8, 1, 2, 4, 6, 3)
    architecture = simple_vit_architecture(config)
    write_small_store(tmp_path / "x.zoo", random_block(architecture, 3))
    zoo = open_zoo(tmp_path / "x.zoo")
    (batch,) = zoo.loader(3)
    assert tuple(batch.edges[2].shape) == (3, 8, 24, 0)
    assert batch.node_names[0] == ("bias", "scale", "shift", "source_scale", "source_shift")
    state = zoo.state_dict(0)
    assert torch.equal(batch.nodes[0][0, :, 1], state["to_patch_embedding.3.weight"])
    assert torch.equal(batch.nodes[0][0, :, 3], state["transformer.layers.0.0.norm.weight"])
    assert torch.equal(batch.nodes[-2][0, :, 1], state["transformer.norm.weight"])


def test_a_batch_isnt_one_training_run(tmp_path: Path) -> None:
    blocks = []
    for number, architecture in enumerate((PLAIN, OTHER)):
        block = random_block(architecture, 30, number)
        runs = pa.array([f"run-{number}-{i // 10}" for i in range(30)])
        blocks.append(Block(architecture, block.tensors, block.table.append_column("run_id", runs)))
    write_small_store(tmp_path / "x.zoo", *blocks)
    zoo = open_zoo(tmp_path / "x.zoo")
    assert shuffle_quality(zoo.loader(12, shuffle=True)).median_runs_per_batch >= 5
    assert shuffle_quality(zoo.loader(10)).median_runs_per_batch == 1
