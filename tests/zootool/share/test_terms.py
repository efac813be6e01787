from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zootool.share.small_zoos import DIGITS, contents, write_zoo
from tests.zootool.store.small_stores import random_block
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture
from zootool.share.publish import publish
from zootool.share.terms import GivenTerms, settle_terms
from zootool.store import write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import ImageSource, Segment, ZooInfo
from zootool.zoo import open_zoo, verify

HERE = {"tool": "zootool"}


def test_a_licence_given_makes_a_version_with_a_parent(tmp_path: Path) -> None:
    zoo_id = write_zoo(tmp_path / "x.zoo", licence=None)
    before = contents(tmp_path / "x.zoo")
    plan = publish(tmp_path / "x.zoo", str(tmp_path / "out"), GivenTerms(licence="CC0-1.0"))
    published = open_zoo(tmp_path / "out")
    assert (published.info.licence, published.info.parent, published.id) == ("CC0-1.0", zoo_id, plan.zoo_id)
    assert plan.is_new_version
    assert verify(tmp_path / "out", "deep").passed
    assert contents(tmp_path / "x.zoo") == before
    assert publish(tmp_path / "x.zoo", str(tmp_path / "out"), GivenTerms(licence="CC0-1.0")).is_done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.zoo"]


def test_terms_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    mine = ImageSource("my-pictures", shape=(8, 8, 1))
    write_zoo(tmp_path / "built.zoo", licence=None, sources=(mine,))
    write_zoo(tmp_path / "collected.zoo", licence="unknown, see the page", tool=None)
    with pytest.raises(UsageError, match=r"my-pictures.*--source-terms"):
        publish(tmp_path / "built.zoo", str(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"collected elsewhere.*--licence"):
        publish(tmp_path / "collected.zoo", str(tmp_path / "out"))
    publish(tmp_path / "built.zoo", str(tmp_path / "out"), GivenTerms(source_terms="my own"))
    assert open_zoo(tmp_path / "out").info.licence == "CC-BY-4.0"
    assert open_zoo(tmp_path / "out").info.sources[0].terms == "my own"
    with pytest.raises(UsageError, match=r"is under CC-BY-4\.0, not MIT"):
        publish(tmp_path / "out", str(tmp_path / "other"), GivenTerms(licence="MIT"))


def test_images_that_may_not_be_passed_on_are_refused(tmp_path: Path) -> None:
    for name, source in (("yes", DIGITS), ("no", ImageSource("cifar10", terms="none stated"))):
        info = SourceInfo(name, sources=(source,), licence="MIT")
        block = random_block(siren_architecture(2, (3,), 1), 4)
        images = lambda keys: np.zeros((len(keys), 2, 2, 1), np.uint8)  # noqa: E731
        write_store(tmp_path / f"{name}.zoo", MemorySource(info, (block,)), images=images)
    publish(tmp_path / "yes.zoo", str(tmp_path / "out"))
    with pytest.raises(UsageError, match="cifar10, whose terms don't allow"):
        publish(tmp_path / "no.zoo", str(tmp_path / "other"))


def info_with(provenance: dict[str, Any], *sources: ImageSource) -> ZooInfo:
    return ZooInfo(name="x", num_networks=1, segments=(Segment("0" * 16, 1),), sources=sources, provenance=provenance)


@pytest.mark.parametrize(
    ("provenance", "is_ours"),
    [
        (HERE, True),
        (HERE | {"subset_of": {"name": "whole"}}, True),
        (HERE | {"appended": [{"provenance": HERE}]}, True),
        (HERE | {"appended": [{"provenance": {"format": "nft"}}]}, False),
        ({"merged": [{"provenance": HERE}, {"provenance": HERE}]}, True),
        ({"merged": [{"provenance": HERE}, {"provenance": {"format": "nft"}}]}, False),
        ({"format": "nft"}, False),
        (HERE | {"appended": [5]}, False),
        (HERE | {"merged": [7]}, False),
        ({}, False),
    ],
)
def test_only_what_was_built_here_has_a_licence_by_itself(provenance: dict[str, Any], is_ours: bool) -> None:
    info = info_with(provenance, DIGITS)
    if is_ours:
        assert settle_terms(info, GivenTerms()).licence == "CC-BY-4.0"
    else:
        with pytest.raises(UsageError, match=r"collected elsewhere.*--licence"):
            settle_terms(info, GivenTerms())


def test_terms_come_from_the_catalog_and_cant_be_given_against_it() -> None:
    cifar = info_with(HERE, ImageSource("cifar10"))
    assert settle_terms(cifar, GivenTerms()).sources[0].terms == "none stated; cite Krizhevsky 2009"
    with pytest.raises(UsageError, match=r"are under none stated; cite Krizhevsky 2009.*without --source-terms"):
        settle_terms(cifar, GivenTerms(source_terms="CC0-1.0"))
    both = info_with(HERE, ImageSource("cifar10"), ImageSource("mine"))
    assert [source.terms for source in settle_terms(both, GivenTerms(source_terms="my own")).sources] == [
        "none stated; cite Krizhevsky 2009",
        "my own",
    ]


def test_a_zoo_without_images_states_terms_too() -> None:
    with pytest.raises(UsageError, match=r"which images its networks come from.*--source-terms"):
        settle_terms(info_with(HERE), GivenTerms())
    settled = settle_terms(info_with(HERE), GivenTerms(source_terms="my own"))
    assert settled.provenance["source_terms"] == "my own"
    with pytest.raises(UsageError, match="are under my own"):
        settle_terms(settled, GivenTerms(source_terms="CC0-1.0"))


@pytest.mark.parametrize("text", ["two\nlines", "ends\n", "\x1b[31mred", "<b>", ""])
def test_terms_are_a_line_of_plain_text(text: str) -> None:
    for given in (GivenTerms(licence=text), GivenTerms(source_terms=text)):
        with pytest.raises(UsageError, match="line of plain text"):
            settle_terms(info_with(HERE, DIGITS), given)
