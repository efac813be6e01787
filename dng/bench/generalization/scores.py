"""How well predicted accuracies fit measured ones: Kendall's tau, R^2, mean absolute error; an interval over runs."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from sklearn.metrics import r2_score

from dng.bench.accuracy import kendall_tau

BOOTSTRAP_DRAWS = 1000
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions; `mae` in the accuracies' own unit, fractions."""

    kendall_tau: float
    r2: float
    mae: float


def score(predicted: Float[np.ndarray, " networks"], measured: Float[np.ndarray, " networks"]) -> Scores:
    """All scores of `predicted` against `measured`."""
    return Scores(
        kendall_tau(torch.from_numpy(predicted), torch.from_numpy(measured)),
        float(r2_score(measured, predicted)),
        float(np.abs(predicted - measured).mean()),
    )


def bootstrap_tau(
    predictions: Float[np.ndarray, "seeds networks"], measured: Float[np.ndarray, " networks"], seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval of the mean tau over seeds, test runs drawn with replacement; one network per run."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    taus = []
    for _ in range(BOOTSTRAP_DRAWS):
        drawn = generator.integers(len(measured), size=len(measured))
        taus.append(np.mean([_tau(row[drawn], measured[drawn]) for row in predictions]))
    low, high = np.percentile(taus, INTERVAL)
    return float(low), float(high)


def last_of_runs(runs: Shaped[np.ndarray, " networks"], steps: Shaped[np.ndarray, " networks"]) -> np.ndarray:
    """The places of each run's last checkpoint, ascending."""
    _, number = np.unique(runs, return_inverse=True)
    order = np.lexsort((steps, number))
    return np.sort(order[np.diff(number[order], append=-1) != 0])


def _tau(predicted: np.ndarray, measured: np.ndarray) -> float:
    return kendall_tau(torch.from_numpy(predicted), torch.from_numpy(measured))
