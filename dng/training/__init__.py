"""One training loop and what it needs: seeds, checkpoints, metrics, ranks.

Imports models where a loss asks for them; knows no benchmark.
"""
