"""The other end of worker.py: `torch.load(weights_only=True)`, within a limit of memory, for one file after another."""

import io
import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zootool.architecture import DTYPE_BYTES
from zootool.untrusted.worker import read_block, write_block

_MAX_DEPTH = 64


def main(max_bytes: int) -> None:
    """Answer until the pipe is closed."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    # What libraries print must not end up between the answers.
    sys.stdout = sys.stderr
    _limit_memory(max_bytes)
    write_block(replies, b"ready")
    while True:
        try:
            content = read_block(requests, max_bytes)
        except EOFError:
            return
        header, data = answer(content)
        write_block(replies, json.dumps(header).encode())
        write_block(replies, data)


def answer(content: bytes) -> tuple[dict[str, Any], bytes]:
    """What a file holds: its structure, and its tensors' values one after another."""
    values: list[bytes] = []
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return {"value": _describe(loaded, values, 0)}, b"".join(values)
    # Whatever a hostile file makes torch raise, this process goes on to the next.
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}, b""


def _limit_memory(max_bytes: int) -> None:
    """Torch's libraries take gigabytes of addresses by themselves: the limit is on what comes on top."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + max_bytes * 3
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _describe(value: Any, values: list[bytes], depth: int) -> list[Any]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    if isinstance(value, Tensor):
        return ["tensor", _take(value, values)]
    if isinstance(value, dict):
        return ["dict", [[key, _describe(item, values, depth + 1)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_describe(item, values, depth + 1) for item in value]]
    if value is None or isinstance(value, str | int | float | bool):
        return ["plain", value]
    return ["plain", str(value)[:200]]


def _take(tensor: Tensor, values: list[bytes]) -> list[Any]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or dtype not in DTYPE_BYTES:
        raise ValueError(f"a tensor of {tensor.layout}, {tensor.device}, {dtype}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError("a tensor that repeats its storage")
    start = sum(map(len, values))
    values.append(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return [dtype, list(tensor.shape), start]


if __name__ == "__main__":
    main(int(sys.argv[1]))
