"""All backends against each other and against a plain loop, from the same initial weights."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.zootool.build.siren.problems import fit_in_float64, fit_plainly, problem, sensitivity
from zootool.build.siren.backends import choose_backend
from zootool.build.siren.cpu import fit_on_cpu
from zootool.build.siren.reference import fit_by_batches
from zootool.build.siren.settings import FitSettings
from zootool.errors import MissingError, UsageError

TOLERANCE = 2e-5

SHAPES = [
    FitSettings((4, 4), 1, (8,), steps=200),
    FitSettings((5, 3), 1, (8, 8), steps=200),
    FitSettings((8, 6), 2, (24, 24), steps=200, lr=1e-4),
    FitSettings((12, 12), 3, (40, 40, 40), steps=60),
    FitSettings((6, 6), 3, (16, 32, 8, 48), omega_0=10.0, steps=100, beta1=0.8, beta2=0.99, eps=1e-6),
]
CIFAR = FitSettings((32, 32), 3, steps=200)


@pytest.mark.parametrize("settings", [*SHAPES, CIFAR], ids=str)
def test_kernel_reference_and_plain_loop_agree(settings: FitSettings) -> None:
    initial, targets = problem(settings)
    fused, fused_losses = fit_on_cpu(initial, targets, settings)
    batched, batched_losses = fit_by_batches(initial, targets, settings)
    plain, plain_loss = fit_plainly(initial[0], targets[0], settings)
    moved = np.abs(fused - initial).max()
    assert moved > 50 * TOLERANCE
    assert np.abs(fused - batched).max() < TOLERANCE
    assert np.abs(fused[0] - plain).max() < TOLERANCE
    assert np.abs(fused_losses - batched_losses).max() < 1e-5
    assert fused_losses[0] == pytest.approx(plain_loss, abs=1e-5)


def test_disagreement_is_the_problems_own() -> None:
    """Some problems amplify rounding: there no float32 fit, torch's own neither, is within the tolerance of another."""
    settings = FitSettings((7, 7), 2, (24, 24), steps=200, lr=1e-4)
    initial, targets = problem(settings, count=16)
    exact, amplified = fit_in_float64(initial, targets, settings), sensitivity(initial, targets, settings)
    steady = amplified < TOLERANCE / 4
    assert 10 <= steady.sum() < 16  # the first network moves by 1e-4 when its initial weights move by half a last place
    for fit in (fit_on_cpu, fit_by_batches):
        off = np.abs(fit(initial, targets, settings)[0] - exact).max(axis=1)
        assert off[steady].max() < TOLERANCE
        assert (off < np.maximum(TOLERANCE, 3 * amplified)).all()


@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_a_networks_bytes_depend_on_neither_batch_nor_threads(settings: FitSettings) -> None:
    initial, targets = problem(settings, count=5)
    together = fit_on_cpu(initial, targets, settings, threads=2)
    for i in range(5):
        alone = fit_on_cpu(initial[i : i + 1], targets[i : i + 1], settings)
        assert alone[0].tobytes() == together[0][i].tobytes()
        assert alone[1].tobytes() == together[1][i].tobytes()


def test_the_batched_gradient_is_that_of_single_fits() -> None:
    settings = SHAPES[1]
    initial, targets = problem(settings, count=3)
    targets[1:] *= 100  # a mean over the batch would let the others drown the first network
    together, _ = fit_by_batches(initial, targets, settings)
    alone, _ = fit_by_batches(initial[:1], targets[:1], settings)
    assert np.abs(together[0] - alone[0]).max() < TOLERANCE


def test_batches_are_cut_without_changing_anything() -> None:
    settings = SHAPES[0]
    initial, targets = problem(settings, count=5)
    whole, _ = fit_by_batches(initial, targets, settings)
    counts: list[int] = []
    cut, _ = fit_by_batches(initial, targets, settings, batch=2, advance=counts.append)
    assert counts == [2, 2, 1]
    assert np.abs(whole - cut).max() < TOLERANCE


