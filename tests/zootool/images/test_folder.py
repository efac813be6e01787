import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zootool.errors import FormatError, MissingError, UntrustedError, UsageError
from zootool.images import Images, load_images
from zootool.images.folder import parse_folder_source


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(path, **options)


def some_pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def a_class_folder(folder: Path) -> dict[str, np.ndarray]:
    pictures = {f"{label}/{i}.png": some_pixels(i, 6, 6, 3) for label in ("cat", "dog") for i in range(2)}
    for name, pixels in pictures.items():
        save(folder / name, pixels)
    return pictures


def folder_images(folder: Path, options: str = "") -> Images:
    return load_images(f"folder:{folder}{options}")


def test_class_folders_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    pictures = a_class_folder(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    images = folder_images(tmp_path / "pets")
    assert np.array_equal(images.pixels, np.stack([pictures[name] for name in sorted(pictures)]))
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.class_names == ("cat", "dog")
    assert images.source_index.tolist() == [0, 1, 2, 3]
    assert not images.is_partial


def test_the_name_says_what_was_asked_for_but_not_where_it_lies(tmp_path: Path) -> None:
    a_class_folder(tmp_path / "pets")
    assert folder_images(tmp_path / "pets").name == "folder:pets"
    assert folder_images(tmp_path / "pets", "?grey=1&size=4").name == "folder:pets?size=4&grey=1"


def test_a_relative_path_is_looked_for_in_the_data_folders_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_class_folder(tmp_path / "data" / "pets")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    assert len(load_images("folder:pets")) == 4
    with pytest.raises(MissingError, match="no folder 'birds'; searched"):
        load_images("folder:birds")


def test_every_tenth_image_of_a_class_goes_to_validation_and_to_test(tmp_path: Path) -> None:
    for label, count in (("a", 20), ("b", 9)):
        for i in range(count):
            save(tmp_path / label / f"{i:02}.png", some_pixels(i, 2, 2))
    images = folder_images(tmp_path)
    ten = ["train"] * 8 + ["validation", "test"]
    assert images.split.tolist() == [*ten, *ten, *ten[:9]]


def test_split_folders_give_the_splits(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for label in ("a", "b"):
            save(tmp_path / split / label / "0.png", some_pixels(0, 2, 2))
    images = folder_images(tmp_path)
    assert images.split.tolist() == ["test", "test", "train", "train", "validation", "validation"]
    assert images.class_names == ("a", "b")


def test_a_table_gives_order_labels_and_splits(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "all" / f"{i}.png", some_pixels(i, 2, 2))
    (tmp_path / "labels.csv").write_text("file,label,split\nall/2.png,x,test\nall/0.png,y,\nall/1.png,x,train\n")
    images = folder_images(tmp_path)
    assert np.array_equal(images.pixels[..., 0], np.stack([some_pixels(i, 2, 2) for i in (2, 0, 1)]))
    assert images.labels.tolist() == [0, 1, 0]
    assert images.split.tolist() == ["test", "", "train"]


@pytest.mark.parametrize(
    ("table", "kind", "problem"),
    [
        ("file,lable\na.png,x\n", FormatError, "unknown column 'lable'.*did you mean 'label'"),
        ("file\na.png\n", FormatError, "lacks the column 'label'"),
        ("", FormatError, "lacks the column 'file'"),
        ("file,label\n", FormatError, "holds no images"),
        ("file,label\na.png\n", FormatError, "line 2 must be a file, a label"),
        ("file,label\na.png,x,train\n", FormatError, "line 2 must be a file, a label"),
        ("file,label\n../a.png,x\n", FormatError, "line 2: '../a.png' is outside the folder"),
        ("file,label\n/a.png,x\n", FormatError, "outside the folder"),
        ("file,label\na.png,x\nb.png,y\n", MissingError, r"line 3: there is no image .*b\.png"),
        ("file,label\na.png,x\na.png,y\n", FormatError, r"names .*a\.png more than once"),
        ("file,label\na.png,x\n", FormatError, "all images of .* are of the class 'x'"),
        ("file,label,split\na.png,x,tset\n", FormatError, "unknown split 'tset'.*'test'"),
        ("file,label\na.png,\xff\n", FormatError, "is not readable"),
        ('file,label\na.png,"x\n', FormatError, "is not readable"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, table: str, kind: type[Exception], problem: str
) -> None:
    save(tmp_path / "a.png", some_pixels(0, 2, 2))
    (tmp_path / "labels.csv").write_bytes(table.encode("latin1"))
    with pytest.raises(kind, match=problem):
        folder_images(tmp_path)


def test_the_middle_square_is_scaled_to_the_shortest_side(tmp_path: Path) -> None:
    wide, tall = some_pixels(0, 8, 14, 3), some_pixels(1, 9, 5, 3)
    save(tmp_path / "a" / "wide.png", wide)
    save(tmp_path / "b" / "tall.png", tall)
    images = folder_images(tmp_path)
    square = Image.fromarray(wide[:, 3:11])
    assert np.array_equal(images.pixels[0], np.asarray(square.resize((5, 5), Image.Resampling.LANCZOS)))
    assert np.array_equal(images.pixels[1], tall[2:7])


@pytest.mark.parametrize(
    ("options", "shape"),
    [("", (6, 6, 3)), ("?size=3", (3, 3, 3)), ("?grey=1", (6, 6, 1)), ("?size=12&grey=0", (12, 12, 3))],
)
def test_size_and_grey_are_options(tmp_path: Path, options: str, shape: tuple[int, ...]) -> None:
    a_class_folder(tmp_path)
    assert folder_images(tmp_path, options).shape == shape


def test_grey_images_have_one_channel_unless_colour_is_asked_for(tmp_path: Path) -> None:
    pixels = some_pixels(0, 4, 4)
    save(tmp_path / "a" / "0.png", pixels)
    save(tmp_path / "b" / "0.jpg", some_pixels(1, 4, 4), quality=90)
    assert folder_images(tmp_path).shape == (4, 4, 1)
    colour = folder_images(tmp_path, "?grey=0")
    assert np.array_equal(colour.pixels[0], np.repeat(pixels[..., None], 3, axis=2))


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    pixels = some_pixels(0, 4, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a" / "0.png", pixels, exif=exif)
    save(tmp_path / "b" / "0.png", pixels)
    images = folder_images(tmp_path)
    assert np.array_equal(images.pixels[0, ..., 0], np.rot90(pixels, -1))
    assert np.array_equal(images.pixels[1, ..., 0], pixels)


def a_png(width: int, height: int, bit_depth: int = 8) -> bytes:
    """A PNG whose header claims this size and whose data is empty."""
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, bit_depth, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("width", "height"), [(8200, 8200), (10_000, 10_000), (50_000, 50_000)])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, width: int, height: int) -> None:
    a_class_folder(tmp_path)
    (tmp_path / "cat" / "bomb.png").write_bytes(a_png(width, height))
    for options in ("", "?size=4&grey=1"):
        with pytest.raises(UntrustedError, match=r"bomb\.png unpacks to more than 67108864 pixels"):
            folder_images(tmp_path, options)


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", a_png(6, 6), a_png(6, 6)[:20], b"GIF89a" + bytes(100), b"\xff\xd8\xff\xe0" + bytes(100)],
)
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes) -> None:
    a_class_folder(tmp_path)
    (tmp_path / "dog" / "bad.png").write_bytes(content)
    for options in ("", "?size=4&grey=1"):
        with pytest.raises(FormatError, match=r"bad\.png is not a readable PNG or JPEG"):
            folder_images(tmp_path, options)


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    a_class_folder(tmp_path)
    Image.fromarray(np.full((6, 6), 40_000, np.uint16)).save(tmp_path / "cat" / "deep.png")
    with pytest.raises(FormatError, match=r"deep\.png has pixels of the kind I;16"):
        folder_images(tmp_path)


def test_a_folder_without_images_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"holds no images.*a folder of PNG or JPEG files per class"):
        folder_images(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("folder:", "names no folder"),
        ("folder:x?sise=3", "unknown option 'sise'.*did you mean 'size'"),
        ("folder:x?size=0", "size=0 must be"),
        ("folder:x?size=1025", "size=1025 must be"),
        ("folder:x?size=-3", "size=-3 must be"),
        ("folder:x?size=\u00b2", "must be 1..1024"),
        ("folder:x?size=", "size= must be"),
        ("folder:x?grey=yes", "grey=yes must be 0 or 1"),
    ],
)
def test_a_wrong_option_is_a_usage_error(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_folder_source(text)
