"""`zoo doctor`: what this machine has, and what is missing for which command."""

import importlib.util
import os
import platform
from importlib.metadata import version

from cli.console import JsonOption, answer, shown

EXTRAS = {
    "triton": ("cuda", "fitting SIRENs on a GPU"),
    "ray": ("ray", "building on a cluster"),
    "huggingface_hub": ("hub", "publishing to and pulling from the hub"),
    "s3fs": ("s3", "zoos on S3"),
}


def doctor(as_json: JsonOption = False) -> None:
    """Show versions, devices, optional packages and where image sets are looked for.

    Example: zoo doctor
    """
    import torch

    found = {
        "version": version("zootool"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "optional": {name: version(name) if importlib.util.find_spec(name) else None for name in EXTRAS},
        "zoo_data": os.environ.get("ZOO_DATA"),
    }
    answer(
        as_json,
        found,
        f"zootool {found['version']}, Python {found['python']}, torch {found['torch']}, {found['cpus']} CPU cores",
        f"GPU: {shown(found['gpu'] or 'none')}",
        *(
            f"{name}: {has}" if has else f"{name}: not installed (pip install 'zootool\\[{extra}]'; {purpose})"
            for (name, has), (extra, purpose) in zip(found["optional"].items(), EXTRAS.values(), strict=True)
        ),
        f"ZOO_DATA: {shown(found['zoo_data'] or 'not set')}",
    )
