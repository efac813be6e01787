"""What our models cost: parameters, FLOPs, peak memory, latency (paper, section 9.4, Tables 5 and 8)."""

from dng.bench.efficiency.cases import Case, efficiency_cases
from dng.bench.efficiency.published import PUBLISHED
from dng.bench.efficiency.results import EfficiencyResult, Measurement
from dng.bench.efficiency.run import run_efficiency

__all__ = ["PUBLISHED", "Case", "EfficiencyResult", "Measurement", "efficiency_cases", "run_efficiency"]
