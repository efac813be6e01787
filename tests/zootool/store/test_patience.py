import socket
import urllib.error

import pytest

from zootool.errors import MissingError
from zootool.store.patience import Patience, patiently


class NoCredentialsError(Exception):
    """As botocore calls it."""


class ClientError(Exception):
    """As botocore has it."""

    response = {"ResponseMetadata": {"HTTPStatusCode": 403}}  # noqa: RUF012


def failing(error: Exception, patience: Patience) -> tuple[str, int]:
    """What is said of a call that always fails so, and how often it was made."""
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(MissingError) as raised:
        patiently(call, "reading x", patience)
    return str(raised.value), calls


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (NoCredentialsError("Unable to locate credentials"), "aws configure"),
        (ClientError("forbidden"), "aws configure"),
        (urllib.error.URLError(socket.gaierror(socket.EAI_NONAME, "unknown")), "no host has this name"),
        (ImportError("s3fs"), "install the package"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_trying_again_cannot_mend_is_tried_once(error: Exception, way_out: str) -> None:
    said, calls = failing(error, Patience())
    assert calls == 1
    assert way_out in said


def test_what_may_pass_is_tried_again_for_a_while() -> None:
    assert failing(TimeoutError("a"), Patience(3, 0.0)) == (
        "reading x failed 3 times (TimeoutError: a): check the connection and run the command again",
        3,
    )
    assert failing(TimeoutError("a"), Patience(3, 0.0, max_seconds=-1.0))[1] == 1
