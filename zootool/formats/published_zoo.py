"""Fetching a published zoo that datasets.yaml names: a plan, checked downloads, archives taken apart safely."""

import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from typing import Any

from zootool.catalog import PublishedFile, PublishedZoo
from zootool.errors import FormatError, IntegrityError, MissingError, UntrustedError, printable
from zootool.fetch.fetch import fetch
from zootool.files import refuse_inside, sha256_file, write_atomic, write_json_atomic
from zootool.progress import Reporter, silent
from zootool.untrusted.folder_walk import walk_files
from zootool.untrusted.lazy_tensor import name_problem

_DIGESTS_NAME = "digests.json"
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_MAX_MEMBER_BYTES = 64 << 30
_MAX_MEMBERS = 1_000_000
# What is packed into an archive may grow so many times, and by so much more where it is small.
_MAX_RATIO, _MAX_SPARE_BYTES = 200, 1 << 20
_MAX_NAME_CHARS = 1_000
_MAX_NOTE_BYTES = 1 << 16
_NOTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@dataclass(frozen=True)
class CollectPlan:
    """What fetching a zoo would do: the files that are still to come, and their bytes as far as they are known."""

    title: str
    page: str
    licence: str
    citation: str
    folder: Path
    to_fetch: tuple[str, ...]
    num_bytes: int | None
    unpinned: tuple[str, ...]


def plan_collection(zoo: PublishedZoo, folder: Path) -> CollectPlan:
    """Look at what is there of `zoo` below `folder`, without any traffic."""
    missing = [file for file in zoo.files if not (folder / file.path).is_file()]
    sizes = [file.size for file in missing if file.size is not None]
    return CollectPlan(
        zoo.title,
        zoo.page,
        zoo.licence,
        zoo.citation,
        folder,
        tuple(file.path for file in missing),
        sum(sizes) if len(sizes) == len(missing) else None,
        tuple(file.path for file in zoo.files if _is_unpinned(file)),
    )


def collect_zoo(name: str, zoo: PublishedZoo, folder: Path, *, report: Reporter = silent) -> Path:
    """Fetch the files of `zoo` below `folder` and take its archives apart; returns where its networks lie.

    A file for which no checksum was published is known by its digest from its first fetch on. Raises MissingError for
    a zoo that can only be fetched by hand, naming page, names and place, and where nothing delivers; IntegrityError
    where a file isn't what it was.
    """
    place = folder / name
    refuse_inside(place)
    if not zoo.files:
        raise MissingError(
            f"{zoo.title} has no stable links: get {', '.join(zoo.expects)} from {zoo.page}",
            hint=f"then run `zoo collect {name} --path PATH`, and `zoo convert PATH {name}.zoo --format {zoo.layout}`",
        )
    fetched = [fetch(file, folder, report=report) for file in zoo.files]
    unpinned = {file.path: path for file, path in zip(zoo.files, fetched, strict=True) if _is_unpinned(file)}
    digests = {path: sha256_file(file) for path, file in unpinned.items()}
    _hold_to_first(digests, unpinned, folder / f"{name}-{_DIGESTS_NAME}")
    archives = [path for path in fetched if path.name.endswith(_TAR_SUFFIXES)]
    if not archives:
        return fetched[0] if len(fetched) == 1 else fetched[0].parent
    for archive in archives:
        unpack_members(archive, place, zoo.expects, report)
    return place


