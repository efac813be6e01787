"""Options and arguments that several commands have, declared once."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

StoreArgument = Annotated[str, typer.Argument(help="A store's folder or URL.")]
NewStoreArgument = Annotated[Path, typer.Argument(help="The store to write, NAME.zoo.")]
NewNameOption = Annotated[str | None, typer.Option(help="The new zoo's name; by default the destination's.")]
ModelOption = Annotated[Path, typer.Option(help="The folder of a trained run.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as Typer reads it: in the place of a parameter whose type is a dataclass, options for its fields."""
    declared = signature(command).parameters.values()
    groups = {parameter.name: parameter.annotation for parameter in declared if is_dataclass(parameter.annotation)}

    @wraps(command)
    def ungrouped(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    options: list[Parameter] = []
    for parameter in declared:
        if parameter.name not in groups:
            options.append(parameter)
            continue
        for field in fields(groups[parameter.name]):
            option = Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
            options.append(option)
    ungrouped.__signature__ = signature(command).replace(parameters=options)  # type: ignore[missing-attribute]
    return ungrouped
