"""Trying again what a network didn't do the first time."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from zootool.errors import MissingError, ZooError, printable

Result = TypeVar("Result")

_OURS = (ZooError, TypeError, AttributeError, LookupError, NotImplementedError)
_NEVER_PASSES = (*_OURS, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

_CREDENTIALS = "give credentials that may use it: AWS_PROFILE or `aws configure` for S3, `hf auth login` for the hub"
_ADDRESS = "check the address"
_LASTING = {
    # What clients of object stores call it when they have no credentials, or none that can be used.
    _CREDENTIALS: (
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
        "ProfileNotFound", "DefaultCredentialsError", "RefreshError", "ClientAuthenticationError",
        "LocalTokenNotFoundError", "GatedRepoError",
    ),
    f"{_ADDRESS}; for a private one, log in with `hf auth login`": ("RepositoryNotFoundError",),
    _ADDRESS: ("HFValidationError", "InvalidRegionError", "ParamValidationError", "InvalidURL"),
    "unset HF_HUB_OFFLINE": ("OfflineModeIsEnabled",),
    "check the address and this computer's certificates": ("SSLCertVerificationError",),
    "install the package that the message names": ("ImportError",),
}  # fmt: skip
"""The way out of errors, by the names of their classes, that trying again doesn't mend."""


@dataclass(frozen=True)
class Patience:
    """How often something is tried, and the seconds before the second time; each later wait is twice the one before.

    What has taken `max_seconds` in all isn't tried again.
    """

    attempts: int = 6
    backoff_seconds: float = 0.25
    max_seconds: float = 90.0


def patiently(call: Callable[[], Result], what: str, patience: Patience | None = None) -> Result:
    """What `call` returns, tried again while it fails in a way that may pass.

    Raises MissingError when patience is over, and at once what trying again doesn't help: a ZooError, a file that isn't
    there or may not be read, and mistakes of ours.
    """
    patience = patience or Patience()
    started = time.monotonic()
    for attempt in range(1, patience.attempts + 1):
        try:
            return call()
        except _NEVER_PASSES:
            raise
        # Clients of object stores raise classes of their own, which have no other base in common.
        except Exception as error:
            way_out, shown = _way_out(error), f"{type(error).__name__}: {printable(error, 160)}"
            if way_out is not None:
                raise MissingError(f"{what} failed ({shown})", hint=way_out) from error
            if attempt == patience.attempts or time.monotonic() - started > patience.max_seconds:
                times = "once" if attempt == 1 else f"{attempt} times"
                raise MissingError(
                    f"{what} failed {times} ({shown})", hint="check the connection and run the command again"
                ) from error
            time.sleep(patience.backoff_seconds * 2 ** (attempt - 1))
    raise ValueError("patience without an attempt")


def _way_out(error: BaseException | None) -> str | None:
    """What to do about an error that trying again doesn't mend; None for one that may pass."""
    while error is not None:
        for kind in type(error).__mro__:
            for way_out, names in _LASTING.items():
                if kind.__name__ in names:
                    return way_out
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
            return "check the address and the connection: no host has this name"
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None) or getattr(error, "status", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status in (401, 403):
            return _CREDENTIALS
        if status in (404, 410):
            return "check the address: nothing is there"
        reason = getattr(error, "reason", None)  # where urllib keeps what happened
        error = reason if isinstance(reason, Exception) else error.__cause__
    return None
