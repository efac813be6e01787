import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dng.encoder.config import EncoderConfig
from dng.methods.building import TOLERANCE, build_method
from dng.methods.dynamic_graph import DNG, DNGConfig
from dng.methods.registry import (
    BUILT_IN,
    EDITORS,
    METHODS,
    PREDICTORS,
    READERS,
    TWO_STAGE,
    by_name,
    method,
    zoo_kind,
)
from dng.models.heads import count_parameters
from dng.testing import assert_batch_independent, assert_gradients, assert_tells_apart, permute_hidden, random_graph
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

GREY, COLOUR = siren_architecture(2, (32, 32), 1), siren_architecture(2, (32, 32), 3)
TINY = siren_architecture(2, (4, 4), 2)
INR_METHODS = [name for name, known in METHODS.items() if "inr" in known.presets]
DOCS = Path(__file__).parents[3] / "docs" / "methods.md"


@pytest.mark.parametrize(("architecture", "budget"), [(GREY, 100_000), (COLOUR, 400_000)])
@pytest.mark.parametrize("name", INR_METHODS)
def test_every_method_meets_a_budget(name: str, architecture: Architecture, budget: int) -> None:
    with torch.device("meta"):
        model = build_method(name, [architecture], 10, budget)
    assert abs(count_parameters(model) - budget) <= TOLERANCE * budget


def test_published_sizes_are_kept_without_a_budget() -> None:
    assert count_parameters(build_method("ng-gnn", [GREY], 10)) == 331_466
    assert count_parameters(build_method("ng-t", [COLOUR], 10)) == 393_098
    assert count_parameters(build_method("dng", [COLOUR], 10)) == 414_090


def test_a_budget_below_the_fixed_parts_names_the_smallest() -> None:
    with pytest.raises(UsageError, match=r"dng-probes has at least 5\d,\d+ parameters.*budget of 1,000"):
        build_method("dng-probes", [GREY], 10, budget=1_000)


def test_unknown_methods_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="no method 'ng-gn'") as caught:
        method("ng-gn")
    assert "ng-gnn" in str(caught.value.hint)


def test_a_method_without_a_configuration_for_the_zoo_names_those_that_have_one() -> None:
    with pytest.raises(UsageError, match="stat-nn can't take the zoo") as caught:
        build_method("stat-nn", [GREY], 10)
    assert "ng-gnn" in str(caught.value.hint)
    with pytest.raises(UsageError, match="nft can't take the zoo") as caught:
        build_method("nft", [simple_vit()], 1)
    assert "dng" in str(caught.value.hint)


def test_kinds_of_zoos() -> None:
    assert zoo_kind([GREY]) == "inr"
    assert zoo_kind([small_cnn()]) == "small-cnn"
    assert zoo_kind([residual_cnn(3), residual_cnn(4)]) == "wild-park"
    assert zoo_kind([simple_vit()]) == "vit"


@pytest.mark.parametrize("name", INR_METHODS)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    first, second, other = (build_method(name, [TINY], 3, 120_000, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def probed(dtype: torch.dtype = torch.float64) -> DNG:
    torch.manual_seed(0)
    config = DNGConfig(EncoderConfig(dim=8, num_frequencies=4), 6, num_probes=5)
    return DNG([TINY], 3, config).to(dtype).eval()


def test_the_encoder_with_probes_knows_no_order_of_hidden_neurons() -> None:
    model, graph = probed(), random_graph(TINY, batch=4, dtype=torch.float64)
    logits = model(graph)
    torch.testing.assert_close(model(permute_hidden(graph)), logits, rtol=0, atol=1e-10)
    assert not torch.allclose(logits[0], logits[1])
    assert_tells_apart(model, graph, difference=1e-5)


def test_the_encoder_reads_its_probes() -> None:
    model, graph = probed(), random_graph(TINY, batch=2, dtype=torch.float64)
    logits = model(graph)
    assert model.probes is not None
    with torch.no_grad():
        model.probes.features.points.add_(0.3)
    assert not torch.allclose(model(graph), logits)


def test_gradients_and_batches_of_the_encoder_with_probes() -> None:
    graph = random_graph(TINY, batch=3, dtype=torch.float64)
    assert_gradients(probed(), graph, step=1e-7)
    assert_batch_independent(probed(), graph)


def test_the_encoder_with_probes_refuses_convolutions() -> None:
    with pytest.raises(UsageError, match="dng can't take the zoo: layer 1 is more than linear"):
        DNG([small_cnn()], 1, DNGConfig(EncoderConfig(dim=8, num_frequencies=4), num_probes=5))


@pytest.mark.parametrize("name", [name for name, known in METHODS.items() if "vit" in known.presets])
def test_methods_for_transformers_are_built_for_one(name: str) -> None:
    graph = random_graph(simple_vit(dim=8, depth=1, heads=2, dim_head=4, mlp=8), batch=2)
    model = build_method(name, graph.architectures, 1, budget=60_000).eval()
    with torch.no_grad():
        assert model(graph).shape == (2, 1)


def test_two_methods_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two methods are called 'dng'"):
        by_name(*BUILT_IN, METHODS["dng"])


def test_the_registry_is_light_and_names_what_there_is() -> None:
    code = "import dng.methods.registry, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=DOCS.parents[1], check=False).returncode == 0
    for name in READERS:
        found = METHODS[name]
        for preset in (*found.presets.values(), *found.costs.values()):
            assert preset in found.reader().presets
    for name in EDITORS:
        kind, config = METHODS[name].editing()
        assert config in kind.presets.values()


def test_benchmarks_have_the_methods_that_fit_them() -> None:
    assert TWO_STAGE == ("inr2jls", "inr2array")
    assert EDITORS == ("nfn-hnp", "nfn-np", "ng-gnn", "ng-t")
    assert set(PREDICTORS) == {
        "dng", "statistics", "flat-mlp", "nfn-hnp", "nfn-np", "nft", "ng-gnn", "ng-t", "stat-nn"
    }  # fmt: skip
    assert set(METHODS) == {*READERS, *TWO_STAGE, "statistics"}


def test_the_documents_table_is_the_registry() -> None:
    rows = [f"| `{found.name}` | {found.about} | {found.takes} |" for found in METHODS.values()]
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("| `")] == rows
