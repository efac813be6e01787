"""Which files of a plain folder are networks, by their names: suffixes, and shards that an index joins."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from zootool.errors import FormatError, MissingError, ZooError, printable
from zootool.formats.collection import LeftOut
from zootool.formats.options import ReadOptions
from zootool.untrusted.bounded_text import read_json
from zootool.untrusted.file_stack import Tensors
from zootool.untrusted.folder_walk import walk_files
from zootool.untrusted.lazy_tensor import LazyTensor
from zootool.untrusted.safe_load import Loaded, load_checkpoint

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin")

_CHECKPOINT = re.compile(r"(.+?)\.(?:safetensors|(?:pt|pth|th|ckpt|bin)(?:\.tar)?)", re.IGNORECASE)
_INDEX = re.compile(r"(.+?)(\.\w+)\.index\.json", re.IGNORECASE)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")
_HEAD_BYTES = 512
_LEGACY_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"
_MAX_SNIFFED = 1000


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a network by its name, in upper or lower case: a checkpoint, or an index of shards."""
    return bool(_CHECKPOINT.fullmatch(path.name) or (_index_of(path) and path.is_file()))


def network_name(path: Path) -> str:
    """A file's name without what an index adds to it: that of the one file which the shards would be."""
    return path.name.removesuffix(".index.json") if _index_of(path) else path.name


def holds_tensors(path: Path) -> bool:
    """Whether a file, whatever its name, begins as a checkpoint does. Nothing but its first bytes is read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    is_safetensors = head[8:10] == b'{"' and int.from_bytes(head[:8], "little") <= path.stat().st_size
    is_zip = head.startswith(b"PK\x03\x04") and b"data.pkl" in head[:200]
    return is_safetensors or is_zip or (head.startswith(b"\x80") and _LEGACY_MAGIC in head[:32])


def find_networks(root: Path, options: ReadOptions) -> tuple[list[Path], list[LeftOut]]:
    """A file for each network below `root`, by path: an index for its shards. And what only looks like networks."""
    files = list(walk_files(root, options.leaves_out))
    joined = {file.parent / name for file in files if _index_of(file) for name in _listed(file)}
    networks = [file for file in files if is_checkpoint(file) and file not in joined]
    rest = [file for file in files if file not in joined and not is_checkpoint(file)]
    unknown = [file for file in rest[:_MAX_SNIFFED] if holds_tensors(file)]
    reason = "holds tensors, but has no suffix of a checkpoint: name the file itself to read it"
    return networks, [LeftOut(file.relative_to(root).as_posix(), reason) for file in unknown]


def load_network(path: Path) -> Loaded:
    """What a network's file holds, or what the shards hold that an index joins.

    Raises what `load_checkpoint` raises, and FormatError for shards that don't go together.
    """
    return _load_shards(path) if _index_of(path) else load_checkpoint(path)


def files_of(path: Path) -> list[Path]:
    """The files that a network is read from."""
    return [path, *(path.parent / name for name in _listed(path))] if _index_of(path) else [path]


def related_files(files: Sequence[Path]) -> set[Path]:
    """The files that may be one network with others, by their names: parts of a whole, and formats of one network."""
    stems = Counter(_place_of(file) for file in files)
    return {file for file in files if stems[_place_of(file)] > 1 or _SHARD.fullmatch(file.name)}


def loose_shards(found: Mapping[Path, Tensors]) -> dict[Path, ZooError]:
    """The files that are named as parts of a whole and share no tensor's name with the others, without an index."""
    groups: dict[tuple[Path, str, str, str], list[Path]] = defaultdict(list)
    for path in found:
        if match := _SHARD.fullmatch(path.name):
            groups[path.parent, match[1], match[3], match[4]].append(path)
    loose: dict[Path, ZooError] = {}
    for (_, stem, count, suffix), parts in groups.items():
        distinct = set().union(*(found[part] for part in parts))
        if int(count) > 1 and len(distinct) == sum(len(found[part]) for part in parts):
            hint = f"put {printable(f'{stem}{suffix}.index.json', 100)} beside them, or join them into one file"
            for part in parts:
                loose[part] = FormatError(f"{printable(part)} is a part of a network of {int(count)} files", hint=hint)
    return loose


