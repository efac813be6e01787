"""Hand-written YAML into pydantic models: every problem at once, each with its place and a did-you-mean."""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from zootool.errors import FormatError, ZooError, did_you_mean, printable, quoted

Model = TypeVar("Model", bound=BaseModel)

_MAX_YAML_BYTES = 4 << 20
"""YAML is read at about a megabyte in some seconds."""


class Entry(BaseModel):
    """Base of what people write by hand: immutable, and a key that it doesn't know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file.

    Raises FormatError for a broken or very large file, or a key that is given twice.
    """
    if path.stat().st_size > _MAX_YAML_BYTES:
        raise FormatError(
            f"{path} has {path.stat().st_size} bytes, at most {_MAX_YAML_BYTES} are read as YAML",
            hint="correct the file",
        )
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{path} is not readable YAML: {yaml_problem(error)}", hint="correct the file") from error


def yaml_problem(error: Exception) -> str:
    """What is wrong with a YAML text, and in which line and column, as one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return printable(" ".join(problem.split()), 300) + place


def validate(model: type[Model], value: Any, where: str, error_kind: type[ZooError] = FormatError) -> Model:
    """`value` as a `model`; raises one `error_kind` that lists every problem below `where`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [_describe(model, problem) for problem in error.errors(include_url=False)]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise error_kind(
            f"{where} has {count}:\n  " + "\n  ".join(problems), hint="correct them and run it again"
        ) from error


def _describe(model: type[BaseModel], problem: Any) -> str:
    place = ".".join(printable(step, 60) for step in problem["loc"]) or "the whole"
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key, {did_you_mean(str(problem['loc'][-1]), _known_keys(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{place}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}, got {quoted(problem['input'], 80)}"


def _known_keys(model: type[BaseModel], steps: Iterable[int | str]) -> list[str]:
    """The keys of the model at the end of `steps`, which name fields, mapping keys and list positions."""
    current: Any = model
    for step in steps:
        inner = _model_within(current)
        # What isn't a field is a mapping's key or a list's position, and the model within stays the one in question.
        current = inner.model_fields[step].annotation if inner and step in inner.model_fields else inner
    found = _model_within(current)
    return list(found.model_fields) if found is not None else []


def _model_within(annotation: Any) -> type[BaseModel] | None:
    """The first model in a type such as `dict[str, tuple[Model, ...]]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_within(argument))), None)


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML, but a mapping that names a key twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)
