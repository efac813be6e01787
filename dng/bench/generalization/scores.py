"""How well predicted accuracies fit measured ones: Kendall's tau, R^2, mean absolute error; an interval over runs."""

from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float, Shaped
from sklearn.metrics import r2_score

from dng.runs.tasks import kendall_tau
from zootool.errors import NumericalError

BOOTSTRAP_DRAWS = 1000
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions; `mae` in the accuracies' own unit, fractions.

    `undefined` says why there is no tau. There is no R^2 where all measured accuracies are equal.
    """

    kendall_tau: float | None
    r2: float | None
    mae: float
    undefined: str = ""


def score(predicted: Float[np.ndarray, " networks"], measured: Float[np.ndarray, " networks"]) -> Scores:
    """All scores of `predicted` against `measured`. Raises NumericalError for predictions that aren't finite."""
    lost = int((~np.isfinite(predicted)).sum())
    if lost:
        raise NumericalError(
            f"{lost} test networks get no finite prediction", hint="leave out what diverged: zoo subset"
        )
    tau = _tau(predicted, measured)
    is_flat = np.ptp(measured) == 0
    undefined = "" if tau is not None else "equal accuracies" if is_flat else "constant prediction"
    r2 = None if is_flat else float(r2_score(measured, predicted))
    return Scores(tau, r2, float(np.abs(predicted - measured).mean()), undefined)


def bootstrap_tau(
    predictions: Float[np.ndarray, "seeds networks"], measured: Float[np.ndarray, " networks"], seed: int = 0
) -> tuple[float, float] | None:
    """A 95 % interval of the mean tau over seeds, test runs drawn with replacement; one network per run.

    Draws in which a tau is undefined don't count; None where these are most.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    taus = []
    for _ in range(BOOTSTRAP_DRAWS):
        drawn = generator.integers(len(measured), size=len(measured))
        found = [_tau(row[drawn], measured[drawn]) for row in predictions]
        taus += [fmean(tau for tau in found if tau is not None)] if None not in found else []
    if 2 * len(taus) < BOOTSTRAP_DRAWS:
        return None
    low, high = np.percentile(taus, INTERVAL)
    return float(low), float(high)


def chance_interval(count: int) -> tuple[float, float]:
    """Between what taus 95 % of random orders of `count` networks lie."""
    generator = np.random.Generator(np.random.Philox(key=[count, 1]))
    order = np.arange(count, dtype=np.float64)
    taus = [_tau(generator.permutation(order), order) or 0.0 for _ in range(BOOTSTRAP_DRAWS)]
    low, high = np.percentile(taus, INTERVAL)
    return float(low), float(high)


def last_of_runs(runs: Shaped[np.ndarray, " networks"], steps: Shaped[np.ndarray, " networks"]) -> np.ndarray:
    """The places of each run's last checkpoint, ascending."""
    _, number = np.unique(runs, return_inverse=True)
    order = np.lexsort((steps, number))
    return np.sort(order[np.diff(number[order], append=-1) != 0])


def _tau(predicted: np.ndarray, measured: np.ndarray) -> float | None:
    return kendall_tau(torch.from_numpy(predicted), torch.from_numpy(measured))
