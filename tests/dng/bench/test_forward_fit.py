import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from cli.main import app
from dng.bench.forward_fit import (
    FORWARD_FIT_PRESETS,
    ForwardFit,
    ForwardFitResult,
    ForwardFitSettings,
    forward_fit_preset,
    layer_mse,
)
from dng.bench.forward_fit_models import KINDS, Kind, MLPSamples, matching_width, sample_mlps
from dng.bench.harness import put_together, run
from dng.models.heads import count_parameters
from dng.training.checkpoint import load_tensors
from dng.training.loop import read_metrics
from dng.training.seed import derived_seed
from zootool.errors import FormatError, UsageError

TINY = ForwardFitSettings(
    widths=(2, 3, 3), num_train=24, num_validation=8, num_test=10, num_inputs=2, dim=8, hidden_dim=24, epochs=2,
    batch_size=8, lr=1e-2,
)  # fmt: skip


def result_in(folder: Path) -> ForwardFitResult:
    return put_together(ForwardFit("tiny", TINY, 2), folder)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("forward-fit")
    run(ForwardFit("tiny", TINY, 2), out)
    return out


def test_activations_are_those_of_the_mlps() -> None:
    samples = sample_mlps((4, 6, 5, 3), num_mlps=3, num_inputs=2, generator=generator())
    for row in range(3):
        layers = [nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)]
        for layer, weight, bias in zip(layers, samples.weights, samples.biases, strict=True):
            layer.load_state_dict({"weight": weight[row], "bias": bias[row]})
        first, second, third = layers
        hidden = torch.relu(first(samples.inputs[row]))
        deeper = torch.relu(second(hidden))
        for found, expected in zip(samples.activations, (hidden, deeper, third(deeper)), strict=True):
            torch.testing.assert_close(found[row], expected)


def test_weights_biases_and_inputs_have_the_scales_of_the_method() -> None:
    samples = sample_mlps((4, 16, 16, 16), num_mlps=300, num_inputs=8, generator=generator())
    stds = [weight.std().item() for weight in samples.weights]
    assert stds == pytest.approx([(2 / 4) ** 0.5, (2 / 16) ** 0.5, (2 / 16) ** 0.5], rel=0.02)
    assert [bias.std().item() for bias in samples.biases] == pytest.approx([0.5] * 3, rel=0.04)
    assert samples.inputs.std().item() == pytest.approx(1, rel=0.04)


@pytest.mark.parametrize("preset", ["full", "quick"])
def test_the_networks_have_equal_parameter_counts(preset: str) -> None:
    counts = {kind: count_parameters(forward_fit_preset(preset).build(kind)[0]) for kind in KINDS}
    assert counts["dynamic"] == 25_251
    assert counts["static-each-round"] == counts["static-last-round"]
    assert abs(counts["static-each-round"] / counts["dynamic"] - 1) < 0.05
    assert counts["static-equal-width"] > 2 * counts["dynamic"]


def test_the_control_of_equal_width_is_as_wide_as_the_dynamic_network(finished: Path) -> None:
    result = result_in(finished)
    widths = {kind: result.fits_of(kind)[0].hidden_dim for kind in KINDS}
    assert widths["static-equal-width"] == widths["dynamic"] > widths["static-each-round"]
    rows = {row[0]: row for row in ForwardFit("tiny", TINY, 2).tables(result)[0].rows}
    assert rows[KINDS["static-equal-width"]][1] == str(TINY.hidden_dim)
    page = (finished / "report.html").read_text()
    assert "static / dynamic MSE at equal width, layer 2" in page
    assert "static / dynamic MSE at equal parameters, layer 2" in page


