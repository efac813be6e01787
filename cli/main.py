"""The command `zoo`: one Typer app, one file per command, and the only place where errors become exit codes.

Command files import typer and rich at their top and everything heavy inside the command's body, so that
`zoo --help` doesn't wait for torch.
"""

import sys
import traceback
from typing import Any

import click
import typer
from typer.core import TyperGroup

from cli.console import errors, show_error
from zootool.errors import ZooError

EXIT_BUG = 1
EXIT_INTERRUPTED = 130


class ZooGroup(TyperGroup):
    """The root command: runs a command and turns what it raises into a message and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run `zoo`; exits with 0 done, 1 our bug, 2 wrong usage, 3 bad data, 4 something missing, 130 interrupted."""
        kwargs["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **kwargs) or 0)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except ZooError as error:
            show_error(error)
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            errors.print("[yellow]interrupted[/]: what is finished is kept; the same command goes on from there")
            sys.exit(EXIT_INTERRUPTED)
        except Exception:
            traceback.print_exc()
            errors.print("[red]this is a bug in zootool[/]: please report it with the lines above")
            sys.exit(EXIT_BUG)


app = typer.Typer(
    name="zoo",
    cls=ZooGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="Build, convert, share and learn from populations of trained networks.",
)


def main() -> None:
    """Run `zoo` as a module: `python -m cli.main`."""
    app()


if __name__ == "__main__":
    main()