def collect_by_hand(name: str, zoo: PublishedZoo, path: Path, folder: Path, report: Reporter = silent) -> str:
    """Check what somebody fetched by hand to `path` and return its digest, which is recorded on the first use.

    The digest is over the relative path and SHA-256 of every file. Raises MissingError where nothing is there,
    FormatError where it isn't in the zoo's layout, IntegrityError where it isn't what it was at first.
    """
    from zootool.formats import readers

    refuse_inside(folder / name)
    if not path.exists():
        raise MissingError(
            f"there is nothing at {printable(path)}", hint=f"get {', '.join(zoo.expects)} from {zoo.page}"
        )
    reader = readers()[zoo.layout]
    if not reader.detect(path):
        raise FormatError(
            f"{printable(path)} isn't laid out as {reader.TITLE}",
            hint=f"wanted are {', '.join(zoo.expects)}: see {zoo.page}",
        )
    files = [path] if path.is_file() else list(walk_files(path))
    total = sha256()
    for done, file in enumerate(files):
        report("digesting", done, len(files))
        relative = file.name if path.is_file() else file.relative_to(path).as_posix()
        total.update(f"{relative}\0{sha256_file(file)}\n".encode("utf-8", "surrogateescape"))
    report("digesting", len(files), len(files))
    _hold_to_first({path.name: total.hexdigest()}, {path.name: path}, folder / f"{name}-{_DIGESTS_NAME}")
    return total.hexdigest()


def unpack_members(archive: Path, folder: Path, names: Sequence[str], report: Reporter = silent) -> list[Path]:
    """Write the members of a tar archive whose last part is one of `names` to `folder`, and nothing else.

    Raises UntrustedError for a member that isn't a plain file, comes twice or has a name that leads elsewhere,
    FormatError for a broken archive, one that lacks a name and one that expands to too much.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / name).is_file() for name in names):
        return [folder / name for name in names]
    found: dict[str, Path] = {}
    most = _MAX_RATIO * archive.stat().st_size + _MAX_SPARE_BYTES
    try:
        with tarfile.open(archive, "r|*", tarinfo=_Member) as tar:
            for number, member in enumerate(tar):
                name = PurePosixPath(member.name).name
                report(f"unpacking {archive.name}", len(found), len(names))
                if number > _MAX_MEMBERS:
                    raise FormatError(f"{printable(archive)} has more than {_MAX_MEMBERS} members")
                # Before anything is passed over: that takes as long as a size says, whether so much is there or not.
                if not 0 <= member.size <= most - member.offset_data:
                    raise FormatError(
                        f"{printable(archive)} holds {printable(member.name, 120)} of {member.size} bytes: too much"
                    )
                if name not in names:
                    continue
                problem = name_problem(member.name, _MAX_NAME_CHARS)
                is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                if not is_plain or name in found or member.size > _MAX_MEMBER_BYTES:
                    problem = "is no single plain file"
                if problem:
                    raise UntrustedError(
                        f"{printable(archive)}: {printable(member.name, 120)} {problem}", hint="don't use this archive"
                    )
                source = tar.extractfile(member)
                assert source is not None, "regular members have content"
                write_atomic(folder / name, partial(copyfileobj, source))
                found[name] = folder / name
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's word, none about the archive
        raise FormatError(
            f"{printable(archive)} isn't a readable archive ({printable(error, 120)})", hint="remove it, fetch it again"
        ) from error
    lacking = [name for name in names if name not in found]
    if lacking:
        raise FormatError(f"{printable(archive)} lacks {', '.join(lacking)}", hint="see the zoo's page")
    return [found[name] for name in names]


class _Member(tarfile.TarInfo):
    """A member whose notes, such as a long name, are few: tarfile reads them whole."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in _NOTES and not 0 <= self.size <= _MAX_NOTE_BYTES:
            raise tarfile.ReadError(f"{self.size} bytes about one member, at most {_MAX_NOTE_BYTES} are read")
        return super()._proc_member(tar)  # type: ignore[missing-attribute]


def _is_unpinned(file: PublishedFile) -> bool:
    return not (file.sha256 or file.md5)


def _hold_to_first(digests: Mapping[str, str], paths: Mapping[str, Path], record: Path) -> None:
    known: dict[str, str] = json.loads(record.read_text(encoding="ascii")) if record.is_file() else {}
    for name, digest in digests.items():
        if known.setdefault(name, digest) != digest:
            raise IntegrityError(
                f"{printable(paths[name])} isn't what was fetched first (SHA-256 {known[name][:16]})",
                hint=f"fetch it again, or remove {record} to trust what is there",
            )
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(record, known)
