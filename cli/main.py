"""The command `zoo`."""

import typer

app = typer.Typer(name="zoo", no_args_is_help=True)
