"""What our models and published methods cost: parameters, FLOPs, memory, latency (paper, section 9.4, Tables 5, 8)."""

from dng.bench.efficiency.cases import Case, efficiency_cases
from dng.bench.efficiency.published import PUBLISHED
from dng.bench.efficiency.results import EfficiencyResult, Measurement
from dng.bench.efficiency.rivals import rival_cases
from dng.bench.efficiency.run import run_efficiency

__all__ = ["PUBLISHED", "Case", "EfficiencyResult", "Measurement", "efficiency_cases", "rival_cases", "run_efficiency"]
