from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import dng
from dng.encoder.config import HETEROGENEOUS_CNN_ENCODER, PUBLISHED_SMALL_CNN_ENCODER, VIT_ENCODER, EncoderConfig
from dng.methods.dynamic_graph import DNG, DNGConfig
from dng.runs.on_zoo import HERE, batches_per_epoch, sharded_batches, train_codes, train_reader, training_loaders
from dng.runs.overrides import override
from dng.runs.presets import ReaderPreset, reader_preset
from dng.runs.tasks import kendall_tau, read_target, tau_to_pick_by
from dng.runs.two_stage import DEMO
from dng.training.batches import TensorBatches, num_batches
from dng.training.distributed import Ranks, Shard
from dng.training.loop import TrainConfig
from dng.zoo_data import EndlessBatches
from tests.dng.bench.cnn_zoos import NARROW, NARROW_TOO, WIDE, write_cnn_zoo
from tests.dng.bench.zoos import TINY
from tests.dng.graphs import simple_vit
from zootool.architecture import Architecture
from zootool.errors import BadDataError, UsageError
from zootool.nets.siren import siren_architecture
from zootool.zoo import Zoo

SHORT = replace(TINY, reconstruction=replace(TINY.reconstruction, steps=4, validate_every=2))
SMALL = ReaderPreset(
    DNGConfig(EncoderConfig(dim=12, num_frequencies=6, sigma=1.0, head_dim=4), 12, 0.0), TrainConfig(steps=40, lr=1e-2)
)
SIREN = siren_architecture(2, (8, 8), 1)


@pytest.fixture(scope="module")
def mixed_zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return write_cnn_zoo(tmp_path_factory.mktemp("cnns") / "cnns.zoo", NARROW, WIDE)


def test_inr2jls_trains_and_a_finished_run_is_left_alone(digits_zoo: Zoo, tmp_path: Path) -> None:
    first = train_codes(digits_zoo, SHORT, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    # Nothing of it is read again: the test split alone couldn't be trained on.
    again = train_codes(digits_zoo.select(split="test"), SHORT, tmp_path)
    assert (first.skipped, again.skipped) == (False, True)
    assert again.best_score == first.best_score
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert isinstance(dng.load(tmp_path), dng.INR2JLS)


@pytest.mark.parametrize("key", ["latent_dim", "seed", "ablation"])
def test_another_run_in_the_same_folder_is_refused(digits_zoo: Zoo, tmp_path: Path, key: str) -> None:
    train_codes(digits_zoo, SHORT, tmp_path)
    before = (tmp_path / "model.json").read_bytes()
    others = {
        "latent_dim": replace(SHORT, latent_dim=8),
        "seed": SHORT.with_seed(5),
        "ablation": SHORT.with_ablation("noise"),
    }
    with pytest.raises(UsageError, match=rf"holds a run with settings\S*{key}="):
        train_codes(digits_zoo, others[key], tmp_path)
    assert (tmp_path / "model.json").read_bytes() == before


def test_a_run_of_another_zoo_is_refused(mixed_zoo: Zoo, digits_zoo: Zoo, tmp_path: Path) -> None:
    train_codes(digits_zoo, SHORT, tmp_path)
    with pytest.raises(UsageError, match=r"zoo\.id"):
        train_codes(mixed_zoo, SHORT, tmp_path)


def test_what_cannot_be_trained_on_is_named(digits_zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="no networks in the split validation"):
        train_codes(digits_zoo.select(split=["train", "test"]), SHORT, tmp_path / "a")
    with pytest.raises(UsageError, match="reconstructs nothing"):
        train_codes(digits_zoo, SHORT.with_ablation("encoder-only"), tmp_path / "b")


def test_accuracies_of_mixed_networks_are_learnt(mixed_zoo: Zoo, tmp_path: Path) -> None:
    encoder = replace(SMALL.config.encoder, shared=True, max_edges=9)
    shared = replace(SMALL, config=replace(SMALL.config, encoder=encoder))
    result = train_reader(mixed_zoo, read_target(mixed_zoo, "test_accuracy"), shared, tmp_path)
    assert result.best_score > 0.5
    assert isinstance(dng.load(tmp_path), DNG)


def test_whole_numbers_are_learnt_as_classes(digits_zoo: Zoo, tmp_path: Path) -> None:
    target = read_target(digits_zoo, "label")
    result = train_reader(digits_zoo, target, replace(SMALL, training=replace(SMALL.training, steps=2)), tmp_path)
    model = dng.load(tmp_path)
    assert isinstance(model, DNG)
    assert model.num_outputs == 10
    assert 0 <= result.best_score <= 1


def test_targets_lie_at_their_rows(digits_zoo: Zoo) -> None:
    selected = digits_zoo.select(split="validation")
    target = read_target(selected, "label")
    assert target.is_class
    assert target.by_row[torch.from_numpy(selected.rows)].tolist() == selected.nets["label"].tolist()


def test_columns_that_cannot_be_predicted_are_named(digits_zoo: Zoo) -> None:
    for column, words in (("labl", "did you mean 'label'"), ("psnr", "accuracies are in")):
        with pytest.raises(UsageError, match=words):
            read_target(digits_zoo, column)


@pytest.mark.parametrize(
    ("architectures", "published"),
    [
        ([NARROW], PUBLISHED_SMALL_CNN_ENCODER),
        ([NARROW, WIDE], HETEROGENEOUS_CNN_ENCODER),
        ([simple_vit()], VIT_ENCODER),
        ([SIREN], EncoderConfig(dim=128)),
    ],
    ids=["cnn", "mixed", "vit", "siren"],
)
def test_the_zoos_networks_choose_the_published_encoder(
    architectures: list[Architecture], published: EncoderConfig
) -> None:
    assert reader_preset("paper", architectures, lambda _: 8).config.encoder == published
    narrower = reader_preset("demo", architectures, lambda _: 8).config.encoder
    assert narrower.dim <= min(64, published.dim)
    assert narrower.shared == published.shared
    assert narrower.output_activation is narrower.padding is None


def test_published_epochs_become_steps_and_new_activations_rows() -> None:
    assert reader_preset("paper", [NARROW], lambda size: 1000 // size + 1).training.steps == 200 * 8
    assert reader_preset("paper", [WIDE], lambda _: 8).config.encoder.activations == ("relu", "tanh", "gelu")


@pytest.mark.parametrize("architectures", [[NARROW], [NARROW, WIDE, NARROW_TOO]])
def test_every_network_is_seen_as_often_as_there_are_epochs(tmp_path: Path, architectures: list[Architecture]) -> None:
    """Networks of different node counts share no batch, so an epoch has more batches than their number says."""
    zoo = write_cnn_zoo(tmp_path / "x.zoo", *architectures, count=300)
    config = reader_preset("paper", zoo.architectures.values(), batches_per_epoch(zoo)).training
    loader = training_loaders(zoo, config, HERE, images=False)["train"]
    counts = Counter[int]()
    for _, batch in zip(range(config.steps), EndlessBatches(loader), strict=False):
        counts.update(batch.rows.tolist())
    assert len(counts) == 150 * len(architectures)
    assert set(counts.values()) == {200 if len(architectures) == 1 else 50}


@pytest.mark.parametrize("count", [1, 2, 5, 8, 9, 10, 13])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 20])
def test_epochs_of_tensors_have_as_many_batches_as_is_said(count: int, batch_size: int) -> None:
    batches = TensorBatches((torch.arange(count),), batch_size, seed=0)
    assert len(batches) == num_batches(count, batch_size)
    seen = torch.cat([rows for _, (rows,) in zip(range(3 * len(batches)), batches, strict=False)])
    assert seen.bincount().tolist() == [3] * count


