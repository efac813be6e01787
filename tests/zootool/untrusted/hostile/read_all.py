"""Reads every hostile file in a process of its own and prints what became of it: `read_all.py FOLDER`.

A line of JSON per file: error's name, exit code, text, seconds of processor time, and by how many MB the process has
grown at most since it was idle.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zootool.conversion.convert import convert
from zootool.formats.published_zoo import unpack_members
from zootool.untrusted.bounded_text import parse_literal, read_json, read_json_lines, read_untrusted_yaml
from zootool.untrusted.numpy_arrays import open_npy
from zootool.untrusted.safe_load import load_checkpoint
from zootool.untrusted.zip_files import ZipArchive

# What is looked for in tar archives: the last parts of the names in all cases.
WANTED = ("a", "x", "ä", "\x1b[2J")


def read_checkpoint(path: Path) -> Any:
    return [tensor.read() for tensor in load_checkpoint(path).tensors.values()]


def read_archive(path: Path) -> Any:
    archive = ZipArchive(path)
    return [archive.read(name) for name in archive]


READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint": read_checkpoint,
    "archive": read_archive,
    "tar": lambda path: unpack_members(path, path.parent / "out", WANTED),
    "convert": lambda path: convert(path, path.parent / "out.zoo"),
    "npy": lambda path: open_npy(path).sum(),
    "literal": lambda path: parse_literal(path.read_bytes().decode("latin1"), "layout.csv row 1"),
    "json": read_json,
    "json lines": lambda path: list(read_json_lines(path)),
    "yaml": read_untrusted_yaml,
}


def main(folder: Path) -> None:
    idle = peak_megabytes()
    for reader, path in json.loads((folder / "cases.json").read_text(encoding="utf-8")):
        start = time.process_time()
        error, code, message = "nothing", 0, ""
        try:
            READERS[reader](Path(path))
        except Exception as caught:
            error, code, message = type(caught).__name__, getattr(caught, "exit_code", 1), str(caught)
        seconds = time.process_time() - start
        grown = peak_megabytes() - idle
        print(json.dumps({"error": error, "code": code, "message": message, "seconds": seconds, "grown": grown}))


def peak_megabytes() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
