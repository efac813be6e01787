"""`zoo doctor`: what this machine has, and what is missing for which command."""

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from cli.console import JsonOption, print_json, say, shown

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
    found = examine()
    if as_json:
        print_json(found)
        return
    say(f"zootool {found['version']}, Python {found['python']}, torch {found['torch']}, {found['cpus']} CPU cores")
    say(f"GPU: {shown(found['gpu'] or 'none')}")
    for name, version in found["optional"].items():
        extra, purpose = EXTRAS[name]
        say(f"{name}: {version}" if version else f"{name}: not installed (pip install 'zootool\\[{extra}]'; {purpose})")
    say(f"ZOO_DATA: {shown(found['zoo_data'] or 'not set')}")


def examine() -> dict[str, Any]:
    """The facts that `zoo doctor` shows, as plain values."""
    import torch

    return {
        "version": importlib.metadata.version("zootool"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "optional": {name: _version(name) for name in EXTRAS},
        "zoo_data": os.environ.get("ZOO_DATA"),
    }


def _version(name: str) -> str | None:
    return importlib.metadata.version(name) if importlib.util.find_spec(name) else None
