"""How long-running functions tell their caller how far they are, without knowing about terminals."""

from collections.abc import Callable

Reporter = Callable[[str, int, int], None]
"""Called as `report(stage, done, total)`: `stage` is a short phrase such as "fitting networks"."""


def silent(stage: str, done: int, total: int) -> None:
    """The reporter of callers who don't want to know."""
