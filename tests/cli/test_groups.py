from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from cli.build import Request, Workforce
from cli.groups import with_groups


@pytest.mark.parametrize(
    ("words", "workforce", "request_", "runs"),
    [
        ([], Workforce(), Request(), 3),
        (
            ["--engine", "ray", "--workers", "7", "--address", "head:1", "--unit", "1/4", "--runs", "5", "--json"],
            Workforce("ray", 7, "head:1"),
            Request(unit="1/4", as_json=True),
            5,
        ),
        (["--plan", "--partial", "--download"], Workforce(), Request(plan=True, partial=True, download=True), 3),
        (["--status", "--no-download"], Workforce(), Request(status=True), 3),
    ],
)
def test_groups_of_options_arrive_whole_beside_other_options(
    words: list[str], workforce: Workforce, request_: Request, runs: int
) -> None:
    seen: list[Any] = []
    app = typer.Typer()

    @app.command()
    @with_groups
    def build(*, workforce: Workforce, runs: Annotated[int, typer.Option()] = 3, request: Request) -> None:
        """Build something."""
        seen.extend((workforce, runs, request))

    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert seen == [workforce, runs, request_]
    lines = CliRunner().invoke(app, ["--help"]).output.splitlines()
    options = [line.split("--")[1].split()[0] for line in lines if "--" in line]
    assert options[:5] == ["engine", "workers", "address", "runs", "unit"]
