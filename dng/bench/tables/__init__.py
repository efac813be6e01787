"""The paper's tables of results, run again at a stated scale: cell by cell, each kept as soon as it is done."""

from dng.bench.tables.run import measure_costs, put_together, run_tables, table_jobs
from dng.bench.tables.scales import SCALES, scale

__all__ = ["SCALES", "measure_costs", "put_together", "run_tables", "scale", "table_jobs"]
