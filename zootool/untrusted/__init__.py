"""Parsing of what may be hostile: pickles, archives, arrays and texts from elsewhere, within limits.

Imports architectures and errors alone.
"""