def test_the_loss_is_that_of_the_final_weights() -> None:
    settings = FitSettings((4, 4), 1, (8,), steps=1, lr=0.05)
    initial, targets = problem(settings)
    fitted, losses = fit_on_cpu(initial, targets, settings)
    unmoved = FitSettings((4, 4), 1, (8,), steps=1, lr=1e-30)
    assert np.allclose(fit_on_cpu(fitted, targets, unmoved)[1], losses, rtol=1e-6)


def test_progress_counts_every_network() -> None:
    initial, targets = problem(SHAPES[0], count=5)
    counts: list[int] = []
    fit_on_cpu(initial, targets, SHAPES[0], threads=2, advance=counts.append)
    assert sum(counts) == 5


def test_the_kernel_runs_in_threads_that_raise() -> None:
    initial, targets = problem(SHAPES[0], count=5)

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_on_cpu(initial, targets, SHAPES[0], threads=2, advance=stop)


def test_shapes_and_devices_choose_the_backend() -> None:
    assert choose_backend(FitSettings((8, 8), 1, (32, 32)))[0] == "CPU kernel"
    assert choose_backend(FitSettings((8, 8), 1, (8, 8, 8, 8)))[0] == "CPU kernel"
    assert choose_backend(FitSettings((8, 8), 1, (12, 12)))[0] == "batched torch"
    assert choose_backend(FitSettings((8, 8), 1, (8,) * 5))[0] == "batched torch"
    with pytest.raises(UsageError, match="tpu"):
        choose_backend(CIFAR, "tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(MissingError, match="no CUDA device"):
        choose_backend(CIFAR, "cuda")


INTERPRETED = """
import numpy as np
from tests.zootool.build.siren.problems import problem
from zootool.build.siren.cpu import fit_on_cpu
from zootool.build.siren.cuda import fit_on_cuda
from zootool.build.siren.settings import FitSettings

for grid, channels, hidden, steps, count in (((5, 3), 1, (16, 8), 200, 1), ((9, 8), 3, (24, 32), 10, 2)):
    settings = FitSettings(grid, channels, hidden, steps=steps)
    initial, targets = problem(settings, count)
    counts = []
    found, losses = fit_on_cuda(initial, targets, settings, device="cpu", advance=counts.append)
    wanted, wanted_losses = fit_on_cpu(initial, targets, settings)
    assert counts == [count]
    assert np.abs(found - wanted).max() < TOLERANCE, np.abs(found - wanted).max()
    assert np.abs(losses - wanted_losses).max() < 1e-5
    assert np.abs(found - initial).max() > 20 * TOLERANCE
"""


def test_the_triton_kernel_agrees_in_tritons_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is for Linux alone")
    script = INTERPRETED.replace("TOLERANCE", str(TOLERANCE))
    # Triton looks at the variable when it is imported, so this takes a process of its own.
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


DIGEST = """
import hashlib
from tests.zootool.build.siren.problems import problem
from zootool.build.siren.cpu import fit_on_cpu
from zootool.build.siren.settings import FitSettings

settings = FitSettings((9, 8), 3, (32, 24), steps=50)
fitted, losses = fit_on_cpu(*problem(settings), settings)
print(hashlib.sha256(fitted.tobytes() + losses.tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of the x86-64 family")
def test_a_network_has_the_same_bytes_on_older_processors(tmp_path: Path) -> None:
    digests = set()
    for name in ("generic", "haswell", "znver2"):
        environment = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    here = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    assert digests == {here.stdout}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("settings", [CIFAR, FitSettings((9, 8), 1, (24, 8), steps=200)], ids=str)
def test_the_triton_kernel_agrees_on_a_gpu(settings: FitSettings) -> None:
    name, backend = choose_backend(settings, "cuda")
    assert name == "Triton kernel"
    initial, targets = problem(settings, count=8)
    found, _ = backend(initial, targets, settings)
    wanted, _ = fit_on_cpu(initial, targets, settings)
    assert np.abs(found - wanted).max() < TOLERANCE
