"""Trying again what a network didn't do the first time."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from zootool.errors import MissingError, ZooError, printable

Result = TypeVar("Result")

_NEVER_PASSES = (
    LookupError,
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
)


_CREDENTIALS = "give credentials that may use it: AWS_PROFILE or `aws configure` for S3, `hf auth login` for the hub"
_ADDRESS = "check the address"
_LASTING = {
    # What clients of object stores call it when they have no credentials, or none that can be used.
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "CredentialRetrievalError": _CREDENTIALS,
    "TokenRetrievalError": _CREDENTIALS,
    "ProfileNotFound": _CREDENTIALS,
    "DefaultCredentialsError": _CREDENTIALS,
    "RefreshError": _CREDENTIALS,
    "ClientAuthenticationError": _CREDENTIALS,
    "LocalTokenNotFoundError": _CREDENTIALS,
    "GatedRepoError": _CREDENTIALS,
    "RepositoryNotFoundError": f"{_ADDRESS}; for a private one, log in with `hf auth login`",
    "HFValidationError": _ADDRESS,
    "InvalidRegionError": _ADDRESS,
    "ParamValidationError": _ADDRESS,
    "InvalidURL": _ADDRESS,
    "OfflineModeIsEnabled": "unset HF_HUB_OFFLINE",
    "SSLCertVerificationError": "check the address and this computer's certificates",
    "ImportError": "install the package that the message names",
}
"""Errors, by the name of their class, that trying again doesn't mend, and the way out."""


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
        except (ZooError, TypeError, AttributeError, *_NEVER_PASSES):
            raise
        # Clients of object stores raise classes of their own, which have no other base in common.
        except Exception as error:
            way_out = _way_out(error)
            if way_out is not None:
                raise MissingError(f"{what} failed ({_named(error)})", hint=way_out) from error
            if attempt == patience.attempts or time.monotonic() - started > patience.max_seconds:
                times = "once" if attempt == 1 else f"{attempt} times"
                raise MissingError(
                    f"{what} failed {times} ({_named(error)})", hint="check the connection and run the command again"
                ) from error
            time.sleep(patience.backoff_seconds * 2 ** (attempt - 1))
    raise ValueError("patience without an attempt")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {printable(error, 160)}"


def _way_out(error: BaseException | None) -> str | None:
    """What to do about an error that trying again doesn't mend; None for one that may pass."""
    while error is not None:
        for kind in type(error).__mro__:
            if kind.__name__ in _LASTING:
                return _LASTING[kind.__name__]
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
