"""Training CNNs, by a compiled kernel, and SimpleViTs, by stacked torch. It knows recipes and images, but no files."""
