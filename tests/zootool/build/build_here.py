"""Script of test_faults: one build in a process that can be killed.

    python -m tests.zootool.build.build_here FOLDER STEPS WORKERS [MAX_FILE_BYTES [die]]

With MAX_FILE_BYTES a file can't grow beyond that size, as on a full disk; with `die` the kernel kills the process in
the middle of the write that tries to.
"""

import resource
import signal
import sys
from pathlib import Path

from tests.zootool.build.small import TINY, small_images
from zootool.build import build_sirens
from zootool.engines.engine import choose_engine

if __name__ == "__main__":
    folder, steps, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if len(sys.argv) > 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if "die" in sys.argv else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("started", flush=True)
    recipe = TINY.model_copy(update={"steps": steps})
    result = build_sirens(small_images(train=10), recipe, folder, engine=choose_engine(workers=workers), threads=1)
    print(result.built, flush=True)
