import numpy as np
import pytest

from zootool.build.classifier.draws import initial_weight, uniform_numbers

SHAPE = (64, 16, 3, 3)


@pytest.mark.parametrize(
    ("kind", "deviation"),
    [("normal", 0.3), ("truncated_normal", 0.3), ("he_normal", (2 / 144) ** 0.5),
     ("glorot_normal", (2 / (144 + 576)) ** 0.5)],
)  # fmt: skip
def test_every_kind_has_its_deviation(kind: str, deviation: float) -> None:
    weight = initial_weight(kind, 0.3, SHAPE, seed=0, run=1, part=2)
    assert weight.shape == SHAPE
    assert weight.dtype == np.float32
    assert weight.std() == pytest.approx(deviation, rel=0.03)
    assert abs(weight.mean()) < deviation / 20
    beyond = np.abs(weight) > 2 / 0.8796 * deviation
    assert beyond.any() == (kind != "truncated_normal")


@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (16, 1, 3, 3), (10, 16)])
def test_orthogonal_weights_have_orthonormal_rows_or_columns(shape: tuple[int, ...]) -> None:
    flat = initial_weight("orthogonal", 0.3, shape, 0, 0, 0).reshape(shape[0], -1).astype(np.float64)
    short = flat if flat.shape[0] <= flat.shape[1] else flat.T
    assert np.abs(short @ short.T - np.eye(len(short))).max() < 1e-6


def test_a_weight_follows_from_its_own_stream_alone() -> None:
    weights = [initial_weight("normal", 1.0, SHAPE, *place) for place in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))]
    assert len({weight.tobytes() for weight in weights}) == 4
    assert np.array_equal(weights[0], initial_weight("normal", 1.0, SHAPE, 0, 0, 0))
    numbers = uniform_numbers(0.5, (1000,), 0, 0, 0)
    assert 0.49 < np.abs(numbers).max() <= 0.5
