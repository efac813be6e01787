"""One hostile file, and what has to become of it."""

from dataclasses import dataclass
from typing import Literal

from zootool.errors import FormatError, ZooError

Reader = Literal["checkpoint", "archive", "tar", "convert", "npy", "literal", "json", "json lines", "yaml"]


@dataclass(frozen=True)
class Case:
    """A file's content, the reader that it is given to, and the error that names what is wrong with it.

    `pickled` is a payload that writes the canary once Python's own unpickler meets it.
    """

    name: str
    content: bytes
    match: str
    error: type[ZooError] = FormatError
    reader: Reader = "checkpoint"
    file_name: str = "net.pth"
    pickled: bytes | None = None
