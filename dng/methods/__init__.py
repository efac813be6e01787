"""The published methods to compare with, and the registry of all.

Imports encoder, models and training.
"""
