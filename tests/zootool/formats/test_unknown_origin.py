"""Checkpoints of unknown origin: the network that was given comes back, with what was assumed about it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from cli.main import app
from tests.zootool.nets.modules import Siren
from zootool.architecture import Architecture
from zootool.conversion.convert import append, collect, convert
from zootool.errors import FormatError
from zootool.formats.options import ReadOptions
from zootool.formats.preview import preview
from zootool.nets.resnet import CifarResnet
from zootool.share.card import derived_files
from zootool.store import open_store
from zootool.store.merge import merge_stores
from zootool.zoo import Zoo, open_zoo, verify
from zootool.zoo.export import subset
from zootool.zoo.functional import render

CASES = Path(__file__).parents[2] / "cases"


def converted(source: Path, destination: Path, declared: Path | None = None) -> Zoo:
    convert(source, destination, reading=ReadOptions(architecture=declared))
    assert verify(destination, "deep").passed
    return open_zoo(destination)


def without(zoo: Zoo, place: int, prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in zoo.state_dict(place).items()}


@torch.no_grad()
def test_sorted_layers_of_safetensors(tmp_path: Path) -> None:
    zoo = converted(CASES / "safetensors_order" / "order_mlp_st", tmp_path / "x.zoo")
    layers = [layer for i in range(8) for layer in (nn.Linear(4 if i == 0 else 16, 16), nn.ReLU())][:-1]
    state = zoo.state_dict(0)
    layers[-1] = nn.Linear(16, state["14.weight"].shape[0])
    module, x = nn.Sequential(*layers), torch.randn(5, 4)
    module.load_state_dict(state)
    torch.testing.assert_close(zoo.module(0)(x), module(x))


@torch.no_grad()
def test_a_sorted_cnn_is_the_network_that_its_torch_file_is(tmp_path: Path) -> None:
    case = CASES / "safetensors_order" / "order_cnn_st"
    found = load_file(case / "a.safetensors")
    order = ("conv1", "bn1", "conv2", "bn2", "fc")
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    state = {key: found[key] for key in (f"{name}.{part}" for name in order for part in parts) if key in found}
    assert set(state) == set(found)
    torch.save(state, tmp_path / "a.pt")
    given, saved = (converted(s, tmp_path / f"{n}.zoo") for s, n in ((case, "given"), (tmp_path / "a.pt", "saved")))
    assert given.architecture_of(0).timestamps == saved.architecture_of(0).timestamps
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(given.module(0)(x), saved.module(0)(x))


@pytest.mark.parametrize(
    ("case", "prefix"),
    [
        ("family_by_name/prefix_resnet_net", "net."),
        ("family_by_name/prefix_resnet_opacus", "_module."),
        ("half_precision_families/half_resnet_f16", ""),
    ],
)
@torch.no_grad()
def test_a_resnet_under_any_prefix_and_precision(tmp_path: Path, case: str, prefix: str) -> None:
    zoo = converted(CASES / case, tmp_path / "x.zoo")
    module = CifarResnet(20).to(next(iter(zoo.state_dict(0).values())).dtype).eval()
    module.load_state_dict(without(zoo, 0, prefix))
    x = torch.randn(2, 3, 16, 16).to(module.conv1.weight.dtype)
    torch.testing.assert_close(zoo.module(0)(x), module(x))


@torch.no_grad()
def test_like_takes_a_prefix_and_counters(tmp_path: Path) -> None:
    case = CASES / "like_other_names"
    zoo = converted(case / "prefix_resnet_net", tmp_path / "x.zoo", case / "resnet20.yaml")
    module, x = CifarResnet(20).eval(), torch.randn(2, 3, 16, 16)
    module.load_state_dict(without(zoo, 0, "net."))
    torch.testing.assert_close(zoo.module(0)(x), module(x))
    assert zoo.info.assumptions == {}


@pytest.mark.parametrize(
    "case",
    [
        "family_by_name/prefix_siren",
        "family_by_name/vsitzmann_keys",
        "family_by_name/siren_sine_output",
        "half_precision_families/half_siren_f16",
        "half_precision_families/half_siren_f64",
    ],
)
@torch.no_grad()
def test_a_siren_under_any_name_and_precision(tmp_path: Path, case: str) -> None:
    zoo = converted(CASES / case, tmp_path / "x.zoo")
    has_sine_output = case.endswith("sine_output")
    assert len({architecture.structure for architecture in zoo.architectures.values()}) == 1
    for place in range(len(zoo)):
        *weights, last = [value for value in zoo.state_dict(place).values() if value.ndim == 2]
        *biases, last_bias = [value for value in zoo.state_dict(place).values() if value.ndim == 1]
        x = wanted = torch.rand(5, 2).to(last.dtype)
        for weight, bias in zip(weights, biases, strict=True):
            wanted = torch.sin(30 * nn.functional.linear(wanted, weight, bias))
        wanted = nn.functional.linear(wanted, last, last_bias)
        wanted = torch.sin(30 * wanted) if has_sine_output else wanted
        torch.testing.assert_close(zoo.module(place)(x), wanted)
        assert render(zoo.module(place), 4, 5).shape == (4, 5, 1)
        assert any("omega_0 = 30" in text for text in zoo.info.assumptions[zoo.architecture_of(place).signature])


def test_one_network_under_nine_prefixes_is_shown_as_one_architecture() -> None:
    (found,) = preview(collect(CASES / "family_by_name/prefix_siren")).architectures
    assert (found.num_networks, found.family, found.node_counts) == (9, "siren", (2, 32, 32, 1))
    # What wrappers put before the keys is taken off; `net.` and `backbone.` are names of the networks' own.
    assert found.num_spellings == 3


def test_a_tensor_that_nothing_uses_stops_the_module_alone(tmp_path: Path) -> None:
    state = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict() | {"gate": torch.ones(4)}
    torch.save(state, tmp_path / "a.pt")
    layers = "".join(f"  - {{kind: linear, weight: {i}.weight, bias: {i}.bias}}\n" for i in (0, 2))
    (tmp_path / "net.yaml").write_text(f"num_inputs: 3\nlayers:\n{layers}other: [gate]\n")
    zoo = converted(tmp_path / "a.pt", tmp_path / "x.zoo", tmp_path / "net.yaml")
    assert all(torch.equal(value, state[key]) for key, value in zoo.state_dict(0).items())
    with pytest.raises(FormatError, match="no layer of the architecture uses gate"):
        zoo.module(0)


def write_two_kinds(folder: Path) -> None:
    """A chain and a SIREN."""
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict(), folder / "chain.pt")
    torch.save(Siren(2, (4, 4), 1).state_dict(), folder / "siren.pt")


def of_kind(zoo: Zoo, family: str) -> Architecture:
    return next(a for a in zoo.architectures.values() if a.family == family)


def test_assumptions_are_kept_by_architecture_and_travel(tmp_path: Path) -> None:
    write_two_kinds(tmp_path / "nets")
    zoo = converted(tmp_path / "nets", tmp_path / "x.zoo")
    chain, siren = of_kind(zoo, "mlp").signature, of_kind(zoo, "siren").signature
    assert set(zoo.info.assumptions) == {chain, siren}
    assert "activations are taken for relu" in zoo.info.assumptions[chain]
    assert "activations are taken for relu" not in zoo.info.assumptions[siren]
    subset(zoo.select(net_id="siren.pt"), tmp_path / "part.zoo")
    assert open_zoo(tmp_path / "part.zoo").info.assumptions == {siren: zoo.info.assumptions[siren]}
    subset(zoo.select(net_id="chain.pt"), tmp_path / "rest.zoo")
    stores = [open_store(tmp_path / f"{name}.zoo") for name in ("part", "rest")]
    merge_stores(stores, tmp_path / "merged.zoo", "merged")
    assert open_zoo(tmp_path / "merged.zoo").info.assumptions == zoo.info.assumptions
    append(tmp_path / "nets" / "chain.pt", tmp_path / "part.zoo")
    assert open_zoo(tmp_path / "part.zoo").info.assumptions == zoo.info.assumptions


def test_assumptions_are_shown_wherever_a_zoo_is(tmp_path: Path) -> None:
    write_two_kinds(tmp_path / "nets")
    run = CliRunner()
    shown = run.invoke(app, ["show", str(tmp_path / "nets")]).output
    written = run.invoke(app, ["convert", str(tmp_path / "nets"), str(tmp_path / "x.zoo")]).output
    told = run.invoke(app, ["info", str(tmp_path / "x.zoo")]).output
    as_json = run.invoke(app, ["info", str(tmp_path / "x.zoo"), "--json"]).output
    card = derived_files(open_store(tmp_path / "x.zoo"))["README.md"].decode()
    for text in (shown, written, told, as_json, card):
        words = " ".join(text.replace("\\", "").split())
        assert "activations are taken for relu" in words
        assert "omega_0 = 30" in words
    assert '"assumptions"' in run.invoke(app, ["show", str(tmp_path / "nets"), "--json"]).output
