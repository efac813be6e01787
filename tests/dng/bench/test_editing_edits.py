"""The edits on small images, against values worked out by hand and published ones."""

import numpy as np
import pytest

from dng.bench.edits import (
    EDITS,
    Edit,
    check_channels,
    contrast,
    dilate,
    equalise,
    erode,
    from_lab,
    gradient,
    sharpen,
    to_lab,
)
from zootool.errors import UsageError

IMAGE = [
    [10, 20, 30, 40],
    [50, 90, 70, 0],
    [15, 25, 35, 45],
]


def edited(edit: Edit, image: list[list[int]]) -> list[list[int]]:
    return edit(np.array(image, np.uint8)[None, :, :, None])[0, :, :, 0].tolist()


def random_images(count: int, side: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def test_dilation_is_the_maximum_of_three_by_three() -> None:
    assert edited(dilate, IMAGE) == [
        [90, 90, 90, 70],
        [90, 90, 90, 70],
        [90, 90, 90, 70],
    ]


def test_erosion_is_the_minimum_of_a_pixel_and_those_above_and_to_the_left() -> None:
    assert edited(erode, IMAGE) == [
        [10, 10, 20, 30],
        [10, 10, 20, 0],
        [15, 15, 25, 0],
    ]


def test_the_gradient_is_maximum_less_minimum_of_the_same_pixels() -> None:
    assert edited(gradient, IMAGE) == [
        [0, 10, 10, 10],
        [40, 80, 70, 70],
        [35, 75, 65, 70],
    ]


def test_pixels_outside_count_for_nothing() -> None:
    assert edited(dilate, [[3]]) == [[3]]
    assert edited(erode, [[3]]) == [[3]]
    assert edited(gradient, [[3, 3], [3, 3]]) == [[0, 0], [0, 0]]


def test_sharpening_weighs_a_pixel_against_its_neighbours_mirrored_at_the_border() -> None:
    # In the middle 3 * 90 - (10 + 20 + 30 + 50 + 70 + 15 + 25 + 35) / 4 = 206.25. At the upper left, mirrored:
    # 30 - (90 + 50 + 90 + 20 + 20 + 90 + 50 + 90) / 4 < 0. At the lower right 135 - 4 * 70 / 4 - 2 * 35 / 4 - 0 = 47.5,
    # and halves go to even numbers.
    found = edited(sharpen, IMAGE)
    assert (found[1][1], found[0][0], found[2][3]) == (206, 0, 48)
    assert edited(sharpen, [[0, 0, 0], [0, 100, 0], [0, 0, 0]])[1][1] == 255
    assert edited(sharpen, [[7] * 3] * 3) == [[7] * 3] * 3


@pytest.mark.parametrize("name", ["dilate", "erode", "gradient", "sharpen"])
def test_images_and_channels_are_edited_one_by_one(name: str) -> None:
    images = random_images(3, 6, 3)
    alone = EDITS[name](images[1:2, :, :, 2:])
    np.testing.assert_array_equal(EDITS[name](images)[1:2, :, :, 2:], alone)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((0, 0, 0), (0, 128, 128)),
        ((255, 255, 255), (255, 128, 128)),
        ((255, 0, 0), (136, 208, 195)),
        ((0, 255, 0), (224, 42, 211)),
        ((0, 0, 255), (82, 207, 20)),
        ((128, 128, 128), (137, 128, 128)),
    ],
)
def test_colours_have_their_known_places(rgb: tuple[int, ...], lab: tuple[int, ...]) -> None:
    assert to_lab(np.array([rgb], np.uint8))[0].tolist() == list(lab)


def test_colours_come_back() -> None:
    colours = random_images(1, 40, 3)
    # Eight bits of L, a and b tell fewer colours apart than eight of red, green and blue, saturated ones above all.
    difference = np.abs(from_lab(to_lab(colours)).astype(int) - colours)
    assert difference.mean() < 0.7
    assert np.quantile(difference, 0.99) <= 6  # As much as by OpenCV, whose integers this computes with.
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    assert np.abs(from_lab(to_lab(greys)).astype(int) - greys).max() <= 1


@pytest.mark.parametrize(("level", "wanted"), [(84, 128), (100, 191), (200, 255)])
def test_a_clipped_histogram_gives_a_table_worked_out_by_hand(level: int, wanted: int) -> None:
    # Tiles of 2 x 2 pixels, at most one per level: of four equal ones three are dealt out, to the levels 0, 85 and 170.
    # Up to level 84 there are two of four, 127.5; up to 100 three, 191.25; up to 200 all.
    assert (equalise(np.full((1, 6, 6), level, np.uint8), tiles=3, clip=1.0) == wanted).all()


