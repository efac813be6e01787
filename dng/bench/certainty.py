"""What a score is worth: its interval, how many networks it takes to be quoted, and its spread over seeds."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import torch
from jaxtyping import Float, Shaped
from scipy.stats import binomtest
from sklearn.metrics import r2_score

from dng.runs.tasks import kendall_tau
from zootool.errors import NumericalError

MIN_TESTED = 10
"""Fewer test networks (or runs) give no number that anybody should quote."""

_DRAWS, _INTERVAL = 1000, (2.5, 97.5)


def spread(values: Sequence[float], digits: int) -> str:
    """The cell of a measurement under several seeds: mean ± sample standard deviation."""
    mean = f"{fmean(values):.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean


def percent(values: Sequence[float]) -> str:
    """Mean and sample standard deviation in percent."""
    return spread([100 * value for value in values], 1)


def over_seeds(count: int) -> str:
    """What stands in the caption of a table of `spread`."""
    return f"mean ± standard deviation over {count} seeds" if count > 1 else "one seed"


def too_few(count: int, what: str, is_open: bool = False) -> str:
    """Why a score on `count` test networks isn't quoted, or nothing; `is_open`: its interval leaves nearly all open."""
    return f"{count} {what}: too few" if count < MIN_TESTED or is_open else ""


def largest_share(labels: Collection[int]) -> float:
    """The share of the most frequent class: the accuracy of naming that one every time."""
    return max(Counter(labels).values()) / len(labels)


def accuracy_interval(accuracy: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy measured on `count` networks: what other test networks could give."""
    found = binomtest(round(accuracy * count), count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predicted accuracies; `mae` in the accuracies' own unit, fractions.

    `undefined` says why there is no Kendall's tau. There is no R^2 where all measured accuracies are equal.
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
    for _ in range(_DRAWS):
        drawn = generator.integers(len(measured), size=len(measured))
        found = [_tau(row[drawn], measured[drawn]) for row in predictions]
        taus += [fmean(tau for tau in found if tau is not None)] if None not in found else []
    return None if 2 * len(taus) < _DRAWS else _percentiles(taus)


def chance_interval(count: int) -> tuple[float, float]:
    """Between what taus 95 % of random orders of `count` networks lie."""
    generator = np.random.Generator(np.random.Philox(key=[count, 1]))
    order = np.arange(count, dtype=np.float64)
    return _percentiles([_tau(generator.permutation(order), order) or 0.0 for _ in range(_DRAWS)])


def last_of_runs(runs: Shaped[np.ndarray, " networks"], steps: Shaped[np.ndarray, " networks"]) -> np.ndarray:
    """The places of each run's last checkpoint, ascending."""
    _, number = np.unique(runs, return_inverse=True)
    order = np.lexsort((steps, number))
    return np.sort(order[np.diff(number[order], append=-1) != 0])


def _tau(predicted: np.ndarray, measured: np.ndarray) -> float | None:
    return kendall_tau(torch.from_numpy(predicted), torch.from_numpy(measured))


def _percentiles(taus: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(taus, _INTERVAL)
    return float(low), float(high)
