"""The command `zoo`: one Typer app, one file per subject, and the only place where errors become exit codes.

Command files import typer and rich at their top and everything heavy inside the command's body, so that
`zoo --help` doesn't wait for torch.
"""

import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from cli import bench, build
from cli import recipes as recipe
from cli.collect import collect
from cli.console import errors, show_error
from cli.demo import demo
from cli.doctor import doctor
from cli.process import EXIT_BUG, EXIT_CLOSED_PIPE, exit_code_of_signal, was_interrupted
from cli.report import report
from cli.selecting import export, merge, subset
from cli.sharing import publish, pull
from cli.sources import convert, show
from cli.stores import info, ls, verify, view
from cli.train import train
from cli.trained import embed, predict, reconstruct
from zootool.errors import MissingError, UsageError, ZooError, printable, refusal_of

GOING_ON = ("demo", "build", "collect", "convert", "merge", "train", "bench", "publish", "pull")
"""Commands that take up what an interrupted run of theirs has finished."""


class ZooGroup(TyperGroup):
    """The root command: turns what a command raises into a message and an exit code.

    0 done, 1 our bug, 2 wrong usage, 3 bad or untrusted data, 4 something is missing, 130 interrupted (143 by
    SIGTERM), 141 nobody reads the output.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that `ctx` names."""
        words = [*getattr(ctx, "_protected_args", ()), *ctx.args]
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except BrokenPipeError as error:
            raise typer.Exit(EXIT_CLOSED_PIPE) from error
        except (KeyboardInterrupt, typer.Abort) as error:
            raise typer.Exit(interrupted(words)) from error
        except Exception as error:
            if is_usage_error(error):
                raise
            raise typer.Exit(interrupted(words) if was_interrupted() else _exit_code(error)) from error


def _exit_code(error: Exception) -> int:
    """Say what `error` means for a person, and what it is for a machine."""
    known = _known(error)
    if known is not None:
        show_error(known)
        return known.exit_code
    traceback.print_exc()
    errors.print("[red]this is a bug in zootool[/]: please report it with the lines above")
    return EXIT_BUG


def _known(error: Exception) -> ZooError | None:
    """`error` as one of ours: what the system refuses has a next step too."""
    if isinstance(error, OSError):
        return refusal_of(error)
    is_memory = isinstance(error, MemoryError)
    # Torch has a class of its own for devices alone.
    of_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate memory" in str(error)
    if is_memory or of_torch:
        reason = f": {printable(error)}" if is_memory and str(error) else ""
        return MissingError(f"there isn't enough memory{reason}", hint="ask for less, or use a machine with more")
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        around = error.object[max(0, error.start - 60) : error.end + 60]
        return UsageError(f"{printable(around)} has bytes that aren't UTF-8", hint="rename it, or choose another name")
    return error if isinstance(error, ZooError) else None


def interrupted(words: list[str]) -> int:
    """Say what an interrupted command line leaves, and give its exit code."""
    goes_on = words[:1] and words[0] in GOING_ON and "--append" not in words and words[:2] != ["bench", "efficiency"]
    rest = ": what is finished is kept; the same command goes on from there" if goes_on else ""
    errors.print(f"[yellow]interrupted[/]{rest}")
    errors.show_cursor(True)  # a bar whose drawing had just begun has hidden it, and won't end
    return exit_code_of_signal()


def is_usage_error(error: Exception) -> bool:
    """Whether Typer itself raised `error` about the command line, and will show it better than we could."""
    # Typer's releases differ in where the class lives (click, or a copy of it inside typer); its name is the same.
    return any(base.__name__ == "ClickException" for base in type(error).__mro__)


app = typer.Typer(
    name="zoo",
    cls=ZooGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Build, convert, share and learn from populations of trained networks.",
)

# In the order in which `zoo --help` lists them; groups come behind commands there.
for command in (demo, collect, show, convert, ls, info, verify, export, subset, merge, embed, predict, reconstruct,
                report, publish, pull, view, doctor):  # fmt: skip
    app.command()(command)
for name, group in (("recipe", recipe), ("build", build), ("bench", bench)):
    app.add_typer(group.app, name=name)
app.command(no_args_is_help=True)(train)


if __name__ == "__main__":
    from cli.process import main

    main()
