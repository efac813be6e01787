"""Publishing and pulling in a process that is killed on its way: `python -m tests.zootool.share.killed`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def killed(what: str, source: Path | str, destination: Path | str, count: int) -> None:
    """Let `what` (publish, pull, or pull-part of the training networks) be killed when it begins with the next file.

    Publishing has finished `count` files then, and in a folder has written the next, which lacks its name; pulling has
    read `count` ranges of shards.
    """
    words = [sys.executable, "-m", "tests.zootool.share.killed", what, str(source), str(destination), str(count)]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL


def dying(owner: Any, name: str, count: int, counts: Callable[..., bool]) -> None:
    """Replace a function by one that kills this process after `count` calls that count."""
    call, calls = getattr(owner, name), 0

    def counting(*words: Any) -> Any:
        nonlocal calls
        calls += counts(*words)
        if calls > count:
            os.kill(os.getpid(), signal.SIGKILL)
        # Long enough for the main thread to note the file before.
        time.sleep(0.02)
        return call(*words)

    setattr(owner, name, counting)


def main(what: str, source: str, destination: str, count: int) -> None:
    """Do `what` until it is time to die."""
    from zootool.share import publish, pull, targets
    from zootool.share.address import Address
    from zootool.store import remote_storage, storage_base

    if what == "publish":
        publish._RENEWED_SECONDS = 0
        dying(targets, "check_sent", count, lambda *_: True)
        dying(targets.ObjectStoreTarget, "put", count, lambda *_: True)
        publish.publish(source, destination, workers=1)
        return
    for kind in (remote_storage.HttpStorage, remote_storage.RemoteStorage, storage_base.LocalStorage):
        dying(kind, "fetch", count, lambda _, path, ranges: "/c/" in path)
    if what == "pull":
        pull.pull(Address(source), Path(destination), workers=1)
    else:
        pull.pull(Address(source), Path(destination), where="split=train")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
