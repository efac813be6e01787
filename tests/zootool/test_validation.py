from pathlib import Path

import pytest
from pydantic import Field

from zootool.errors import FormatError, UsageError
from zootool.validation import Entry, read_yaml, validate


class Wheel(Entry):
    size: int
    colour: str = "black"


class Car(Entry):
    wheels: tuple[Wheel, ...]
    spare: Wheel | None = None
    extras: dict[str, Wheel] = Field(default_factory=dict)


def test_every_problem_is_told_at_once_with_its_place() -> None:
    raw = {"wheels": [{"size": "big"}, {"size": 1, "color": "red"}], "whels": 1, "spare": {"siez": 2}}
    with pytest.raises(FormatError) as caught:
        validate(Car, raw, "car.yaml")
    text = caught.value.message
    assert text.startswith("car.yaml has 5 problems:")
    assert "wheels.0.size: Input should be a valid integer" in text
    assert "got 'big'" in text
    assert "wheels.1.color: unknown key, did you mean 'colour'?" in text
    assert "whels: unknown key, did you mean 'wheels'?" in text
    assert "spare.size: is missing" in text
    assert "spare.siez: unknown key, did you mean 'size'?" in text


def test_keys_inside_a_mapping_of_models_are_known() -> None:
    with pytest.raises(UsageError, match=r"extras\.jack\.sise: unknown key, did you mean 'size'\?"):
        validate(Car, {"wheels": [], "extras": {"jack": {"size": 1, "sise": 1}}}, "car", UsageError)


def test_a_valid_value_becomes_the_model() -> None:
    assert validate(Car, {"wheels": [{"size": 1}]}, "car").wheels == (Wheel(size=1),)


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: {c: 1, c: 2}\n")
    with pytest.raises(FormatError, match="'c' is given twice"):
        read_yaml(path)


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\xfa", b"!!python/object/apply:os.getcwd []", b"? [1]\n: 2\n"])
def test_a_broken_yaml_is_a_format_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.yaml is not readable YAML"):
        read_yaml(path)


def test_broken_yaml_is_named_with_its_place_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [1,\nb: }\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"found '}' in line 2, column 4: correct the file$") as raised:
        read_yaml(path)
    assert "\\n" not in str(raised.value)
