"""An object of a user's own code by its name: `package.module:name` or `path/to/file.py:name`.

This runs the user's code: names come from the command line or from Python, never from a file that somebody else made.
"""

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from zootool.errors import UsageError, did_you_mean, printable

_HINT = "write it like my_package.my_module:build, or my_file.py:build"


def load_object(text: str) -> Any:
    """What `text` names. Raises UsageError where the module can't be imported or doesn't have the name."""
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise UsageError(f"can't read the name {printable(text, 120)!r}", hint=_HINT)
    try:
        module = _module_of_file(Path(place)) if place.endswith(".py") else _module(place)
    except Exception as error:
        # Whatever the user's module raises while it is imported is theirs to mend.
        what = f"{type(error).__name__}: {printable(error, 200)}"
        raise UsageError(f"can't import {printable(place, 120)} ({what})", hint=_HINT) from error
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UsageError(f"{printable(place, 120)} has no {name}", hint=did_you_mean(name, public))
    return getattr(module, name)


def _module(place: str) -> ModuleType:
    # A console script doesn't look into the current folder, where `python -m` would.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return import_module(place)
    finally:
        sys.path.remove(here)


def _module_of_file(path: Path) -> ModuleType:
    name = f"_zoo_user_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses and pickles of the module look it up there.
    spec.loader.exec_module(module)
    return module
