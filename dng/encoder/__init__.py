"""The DNG-Encoder: features, messages, memory, and the walk over the timestamps of a network.

Imports zootool's architecture and graph; nothing else of dng.
"""
