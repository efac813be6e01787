"""How well message passing on a static and on a dynamic graph fits an MLP's forward pass (paper, section 7)."""

from dng.bench.forward_fit.results import Fit, ForwardFitResult, read_result
from dng.bench.forward_fit.run import run_forward_fit
from dng.bench.forward_fit.settings import ForwardFitSettings, forward_fit_preset

__all__ = ["Fit", "ForwardFitResult", "ForwardFitSettings", "forward_fit_preset", "read_result", "run_forward_fit"]
