"""What is built on the encoder: INR2JLS, heads, predictors, ablations.

Imports the encoder.
"""
