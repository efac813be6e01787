"""Torch in a process of its own, for the few files that our reader can't read: long-lived, with limits.

The file goes in as bytes and comes back as JSON and raw values, which are checked like any other file's. Nothing is
unpickled here, and there it is `torch.load(weights_only=True)` alone. There is no way to ask for anything else.
"""

import atexit
import json
import os
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import IO, Any

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, MissingError, printable
from zootool.untrusted.byte_source import ByteSource, MemorySource
from zootool.untrusted.lazy_tensor import LazyTensor, Storage, check_layout
from zootool.untrusted.limits import LoadLimits
from zootool.untrusted.names import check_tensor_name
from zootool.untrusted.pickle_names import check_key

_LENGTH = struct.Struct("<Q")
_MAX_REPLY_HEADER_BYTES = 64 << 20
_START_SECONDS = 120.0
_LOCK = threading.Lock()
# By process, too: one that was forked must not talk through its parent's pipes.
_RUNNING: dict[tuple[int, LoadLimits], "_Worker"] = {}


def read_by_torch(source: ByteSource, limits: LoadLimits) -> Any:
    """The value of a file as `torch.load(weights_only=True)` sees it, with a LazyTensor for each dense tensor.

    Raises FormatError for what torch refuses, and where it takes more memory or time than `limits` allow.
    """
    if source.size > limits.max_worker_bytes // 2:
        raise FormatError(f"has {source.size} bytes and only torch can read it: that is too large")
    content = source.read(0, source.size)
    key = (os.getpid(), limits)
    with _LOCK:
        if key not in _RUNNING:
            _RUNNING[key] = _start(limits)
        try:
            header, data = _RUNNING[key].exchange(content)
        except (OSError, EOFError, ValueError, struct.error) as error:
            _RUNNING.pop(key).stop()
            raise FormatError(
                f"took torch more than {limits.max_worker_seconds:g} s or {limits.max_worker_bytes} bytes, or ended it",
                hint="don't use this file",
            ) from error
    if "error" in header:
        raise FormatError(f"is refused by torch: {printable(header['error'])}", hint="save the state_dict alone")
    reply = _Reply(MemorySource(data, source.shown), source.size, limits)
    try:
        return reply.value(header["value"], "", 0)
    except (TypeError, ValueError, LookupError) as error:
        raise FormatError("came back from torch as something that isn't a checkpoint") from error


def stop_workers() -> None:
    """End the processes that were started; the next file that needs one starts it anew."""
    with _LOCK:
        for key in [key for key in _RUNNING if key[0] == os.getpid()]:
            _RUNNING.pop(key).stop()


def _start(limits: LoadLimits) -> "_Worker":
    worker = _Worker(limits)
    try:
        worker.wait_until_ready()
    except (OSError, EOFError, ValueError) as error:
        worker.stop()
        raise MissingError("torch doesn't start in a process of its own", hint="run `zoo doctor`") from error
    return worker


class _Worker:
    """The process at the other end of two pipes."""

    def __init__(self, limits: LoadLimits) -> None:
        self._limits = limits
        self._owner = os.getpid()
        # -P: whoever owns the current folder doesn't decide which torch is imported.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "zootool.untrusted.worker_main", str(limits.max_worker_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        )
        atexit.register(self.stop)

    def wait_until_ready(self) -> None:
        """Return when torch has been imported there. Raises OSError or EOFError where that fails."""
        self._wait_for(self._read_ready, _START_SECONDS)

    def exchange(self, content: memoryview) -> tuple[dict[str, Any], bytes]:
        """Send a file and return what comes back. Raises OSError or EOFError where the process ended."""
        return self._wait_for(lambda: self._exchange(content), self._limits.max_worker_seconds)

    def stop(self) -> None:
        """End the process, if it is this one's."""
        if self._owner != os.getpid():
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # What was still to be written has nobody to read it.
                with suppress(BrokenPipeError):
                    pipe.close()

    def _wait_for(self, act: Any, seconds: float) -> Any:
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            return act()
        finally:
            timer.cancel()

    def _read_ready(self) -> None:
        if read_block(self._pipe("stdout"), 16) != b"ready":
            raise EOFError

    def _exchange(self, content: memoryview) -> tuple[dict[str, Any], bytes]:
        write_block(self._pipe("stdin"), content)
        header = json.loads(read_block(self._pipe("stdout"), _MAX_REPLY_HEADER_BYTES))
        return header, read_block(self._pipe("stdout"), self._limits.max_worker_bytes)

    def _pipe(self, name: str) -> IO[bytes]:
        pipe = getattr(self._process, name)
        assert pipe is not None
        return pipe


def write_block(pipe: IO[bytes], content: bytes | memoryview) -> None:
    """Send the length and then the bytes."""
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def read_block(pipe: IO[bytes], max_bytes: int) -> bytes:
    """What `write_block` sent. Raises EOFError at the end and ValueError for more than `max_bytes`."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    size = _LENGTH.unpack(head)[0]
    if size > max_bytes:
        raise ValueError(f"a block of {size} bytes")
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError
    return content


class _Reply:
    """Makes values of what came back, trusting it no more than a file."""

    def __init__(self, data: MemorySource, file_bytes: int, limits: LoadLimits) -> None:
        if data.size > limits.max_expansion * file_bytes:
            raise FormatError(f"has {file_bytes} bytes, but describes tensors of {data.size} bytes")
        self._data = data
        self._limits = limits

    def value(self, node: Any, path: str, depth: int) -> Any:
        if depth > self._limits.max_depth:
            raise FormatError(f"is nested more than {self._limits.max_depth} deep")
        kind, content = node
        if kind == "plain":
            return content
        if kind == "dict":
            return {
                check_key(key): self.value(item, f"{path}/{key}" if path else str(key), depth + 1)
                for key, item in content
            }
        if kind in ("list", "tuple"):
            items = [self.value(item, f"{path}/{i}" if path else str(i), depth + 1) for i, item in enumerate(content)]
            return items if kind == "list" else tuple(items)
        return self._tensor(content, path)

    def _tensor(self, content: Any, path: str) -> LazyTensor:
        dtype, shape, start = content
        if dtype not in DTYPE_BYTES:
            raise FormatError(f"holds a tensor of the dtype {printable(dtype, 20)}")
        check_tensor_name(path, self._limits)
        shape = tuple(shape)
        strides = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
        size = prod(shape) * DTYPE_BYTES[dtype]
        check_layout(dtype, shape, strides, 0, size, self._limits)
        if not 0 <= start <= start + size <= self._data.size:
            raise FormatError("came back from torch in part")
        return LazyTensor(path, dtype, shape, strides, 0, Storage(str(start), self._data, start, size))
