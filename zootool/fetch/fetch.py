"""Downloading a published file: resumed, bounded, checked, and from the first mirror that delivers it."""

import shutil
import time
from pathlib import Path

from zootool.catalog import PublishedFile
from zootool.errors import IntegrityError, MissingError
from zootool.fetch.downloaded import Origin, PartFile, check_file, open_part
from zootool.fetch.web import Answer, SourceError, open_source
from zootool.progress import Reporter, silent

_BLOCK_BYTES = 1 << 18
_MAX_BYTES = 1 << 40
# How many attempts in a row may bring nothing, per mirror, and how long is waited after the first.
_ATTEMPTS = 3
_BACKOFF_SECONDS = 1.0


def fetch(file: PublishedFile, folder: Path, *, report: Reporter = silent) -> Path:
    """Download `file` to its place below `folder`, unless it is there, and return that place.

    The bytes go to a `.part` file beside it, which a later call goes on with. The file gets its name when its size
    and checksum are what its publisher states.

    Raises MissingError where no mirror delivers (offline, for one) or the disk is too small, IntegrityError where
    what comes, or what is there already, is another file.
    """
    target = folder / file.path
    if target.is_file():
        check_file(target, file)
        return target
    if not file.urls:
        raise MissingError(f"{file.path} has no address to fetch it from", hint=f"put it at {target} by hand")
    with open_part(target, "sha256" if file.sha256 or not file.md5 else "md5") as part:
        # Another process may have finished while this one waited for the lock.
        if target.is_file():
            part.discard()
            return target
        _from_mirrors(file, part, report)
    return target


def _from_mirrors(file: PublishedFile, part: PartFile, report: Reporter) -> None:
    problems: list[str] = []
    is_wrong = False
    for url in file.urls:
        try:
            _from_mirror(url, file, part, report)
            return
        except SourceError as error:
            problems.append(f"{url}: {error}")
        except IntegrityError as error:
            problems.append(f"{url}: {error.message}")
            is_wrong = True
            part.restart()
    if part.size == 0:
        part.discard()
    kind = IntegrityError if is_wrong else MissingError
    raise kind(
        "\n  ".join([f"{file.path} could not be fetched ({file.checksum})", *problems]),
        hint=f"try again with a connection, or fetch it elsewhere and put it at {part.target}",
    )


def _from_mirror(url: str, file: PublishedFile, part: PartFile, report: Reporter) -> None:
    """All of `file` from one mirror, checked and in place. Raises SourceError and IntegrityError."""
    was_resumed = part.size > 0
    _transfer_patiently(url, file, part, report)
    try:
        _check(file, part)
    except IntegrityError:
        if not was_resumed:
            raise
        # What was there from an earlier run may have been wrong: once more, from nothing.
        part.restart()
        _transfer_patiently(url, file, part, report)
        _check(file, part)
    part.finish()


def _transfer_patiently(url: str, file: PublishedFile, part: PartFile, report: Reporter) -> None:
    failures = 0
    while part.size == 0 or part.size != file.size:
        before = part.size
        try:
            _transfer(url, file, part, report)
            return
        except SourceError as error:
            failures = 1 if part.size > before else failures + 1
            if not error.is_passing or failures >= _ATTEMPTS:
                raise
            time.sleep(_BACKOFF_SECONDS * 2 ** (failures - 1))


def _transfer(url: str, file: PublishedFile, part: PartFile, report: Reporter) -> None:
    """Bring the part to the file's end. Raises SourceError where the source ends early."""
    known, offset = part.origin, part.size
    # Gone on with only where the version can be compared, or a checksum will tell in the end.
    if known is None or known.url != url or known.validator is None:
        known, offset = Origin(url, total=file.size), part.size if file.sha256 or file.md5 else 0
    with open_source(known, offset) as answer:
        _check_size(file, part, answer)
        if answer.start != part.size:
            part.restart()
        part.note_origin(answer.origin)
        total = answer.origin.total
        limit = file.size or total or _MAX_BYTES
        while block := answer.read(_BLOCK_BYTES):
            if part.size + len(block) > limit:
                raise IntegrityError(f"more than the {limit} bytes that were announced")
            part.append(block)
            report(f"downloading {part.target.name}", part.size, total or part.size)
    if total is not None and part.size < total:
        raise SourceError(f"the connection ended after {part.size} of {total} bytes", is_passing=True)


def _check_size(file: PublishedFile, part: PartFile, answer: Answer) -> None:
    """Refuse before the first byte what is too large, or not the size that was published."""
    total = answer.origin.total
    if total is None:
        return
    if file.size is not None and total != file.size:
        raise IntegrityError(f"the server offers {total} bytes, the published file has {file.size}")
    if total > _MAX_BYTES:
        raise IntegrityError(f"the server offers {total} bytes, more than the {_MAX_BYTES} allowed")
    free = shutil.disk_usage(part.target.parent).free
    if total - answer.start > free:
        raise MissingError(
            f"{part.target.name} needs {total - answer.start} bytes, the disk has {free}",
            hint=f"make room in {part.target.parent} or choose another folder",
        )


def _check(file: PublishedFile, part: PartFile) -> None:
    wanted = file.sha256 or file.md5
    if file.size is not None and part.size != file.size:
        raise IntegrityError(f"{part.size} bytes came, the published file has {file.size}")
    if wanted is not None and part.hexdigest != wanted:
        raise IntegrityError(f"what came has the checksum {part.hexdigest}, the published file has {wanted}")