def test_what_is_cut_off_is_dealt_out_evenly_first() -> None:
    # Tiles of 20 x 20 pixels, at most one per level: 399 are left of 400 equal ones, one for every level, and 143 more
    # for the levels 0..142, so that up to level 9 there are 20, and behind 142 one for each.
    found = equalise(np.full((1, 60, 60), 9, np.uint8), tiles=3, clip=1.0)
    assert (found == round(21 * 255 / 400)).all()
    found = equalise(np.full((1, 60, 60), 200, np.uint8), tiles=3, clip=1.0)
    assert (found == round((2 * 143 + 58 + 1) * 255 / 400)).all()


def test_the_limit_grows_with_the_tile() -> None:
    # 40 x 40 pixels and clip 1 allow 6.25 per level, rounded down: 1594 of 1600 equal ones are dealt out, six to every
    # level and 58 more to every fourth one from level 0 on.
    found = equalise(np.full((1, 120, 120), 10, np.uint8), tiles=3, clip=1.0)
    assert (found == round((11 * 6 + 3 + 6) * 255 / 1600)).all()


def test_tables_are_interpolated_between_the_centres_of_tiles() -> None:
    # Tiles of one pixel: a table is 255 from its pixel's level on, and a pixel lies halfway between four centres.
    levels = np.array([[[10, 20, 30], [40, 15, 60], [70, 80, 5]]], np.uint8)
    assert equalise(levels, tiles=3, clip=1.0)[0].tolist() == [
        [255, 255, 255],
        [255, 128, 255],
        [255, 255, 64],
    ]


def test_sides_that_are_no_multiple_of_the_tiles_are_extended() -> None:
    # 3 x 4 becomes 6 x 6, the side of three by one more pixel per tile: tiles of 2 x 2, as above.
    assert (equalise(np.full((1, 3, 4), 100, np.uint8), tiles=3, clip=1.0) == 191).all()


def test_sides_are_extended_by_reflection_without_the_last_pixel() -> None:
    # Behind the column of 100 comes that of 250 again: its tile has two of each, of which 100 and level 0 count up to
    # level 100, as two zeros do in the tile before.
    columns = np.tile(np.array([0, 0, 0, 250, 100], np.uint8), (1, 5, 1))
    assert equalise(columns, tiles=3, clip=1.0)[0, :, 4].tolist() == [128] * 5


def test_an_image_of_a_tile_each_way_is_equalised_as_a_whole() -> None:
    levels = random_images(2, 16, 1)[..., 0] // 4
    spread_out = equalise(levels, tiles=1, clip=256.0)
    for before, after in zip(levels, spread_out, strict=True):
        ranks = [np.count_nonzero(before <= level) for level in before.ravel().tolist()]
        np.testing.assert_array_equal(after.ravel(), np.rint(np.array(ranks, np.float32) * np.float32(255 / 256)))


def test_contrast_takes_red_for_blue() -> None:
    images = random_images(2, 32, 3) // 2
    found = contrast(images)
    lab = to_lab(images[..., ::-1])
    lab[..., 0] = equalise(lab[..., 0], tiles=3, clip=1.0)
    np.testing.assert_array_equal(found[..., ::-1], from_lab(lab))
    # Blue is darker than red: read rightly, other lightnesses would be spread out.
    rightly = to_lab(images)
    rightly[..., 0] = equalise(rightly[..., 0], tiles=3, clip=1.0)
    assert (found != from_lab(rightly)).mean() > 0.5


def test_contrast_spreads_lightness_and_keeps_hues() -> None:
    dull = 100 + random_images(4, 32, 3) // 8
    found = contrast(dull)
    assert found.shape == dull.shape
    assert to_lab(found)[..., 0].std() > 1.5 * to_lab(dull)[..., 0].std()
    greys = np.repeat(dull[..., :1], 3, axis=-1)
    assert np.ptp(contrast(greys).astype(int), axis=-1).max() <= 1


def test_contrast_is_for_coloured_images() -> None:
    check_channels("contrast", 3)
    check_channels("dilate", 1)
    with pytest.raises(UsageError, match="contrast edits coloured images, these have 1 channels"):
        check_channels("contrast", 1)
