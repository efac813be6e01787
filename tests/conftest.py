"""Shapes and types in the models' signatures are checked in every test."""

from jaxtyping import install_import_hook

# Compiled kernels can't be wrapped, and zootool's data path is tested by its values: the models alone are hooked.
install_import_hook("dng", "beartype.beartype")
