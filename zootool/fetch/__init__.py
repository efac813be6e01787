"""Downloads: checked, resumed, from the addresses that datasets.yaml names.

Imports the catalogue and what lies below it; knows nothing of formats.
"""
