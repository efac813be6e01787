"""Trained runs: a method trained on a zoo, kept in a folder, loaded again, and used on other networks.

Imports dng.zoo_data, encoder, models, training and methods.
"""
