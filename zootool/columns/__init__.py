"""The columns of a table of networks: what each of them holds, and plain values for any column.

Imports errors alone.
"""