def test_settings_are_overridden_by_their_path() -> None:
    words = ["encoder.dim=8", "lr=1e-3", "training.clip=2", "encoder.activations=relu,tanh", "ema=null"]
    changed = override(SMALL, words, ("training",), inner=("training", "config"))
    assert changed.config.encoder == replace(SMALL.config.encoder, dim=8, activations=("relu", "tanh"))
    assert changed.training == replace(SMALL.training, lr=1e-3, clip=2.0)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lr", "no key=value"),
        ("encoder.dimm=3", r"did you mean 'encoder\.dim'"),
        ("steps=many", "must be an integer"),
        ("lr=-1", "lr must be positive"),
        ("classification.lr=1", r"no setting 'classification\.lr'"),
    ],
)
def test_wrong_overrides_are_named(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(DEMO, [word], DEMO.parts, inner=("reconstruction",))


def test_ranks_share_out_the_batches_of_one_process(mixed_zoo: Zoo) -> None:
    def batches(ranks: Ranks) -> list:
        stream = iter(sharded_batches(mixed_zoo.loader(7, shuffle=True, seed=2, targets=()), ranks))
        return [next(stream) for _ in range(14)]

    shards = zip(*(batches(Ranks(rank, 2)) for rank in range(2)), strict=True)
    for whole, parts in zip(batches(Ranks()), shards, strict=True):
        assert all(isinstance(part, Shard) for part in parts)
        assert sum(part.share for part in parts) == pytest.approx(1)
        assert sorted(torch.cat([part.batch.rows for part in parts]).tolist()) == sorted(whole.rows.tolist())
        assert [len(part.batch) for part in parts] == [len(part.batch.rows) for part in parts]


def test_a_constant_prediction_ranks_nothing() -> None:
    accuracies = torch.linspace(0, 1, 5)
    assert kendall_tau(torch.full((5,), 0.5), accuracies) is None
    assert tau_to_pick_by(torch.full((5,), 0.5), accuracies) == 0
    assert kendall_tau(-accuracies, accuracies) == pytest.approx(-1)