def test_a_run_without_the_control_of_equal_width_goes_on_with_it(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "older"
    shutil.copytree(finished, out)
    value = json.loads((out / "results.json").read_text())
    value["fits"] = [fit for fit in value["fits"] if fit["kind"] != "static-equal-width"]
    (out / "results.json").write_text(json.dumps(value))
    for seed in range(2):
        shutil.rmtree(out / f"static-equal-width-{seed}")
    stages: set[str] = set()
    found = run(ForwardFit("tiny", TINY, 2), out, lambda stage, done, total: stages.add(stage))
    assert stages == {f"fitting {KINDS['static-equal-width']}, seed {seed}" for seed in range(2)}
    whole = result_in(finished)
    assert [replace(fit, seconds=0.0) for fit in found.fits] == [replace(fit, seconds=0.0) for fit in whole.fits]


def test_the_width_is_searched_and_the_nearest() -> None:
    assert matching_width(lambda width: 10 * width, 203) == 20
    assert matching_width(lambda width: 10 * width, 207) == 21
    with pytest.raises(UsageError, match="no width gives 15 parameters within 5%, the nearest, 1, gives 10"):
        matching_width(lambda width: 10 * width, 15)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_parameter_is_used_and_every_neuron_predicted(kind: Kind) -> None:
    model, _ = TINY.build(kind)
    samples = sample_mlps(TINY.widths, 4, 2, generator())
    predictions = model(samples)
    assert [tuple(p.shape) for p in predictions] == [(4, 2, 3), (4, 2, 3)]
    torch.stack([p.square().mean() for p in predictions]).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_prediction_depends_on_its_own_mlp_and_input_alone() -> None:
    model, _ = TINY.build("static-last-round")
    samples = sample_mlps(TINY.widths, 4, 3, generator())
    alone = samples.take(torch.tensor([2]))
    single = MLPSamples(alone.weights, alone.biases, alone.inputs[:, 1:2], tuple(a[:, 1:2] for a in alone.activations))
    for one, all_of_them in zip(model(single), model(samples), strict=True):
        torch.testing.assert_close(one[0, 0], all_of_them[2, 1])


def test_the_results_are_those_of_the_saved_weights_on_the_test_split(finished: Path) -> None:
    result = result_in(finished)
    assert [(fit.kind, fit.seed) for fit in result.fits] == [(kind, seed) for seed in range(2) for kind in KINDS]
    test = sample_mlps(TINY.widths, 10, 2, generator(derived_seed(1, "forward-fit", "test")))
    for fit in result.fits[len(KINDS) :]:
        model, hidden_dim = TINY.build(fit.kind)
        model.load_state_dict(load_tensors(finished / f"{fit.kind}-1" / "best.safetensors")[0])
        assert (fit.hidden_dim, fit.num_parameters) == (hidden_dim, count_parameters(model))
        assert fit.mse == pytest.approx(layer_mse(model, test, 3), rel=1e-5)
        means = [(values - values.mean()).square().mean().item() for values in test.activations]
        assert fit.target_variance == pytest.approx(means, rel=1e-5)
        assert fit.best_epoch in (1, 2)


def test_means_and_deviations_are_over_seeds(finished: Path) -> None:
    result = result_in(finished)
    (first, _), (second, _) = (fit.mse for fit in result.fits_of("dynamic"))
    assert result.mean_mse("dynamic")[0] == pytest.approx((first + second) / 2)
    stds = result.std_mse("dynamic")
    assert stds is not None
    assert stds[0] == pytest.approx(abs(first - second) / 2**0.5)


def test_training_lowers_the_error_below_that_of_a_constant(tmp_path: Path) -> None:
    settings = replace(TINY, num_train=120, epochs=8)
    result = run(ForwardFit("tiny", settings, 1), tmp_path)
    for fit in result.fits:
        assert fit.mse[0] < 0.5 * fit.target_variance[0]
        assert fit.mse[1] < 0.8 * fit.target_variance[1]


def test_a_stopped_run_goes_on_and_gives_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    def stop_in_the_second_epoch(stage: str, done: int, total: int) -> None:
        if stage == "fitting static, each layer after its round, seed 0" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(ForwardFit("tiny", TINY, 2), tmp_path, report=stop_in_the_second_epoch)
    assert not (tmp_path / "results.json").exists()
    stages: set[str] = set()
    resumed = run(ForwardFit("tiny", TINY, 2), tmp_path, lambda stage, done, total: stages.add(stage))
    assert "fitting dynamic, seed 0" not in stages
    whole = result_in(finished)
    assert [replace(fit, seconds=0.0) for fit in resumed.fits] == [replace(fit, seconds=0.0) for fit in whole.fits]


def test_the_learning_rate_follows_a_cosine_from_one_thousandth(finished: Path) -> None:
    rates = [line["lr"] for line in read_metrics(finished / "dynamic-0")]
    # The last of three steps per epoch, of six in all.
    assert rates == pytest.approx([TINY.lr * (1 + math.cos(math.pi * step / 6)) / 2 for step in (2, 5)])
    assert forward_fit_preset("full").training(seed=3).lr == 1e-3


def test_more_seeds_extend_a_finished_run(tmp_path: Path) -> None:
    settings = replace(TINY, epochs=1, lr=1e-12)
    first = run(ForwardFit("tiny", settings, 1), tmp_path)
    assert first.std_mse("dynamic") is None
    assert run(ForwardFit("tiny", settings, 1), tmp_path).skipped
    more = run(ForwardFit("tiny", settings, 2), tmp_path)
    assert more.num_seeds == 2
    assert more.fits[: len(KINDS)] == first.fits
    assert more.fits[0].mse != more.fits[len(KINDS)].mse
    # At this learning rate the weights are still the initial ones.
    one, other = (load_tensors(tmp_path / f"dynamic-{seed}" / "best.safetensors")[0] for seed in range(2))
    assert not torch.allclose(one["network.update.out.weight"], other["network.update.out.weight"])


def test_other_settings_in_the_same_folder_are_refused(finished: Path) -> None:
    with pytest.raises(UsageError, match="holds a run with epochs=2, this one has epochs=3"):
        run(ForwardFit("tiny", replace(TINY, epochs=3), 2), finished)


def test_a_result_that_is_not_ours_is_named(finished: Path, tmp_path: Path) -> None:
    value = json.loads((finished / "dynamic-0" / "fit.json").read_text()) | {"mse": ["low"]}
    (tmp_path / "dynamic-0").mkdir()
    (tmp_path / "dynamic-0" / "fit.json").write_text(json.dumps(value))
    with pytest.raises(FormatError, match=r"fit\.json\.mse\[0\] must be a number"):
        result_in(tmp_path)


def test_the_page_holds_plot_and_table_in_itself(finished: Path) -> None:
    result = result_in(finished)
    page = (finished / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == page.count("src=") == 2
    markdown = (finished / "table.md").read_text()
    for cell in (f"{result.mean_mse('dynamic')[1]:.3g}", f"{result.target_variance()[1]:.3f}"):
        assert cell in page
        assert cell in markdown
    assert (finished / "mse.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_the_table_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORWARD_FIT_PRESETS, "quick", replace(TINY, epochs=1))
    command = ["bench", "forward-fit", "--preset", "quick", "--seeds", "1", "--out", str(tmp_path / "run")]
    first = CliRunner().invoke(app, [*command, "--json"])
    assert first.exit_code == 0, first.output
    value = json.loads(first.stdout)
    second = CliRunner().invoke(app, command)
    assert "skipped" in second.output
    assert f"{value['fits'][0]['mse'][0]:.3g}" in second.output
    wrong = CliRunner().invoke(app, ["bench", "forward-fit", "--preset", "fast"])
    assert wrong.exit_code == 2
    assert "there is no preset 'fast'" in wrong.output
