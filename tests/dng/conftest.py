from pathlib import Path

import pytest

from dng.bench.harness import measure
from dng.bench.inr_classification import INRClassification
from tests.dng.bench.zoos import TINY, build_digits_zoo
from zootool.zoo import Zoo


@pytest.fixture(scope="session")
def digits_zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return build_digits_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def finished_run(digits_zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    measure(INRClassification(digits_zoo, "tiny", TINY), out)
    return out
