from importlib.util import find_spec

import pytest

from zootool.engines.engine import choose_engine, run_here
from zootool.engines.processes import ProcessEngine
from zootool.errors import MissingError, UsageError


def test_engines_are_chosen_by_name_and_workers() -> None:
    assert choose_engine() is run_here
    assert choose_engine("local", workers=1) is run_here
    assert isinstance(choose_engine("local", workers=3), ProcessEngine)


def test_what_no_engine_can_do_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'local'"):
        choose_engine("lokal")
    with pytest.raises(UsageError, match="--workers must be at least 1"):
        choose_engine(workers=0)
    with pytest.raises(UsageError, match="--address"):
        choose_engine(address="auto")


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_a_missing_ray_is_said() -> None:
    with pytest.raises(MissingError, match="not installed"):
        choose_engine("ray")
