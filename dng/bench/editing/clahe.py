"""Contrast-limited adaptive histogram equalisation: levels are spread out by the histograms of tiles around them.

The conventions are OpenCV's, since published targets come from it:

- Where a side isn't a multiple of the tiles, both sides are extended at their ends by reflection (without the last
  pixel) to a further multiple: a side that was one already by a whole pixel per tile.
- A tile's histogram is cut at clip * pixels / 256, rounded down and at least 1. What was cut off is dealt out: evenly
  over all levels, and the rest by one to levels at equal steps from level 0 on.
- A tile's table is its cumulative histogram, scaled to 255 and rounded to the nearest.
- Between the centres of tiles their tables' values are interpolated linearly along both sides; outside the outermost
  centres the nearest table holds.

In float32, and in OpenCV's order, so that levels are equal to the last bit.
"""

import numpy as np
from jaxtyping import Float, Int64, UInt8

LEVELS = 256

Levels = UInt8[np.ndarray, "images height width"]


def equalise(levels: Levels, tiles: int, clip: float) -> Levels:
    """Each image's levels by the tables of `tiles` x `tiles` tiles, their histograms cut at `clip`."""
    height, width = levels.shape[1:]
    extended = _extended(levels, tiles)
    tile_height, tile_width = (side // tiles for side in extended.shape[1:])
    tables = _tables(extended, tiles, clip)
    top, bottom, down = _neighbours(height, tile_height, tiles)
    left, right, across = _neighbours(width, tile_width, tiles)
    image = np.arange(len(levels))[:, None, None]

    def looked_up(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return tables[image, rows[:, None], columns, levels]

    upper = looked_up(top, left) * (1 - across) + looked_up(top, right) * across
    lower = looked_up(bottom, left) * (1 - across) + looked_up(bottom, right) * across
    mixed = upper * (1 - down[:, None]) + lower * down[:, None]
    return np.rint(mixed).clip(0, LEVELS - 1).astype(np.uint8)


def _extended(levels: Levels, tiles: int) -> UInt8[np.ndarray, "images tall wide"]:
    sides = levels.shape[1:]
    if not any(side % tiles for side in sides):
        return levels
    return np.pad(levels, ((0, 0), *((0, tiles - side % tiles) for side in sides)), mode="reflect")


def _tables(levels: Levels, tiles: int, clip: float) -> UInt8[np.ndarray, "images tiles tiles 256"]:
    """Per tile, what becomes of each level."""
    num_images, height, width = levels.shape
    cells = levels.reshape(num_images, tiles, height // tiles, tiles, width // tiles).swapaxes(2, 3)
    cells = cells.reshape(num_images * tiles**2, -1)
    num_pixels = cells.shape[1]
    firsts = LEVELS * np.arange(len(cells))[:, None]
    counts = np.bincount((firsts + cells).ravel(), minlength=LEVELS * len(cells)).reshape(-1, LEVELS)
    counts = _limited(counts, max(int(clip * num_pixels / LEVELS), 1))
    scaled = counts.cumsum(axis=1).astype(np.float32) * np.float32((LEVELS - 1) / num_pixels)
    return np.rint(scaled).clip(0, LEVELS - 1).astype(np.uint8).reshape(num_images, tiles, tiles, LEVELS)


def _limited(counts: Int64[np.ndarray, "cells 256"], limit: int) -> Int64[np.ndarray, "cells 256"]:
    """Histograms of the same sums with at most `limit` per level, before what was cut off is dealt out."""
    excess = (counts - limit).clip(0).sum(axis=1, keepdims=True)
    everywhere, rest = np.divmod(excess, LEVELS)
    turn, is_between = np.divmod(np.arange(LEVELS), LEVELS // np.maximum(rest, 1))
    return np.minimum(counts, limit) + everywhere + ((is_between == 0) & (turn < rest))


def _neighbours(
    side: int, tile: int, tiles: int
) -> tuple[Int64[np.ndarray, " side"], Int64[np.ndarray, " side"], Float[np.ndarray, " side"]]:
    """The tiles with the nearest centres before and behind every pixel, and how far it is from one to the other."""
    # Not divided by the tile: what is interpolated may lie so close to a half that this decides.
    places = np.arange(side, dtype=np.float32) * np.float32(1 / tile) - np.float32(0.5)
    before = np.floor(places)
    first = before.astype(np.int64)
    return first.clip(0), (first + 1).clip(max=tiles - 1), places - before
