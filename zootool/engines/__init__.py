"""Who does the work: this process, worker processes of this machine, or a Ray cluster.

They know jobs and no more, and import errors alone.
"""
