"""Fitting SIRENs: kernels for CPU and GPU, and batched torch. They know the numbers alone: no files, no recipes."""
