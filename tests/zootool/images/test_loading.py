import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zootool.images.published_sets import (
    a_catalog,
    an_entry,
    cifar_records,
    colour_form,
    colour_members,
    colour_pixels,
    grey_form,
    grey_pixels,
    gzipped,
    idx_bytes,
    some_labels,
    write_files,
    write_tar,
)
from zootool.errors import FormatError, IntegrityError, MissingError, UntrustedError, UsageError
from zootool.images import load_images

COLOUR = a_catalog(tiny=an_entry(colour_form(), (32, 32, 3)))
GREY = a_catalog(tiny=an_entry(grey_form(), (5, 4, 1)))
GREY_FILES = {
    "grey/train-images": idx_bytes(grey_pixels()[:20, ..., 0]),
    "grey/train-labels": idx_bytes(some_labels()[:20]),
    "grey/test-images": idx_bytes(grey_pixels()[20:, ..., 0]),
    "grey/test-labels": idx_bytes(some_labels()[20:]),
}


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-cache"))


def without(members: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {path: content for path, content in members.items() if path not in names}


def is_whole(images: Any, pixels: np.ndarray) -> bool:
    return (
        np.array_equal(images.pixels, pixels)
        and np.array_equal(images.labels, some_labels())
        and np.array_equal(images.source_index, np.arange(30))
        and images.split.tolist() == ["train"] * 15 + ["validation"] * 5 + ["test"] * 10
        and not images.is_partial
    )


def test_an_unpacked_set_is_read_with_its_splits(tmp_path: Path) -> None:
    write_files(tmp_path, colour_members())
    images = load_images("tiny", data_dir=tmp_path, catalog=COLOUR)
    assert is_whole(images, colour_pixels())
    assert images.source_terms == "made up"
    assert images.name == "tiny"


def test_a_set_is_read_straight_from_its_archive_and_nothing_is_written(tmp_path: Path) -> None:
    write_tar(tmp_path / "tiny.tar.gz", {"../evil": b"x", "tiny/readme.html": b"x", **colour_members()})
    md5 = hashlib.md5((tmp_path / "tiny.tar.gz").read_bytes()).hexdigest()
    form = colour_form(files=[{"path": "tiny.tar.gz", "md5": md5}])
    catalog = a_catalog(tiny=an_entry(form, (32, 32, 3)))
    assert is_whole(load_images("tiny", data_dir=tmp_path, catalog=catalog), colour_pixels())
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.tar.gz"]


def test_an_archive_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "tiny.tar.gz", colour_members())
    with pytest.raises(IntegrityError, match=r"tiny\.tar\.gz has md5 \w{32}, the published file has 0{32}"):
        load_images("tiny", data_dir=tmp_path, catalog=COLOUR)


def test_idx_files_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    write_files(tmp_path / "plain", GREY_FILES)
    write_files(tmp_path / "packed", gzipped(GREY_FILES))
    plain = load_images("tiny", data_dir=tmp_path / "plain", catalog=GREY)
    packed = load_images("tiny", data_dir=tmp_path / "packed", catalog=GREY)
    assert is_whole(plain, grey_pixels())
    assert is_whole(packed, grey_pixels())
    assert plain.digest == packed.digest


def test_the_form_that_is_complete_is_preferred(tmp_path: Path) -> None:
    key = {"path": "pickled/all", "start": 0, "count": 30}
    entry = an_entry(colour_form(), (32, 32, 3))
    entry["num_train"], entry["num_test"] = 30, 0
    entry["forms"].append({"format": "cifar10-pickle", "parts": [key]})
    data = colour_pixels().transpose(0, 3, 1, 2).reshape(30, -1)
    batch = pickle.dumps({b"data": np.ascontiguousarray(data), b"labels": some_labels().tolist()}, 2)
    write_files(tmp_path, {**without(colour_members(), "tiny/test.bin"), "pickled/all": batch})
    images = load_images("tiny", data_dir=tmp_path, catalog=a_catalog(tiny=entry), partial=True)
    assert is_whole(images, colour_pixels())


def test_a_hostile_pickle_in_the_folder_is_untrusted(tmp_path: Path) -> None:
    form = {"format": "cifar10-pickle", "parts": [{"path": "batch", "start": 0, "count": 30}]}
    entry = an_entry(form, (32, 32, 3), num_train=30, num_test=0)
    write_files(tmp_path, {"batch": b"cos\nsystem\n(S'touch ran'\ntR."})
    with pytest.raises(UntrustedError, match=r"os\.system"):
        load_images("tiny", data_dir=tmp_path, catalog=a_catalog(tiny=entry))


def test_other_splits_are_chosen_by_name(tmp_path: Path) -> None:
    write_files(tmp_path, GREY_FILES)
    images = load_images("tiny", data_dir=tmp_path, catalog=GREY, splits="rest")
    assert images.split.tolist() == ["train"] * 10 + ["validation"] * 2 + ["test"] * 18
    with pytest.raises(UsageError, match=r"no splits called 'rset'.*did you mean 'rest'"):
        load_images("tiny", data_dir=tmp_path, catalog=GREY, splits="rset")


def test_a_prefix_keeps_the_full_sets_indices_and_makes_a_validation_split(tmp_path: Path) -> None:
    members = colour_members()
    write_files(
        tmp_path,
        {"tiny/batch_1.bin": members["tiny/batch_1.bin"], "tiny/test.bin": members["tiny/test.bin"][: 4 * 3073]},
    )
    images = load_images("tiny", data_dir=tmp_path, catalog=COLOUR, partial=True)
    kept = [*range(10), *range(20, 24)]
    assert images.is_partial
    assert images.source_index.tolist() == kept
    assert np.array_equal(images.pixels, colour_pixels()[kept])
    assert images.labels.tolist() == some_labels()[kept].tolist()
    assert images.split.tolist() == ["train"] * 9 + ["validation"] + ["test"] * 4


