"""How `zoo` starts and ends as a process: interrupted, with its output closed, or on a terminal without UTF-8."""

import _thread
import codecs
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

EXIT_BUG = 1
EXIT_MISSING = 4
EXIT_CLOSED_PIPE = 128 + signal.SIGPIPE
"""What a shell says of any tool whose reader has gone, such as `ls | head -1`."""

_PLAIN = {"\u2026": "...", "\u2022": "*", "\xd7": "x", "\xb1": "+-", "\u2212": "-", "\u2013": "-", "\u2014": "-"}
_received: list[int] = []


def main() -> NoReturn:
    """Run the command line of this process, and end it."""
    code: Any = 0
    begun_with = _place_of_output()
    try:
        _catch_signals()
        make_writable(sys.stdout)
        make_writable(sys.stderr)
        from cli.main import app

        app()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = exit_code_of_signal()
    except OSError as error:
        code = _unwritten(error)
    # All that was asked for is done by now: what comes is an end in any case.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))
    if was_interrupted() and code:
        code = exit_code_of_signal()
    failed = _flush()
    # Where nobody reads, rich and typer have sent the rest to nowhere and ended with 1.
    sys.exit(failed or (code if _place_of_output() == begun_with else EXIT_CLOSED_PIPE))


def was_interrupted() -> bool:
    """Whether Ctrl-C or a request to end has come: what libraries make of it may be any error."""
    return bool(_received)


def exit_code_of_signal() -> int:
    """128 and the signal's number, as shells have it: 130 for Ctrl-C, 143 for a request to end."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def make_writable(stream: Any) -> None:
    """Let `stream` show every text: what its encoding lacks is written in ASCII."""
    codecs.register_error("zoo", _in_ascii)
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="zoo")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = "".join(_PLAIN.get(symbol) or _box(symbol) for symbol in text)
    return plain.encode("ascii", "backslashreplace").decode("ascii"), error.end


def _box(symbol: str) -> str:
    """A character that draws lines, as people drew them before."""
    if not "\u2500" <= symbol <= "\u259f":
        return symbol
    return "-" if symbol in "─━═╌╍" else "|" if symbol in "│┃║" else "#" if symbol >= "▀" else "+"


def _catch_signals() -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        # Who starts us in the background ignores Ctrl-C for us.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    shown = sys.unraisablehook

    def unraisable(problem: Any) -> None:
        # Python can't raise within callbacks of its own: there, the interruption would be lost.
        if issubclass(problem.exc_type, KeyboardInterrupt):
            _thread.interrupt_main()
        elif not was_interrupted() and not issubclass(problem.exc_type, BrokenPipeError):
            shown(problem)

    sys.unraisablehook = unraisable


def _place_of_output() -> tuple[int, int] | None:
    if sys.__stdout__ is None:
        return None
    found = os.fstat(sys.__stdout__.fileno())
    return found.st_dev, found.st_ino


def _flush() -> int:
    """Write out what is left; an exit code where that can't be done."""
    if sys.__stdout__ is None:
        return 0
    try:
        sys.__stdout__.flush()
    except OSError as error:
        # At its end Python would try again, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
        return _unwritten(error)
    return 0


def _unwritten(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        return EXIT_CLOSED_PIPE
    with suppress(OSError):
        sys.stderr.write(f"error: the output can't be written: {error.strerror}\n")
    return EXIT_MISSING