def same_networks(found: Mapping[Path, Tensors]) -> tuple[dict[Path, Path], dict[Path, ZooError]]:
    """Files that hold what another of their name holds in another format, and that one; and those that contradict it.

    Equal keys, shapes and bytes are one network, equal keys and shapes alone contradict each other. Different keys
    are different networks, except beside a `pytorch_model`, which is the same as `model` by its name.
    """
    groups: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in found:
        groups[_place_of(path)].append(path)
    twins: dict[Path, Path] = {}
    clashes: dict[Path, ZooError] = {}
    for paths in groups.values():
        first, *others = sorted(paths, key=lambda path: ".safetensors" not in path.name.lower())
        for other in others:
            shapes, others_shapes = ({key: t.shape for key, t in found[path].items()} for path in (first, other))
            if shapes == others_shapes and all(_equal(t, found[other][key]) for key, t in found[first].items()):
                twins[other] = first
            elif shapes == others_shapes or network_name(first).split(".")[0] != network_name(other).split(".")[0]:
                clashes[other] = FormatError(
                    f"{printable(other)} and {printable(first.name, 100)} are one network by their names, "
                    "but their tensors differ",
                    hint=f"keep one: --exclude '{printable(other.name, 100)}', or give them other names",
                )
    return twins, clashes


def _place_of(path: Path) -> tuple[Path, str]:
    """A folder, and a network's name without its format: what two formats of one network share."""
    match = _CHECKPOINT.fullmatch(network_name(path))
    stem = path.name if match is None else match[1]
    return path.parent, "model" if stem.lower() == "pytorch_model" else stem.lower()


def _equal(one: LazyTensor, other: LazyTensor) -> bool:
    return one.dtype == other.dtype and one.read().tobytes() == other.read().tobytes()


def _index_of(path: Path) -> re.Match[str] | None:
    match = _INDEX.fullmatch(path.name)
    return match if match and _CHECKPOINT.fullmatch(match[1] + match[2]) else None


def _listed(index: Path) -> list[str]:
    """The names of the shards in a readable index; an unreadable one is refused when it is loaded."""
    try:
        return list(dict.fromkeys(_weight_map(index).values()))
    except (FormatError, MissingError):
        return []


def _weight_map(index: Path) -> dict[str, str]:
    value = read_json(index)
    found = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(found, dict) or not found:
        raise FormatError(f"{printable(index)} has no weight_map, so it joins no files")
    for name in found.values():
        if not isinstance(name, str) or Path(name).name != name or not _CHECKPOINT.fullmatch(name):
            raise FormatError(f"{printable(index)} names the file {printable(name, 80)!r}, wanted is one beside it")
    return found


def _load_shards(index: Path) -> Loaded:
    weight_map = _weight_map(index)
    shown = printable(index)
    own = _index_of(index)
    for file in sorted(index.parent.iterdir()):
        match = _SHARD.fullmatch(file.name)
        if match and own and match[1] + match[4] == own[1] + own[2] and file.name not in weight_map.values():
            raise FormatError(f"{shown} doesn't list {printable(file.name, 80)}", hint="get the index again")
    tensors: dict[str, LazyTensor] = {}
    loaded = None
    for name in dict.fromkeys(weight_map.values()):
        if not (index.parent / name).is_file():
            raise FormatError(f"{shown} lists {printable(name, 80)}, which isn't there", hint="get this file too")
        loaded = load_checkpoint(index.parent / name)
        value = loaded.value if isinstance(loaded.value, dict) else {}
        part = {key: item for key, item in value.items() if isinstance(item, LazyTensor)}
        wanted = {key for key, file in weight_map.items() if file == name}
        for key in sorted(map(str, part.keys() ^ wanted)):
            if key in wanted:
                problem = f"lacks {printable(key, 80)!r}, which the index says is there"
            elif key in weight_map:
                where = printable(weight_map[key], 80)
                problem = f"holds {printable(key, 80)!r} too, which the index says is in {where}"
            else:
                problem = f"holds {printable(key, 80)!r}, which the index doesn't know"
            raise FormatError(
                f"{shown}: {printable(name, 80)} {problem}", hint="get index and files again, of one version"
            )
        tensors |= part
    assert loaded is not None, "a weight_map names a file"
    return Loaded({key: tensors[key] for key in weight_map}, loaded.form, shown, loaded.metadata)
