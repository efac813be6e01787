"""Script of test_classifiers: one build of CNNs in a process that can be killed.

python -m tests.zootool.build.classifiers_here FOLDER EPOCHS WORKERS
"""

import sys
from pathlib import Path

from tests.zootool.build.small import TINY_CNN, small_images
from zootool.build import build_classifiers
from zootool.engines.engine import choose_engine

if __name__ == "__main__":
    folder, epochs, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print("started", flush=True)
    recipe = TINY_CNN.model_copy(update={"checkpoints": (0, epochs)})
    result = build_classifiers(small_images(), recipe, folder, engine=choose_engine(workers=workers), threads=1)
    print(result.built, flush=True)
