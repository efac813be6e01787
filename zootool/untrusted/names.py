"""Names from files that nobody has checked: of tensors, of members of archives."""

import re

from zootool.errors import FormatError, UntrustedError, printable
from zootool.untrusted.limits import LoadLimits

_MAX_MEMBER_CHARS = 1_000
_MAX_PATH_CHARS = 1_000


def check_tensor_name(name: str, limits: LoadLimits) -> None:
    """Raise FormatError for a name that can't be shown, is too long, or would lead out of a folder."""
    problem = _problem(name, limits.max_name_chars)
    if problem:
        raise FormatError(f"names a tensor {printable(name, 80)!r}, which {problem}")


def join_path(path: str, key: object) -> str:
    """The path of what stands under a key, such as `model/fc.weight`; longer than any tensor's name it is cut."""
    shown = (key if type(key) is str else printable(key, _MAX_PATH_CHARS))[:_MAX_PATH_CHARS]
    return f"{path[:_MAX_PATH_CHARS]}/{shown}" if path else shown


def check_member_name(name: str) -> None:
    """Raise UntrustedError for a member of an archive whose name could lead out of the folder it is put in."""
    problem = _problem(name, _MAX_MEMBER_CHARS) or ("has a backslash" if "\\" in name else None)
    if problem or not name:
        raise UntrustedError(
            f"holds a member {printable(name, 80)!r}, which {problem or 'has no name'}", hint="don't use this archive"
        )


def _problem(name: str, max_chars: int) -> str | None:
    if len(name) > max_chars:
        return f"has more than {max_chars} characters"
    if not name.isprintable():
        return "has control characters"
    if name.startswith(("/", "\\")) or (":" in name and re.match(r"[A-Za-z]:[/\\]", name)):
        return "is an absolute path"
    if ".." in name and ".." in re.split(r"[/\\]", name):
        return "leads out of its folder"
    return None