def test_a_prefix_is_accepted_under_zoo_data_alone_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_files(tmp_path, without(colour_members(), "tiny/batch_2.bin"))
    with pytest.raises(MissingError, match=r"(?s)is incomplete, it lacks tiny/batch_2\.bin.*--partial"):
        load_images("tiny", data_dir=tmp_path, catalog=COLOUR)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert load_images("tiny", catalog=COLOUR).is_partial
    with pytest.raises(MissingError, match="is incomplete"):
        load_images("tiny", catalog=COLOUR, partial=False)


def test_whole_records_that_are_too_few_are_named_as_such(tmp_path: Path) -> None:
    members = colour_members()
    write_files(tmp_path, {**members, "tiny/test.bin": members["tiny/test.bin"][:-3073]})
    with pytest.raises(IntegrityError, match=r"holds 29 of its 30 images.*--partial"):
        load_images("tiny", data_dir=tmp_path, catalog=COLOUR)
    assert load_images("tiny", data_dir=tmp_path, catalog=COLOUR, partial=True).is_partial


def test_a_part_of_a_record_is_never_accepted(tmp_path: Path) -> None:
    members = colour_members()
    write_files(tmp_path, {**members, "tiny/test.bin": members["tiny/test.bin"][:-1]})
    with pytest.raises(FormatError, match=r"test\.bin has 30729 bytes, which is 9 records"):
        load_images("tiny", data_dir=tmp_path, catalog=COLOUR, partial=True)


def test_a_partial_set_has_no_gaps(tmp_path: Path) -> None:
    write_files(tmp_path, without(colour_members(), "tiny/batch_1.bin"))
    with pytest.raises(IntegrityError, match="image 0 is missing, later ones are there"):
        load_images("tiny", data_dir=tmp_path, catalog=COLOUR, partial=True)


def test_a_folder_that_has_nothing_does_not_hide_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_files(tmp_path / "cache" / "zootool", GREY_FILES)
    assert is_whole(load_images("tiny", data_dir=tmp_path, catalog=GREY), grey_pixels())


def test_a_missing_set_says_which_files_from_where_with_which_checksum_into_which_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        load_images("tiny", data_dir=tmp_path, catalog=COLOUR)
    assert caught.value.exit_code == 4
    for part in ("tiny.tar.gz", "https://example.org/tiny.tar.gz", "MD5 " + "0" * 32, str(tmp_path), "no-cache"):
        assert part in caught.value.message
    assert str(tmp_path) in (caught.value.hint or "")


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"unknown image set 'cifar-10'.*'cifar10'"):
        load_images("cifar-10")


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(np.full(10, 10), r"labels 10\.\.10, Tiny has 0\.\.9"), (np.arange(10) * 20, r"labels 0\.\.180")],
)
def test_labels_out_of_range_are_a_format_error(tmp_path: Path, labels: np.ndarray, problem: str) -> None:
    write_files(tmp_path, {**colour_members(), "tiny/test.bin": cifar_records(colour_pixels()[20:], labels)})
    with pytest.raises(FormatError, match=rf"test\.bin has {problem}"):
        load_images("tiny", data_dir=tmp_path, catalog=COLOUR)


def test_images_of_another_shape_or_too_many_are_a_format_error(tmp_path: Path) -> None:
    write_files(tmp_path, {**GREY_FILES, "grey/test-images": idx_bytes(np.zeros((10, 4, 5)))})
    with pytest.raises(FormatError, match=r"shape \(4, 5, 1\), Tiny \(5, 4, 1\)"):
        load_images("tiny", data_dir=tmp_path, catalog=GREY)
    many = {"grey/test-images": idx_bytes(np.zeros((11, 5, 4))), "grey/test-labels": idx_bytes(np.zeros(11))}
    write_files(tmp_path, many)
    with pytest.raises(FormatError, match="holds 11 images, 10 were published"):
        load_images("tiny", data_dir=tmp_path, catalog=GREY)


def test_a_changed_pixel_is_found_where_the_digest_is_known(tmp_path: Path) -> None:
    form = grey_form()
    form["parts"][0]["sha256"] = hashlib.sha256(GREY_FILES["grey/train-images"]).hexdigest()
    form["parts"][0]["labels_sha256"] = hashlib.sha256(GREY_FILES["grey/train-labels"]).hexdigest()
    catalog = a_catalog(tiny=an_entry(form, (5, 4, 1)))
    write_files(tmp_path, GREY_FILES)
    assert is_whole(load_images("tiny", data_dir=tmp_path, catalog=catalog), grey_pixels())
    for name in ("grey/train-images", "grey/train-labels"):
        changed = bytearray(GREY_FILES[name])
        changed[-1] ^= 1
        write_files(tmp_path, {**GREY_FILES, name: bytes(changed)})
        with pytest.raises(IntegrityError, match="train-images has sha256"):
            load_images("tiny", data_dir=tmp_path, catalog=catalog)


def test_download_fetches_what_is_not_there(tmp_path: Path) -> None:
    write_tar(tmp_path / "publisher" / "tiny.tar.gz", colour_members())
    content = (tmp_path / "publisher" / "tiny.tar.gz").read_bytes()
    file = {
        "path": "tiny.tar.gz",
        "urls": [(tmp_path / "publisher" / "tiny.tar.gz").as_uri()],
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    catalog = a_catalog(tiny=an_entry(colour_form(files=[file]), (32, 32, 3)))
    images = load_images("tiny", data_dir=tmp_path / "mine", catalog=catalog, download=True)
    assert is_whole(images, colour_pixels())
    assert (tmp_path / "mine" / "tiny.tar.gz").read_bytes() == content
