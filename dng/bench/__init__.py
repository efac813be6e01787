"""The field's benchmarks: `harness` runs them all, each has a file of its own (its figures' page beside it).

They import everything of dng; of zootool what models may, and zoos through `dng.zoo_data`.
"""
