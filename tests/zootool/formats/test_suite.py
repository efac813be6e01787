"""The suite for readers: ours pass it, and readers with a fault don't."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.zootool.formats.sirens_here import write_mnist_inrs, write_nfn, write_wide_inrs
from tests.zootool.formats.trained_here import write_vits
from zootool.architecture import Architecture
from zootool.formats.nfn_sirens import NfnSirens
from zootool.formats.seq_sirens import MnistInrs, WideInrs
from zootool.formats.simple_vit_zoo import SimpleVitZoo
from zootool.formats.skeleton import Network
from zootool.testing import ReaderSuite

States = Mapping[str, Mapping[str, np.ndarray]]


def arrays(states: Mapping[str, Mapping[str, torch.Tensor]]) -> States:
    return {net_id: {key: tensor.numpy() for key, tensor in state.items()} for net_id, state in states.items()}


class TestNfn(ReaderSuite):
    reader, folder = NfnSirens, "siren_mnist_wts"

    def write(self, folder: Path) -> States:
        return arrays(write_nfn(folder, [(0, 3, 0), (0, 1, 1), (1, 3, 0)]))


class TestMnistInrs(ReaderSuite):
    reader = MnistInrs

    def write(self, folder: Path) -> States:
        return arrays(write_mnist_inrs(folder, [("training", 7, 0), ("training", 8, 2), ("testing", 1, 1)]))


class TestWideInrs(ReaderSuite):
    reader = WideInrs

    def write(self, folder: Path) -> States:
        return arrays(write_wide_inrs(folder, [(1, 0, 0), (1, 0, 1), (4, 7, 0)]))


class TestSimpleVits(ReaderSuite):
    reader = SimpleVitZoo

    def write(self, folder: Path) -> States:
        folder.mkdir(parents=True, exist_ok=True)
        return arrays(write_vits(folder, [(0, 1), (0, 2), (1, 2)]))


class MixesUp(NfnSirens):
    """Gives the tensors of networks in the wrong order."""

    def load(self, architecture: Architecture, networks: Sequence[Network]) -> dict[str, np.ndarray]:
        return super().load(architecture, networks[::-1])


class Crashes(NfnSirens):
    """Doesn't say what is wrong with a file."""

    def tensors(self, network: Network) -> Any:
        try:
            return super().tensors(network)
        except Exception as error:
            raise KeyError("weights") from error


class Draws(NfnSirens):
    """Is another one at every reading."""

    def fingerprint(self) -> str:
        return str(np.random.default_rng().integers(1 << 60))


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        (MixesUp, "test_weights_are_those_of_the_files_in_any_order", AssertionError),
        (Crashes, "test_damaged_files_are_read_or_refused", KeyError),
        (Draws, "test_reading_again_gives_the_same", AssertionError),
        (MnistInrs, "test_its_zoos_are_recognised", AssertionError),
    ],
)
def test_faults_of_readers_are_caught(kind: Any, name: str, error: type[Exception], tmp_path: Path) -> None:
    class Suite(TestNfn):
        reader = kind

    with pytest.raises(error):
        getattr(Suite(), name)(tmp_path)
