"""Shapes and types in the models' signatures are checked in every test; each test process uses one thread."""

import os

# Several test processes share the processors: more threads than those only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

# Compiled kernels can't be wrapped, and zootool's data path is tested by its values: the models alone are hooked.
install_import_hook("dng", "beartype.beartype")
