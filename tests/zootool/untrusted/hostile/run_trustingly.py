"""Loads pickles as Python itself does, each beside its canary: `run_trustingly.py FOLDER`. For the tests' own check.

It is only ever given the payloads of running_pickles.py, which make one folder.
"""

import copyreg
import pickle
import sys
from pathlib import Path
from typing import Any

from tests.zootool.untrusted.hostile.running_pickles import EXTENSION_CODES


class Trusting(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return pid


def main(folder: Path) -> None:
    for code, (module, name) in EXTENSION_CODES.items():
        copyreg.add_extension(module, name, code)
    for path in sorted(folder.glob("*.pkl")):
        try:
            with path.open("rb") as file:
                Trusting(file).load()
        # What happens after the call is of no interest.
        except Exception as error:
            print(path.name, repr(error)[:200])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
