"""The CNN Wild Park (Kofinas et al. 2024): CNNs of many architectures, from its zip file or unpacked.

`{root}/{run}/checkpoint_*/checkpoint.pt` = {model, config, iteration, last_result, ...}. The config gives kernels,
activations and residuals, which the tensors don't: it is an OmegaConf object, a dataclass or a plain dictionary, and
read from inert stubs, since the classes aren't installed and never made. `cnn_park_splits.json` has paths, scores and
steps by split.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from zootool.architecture import Architecture
from zootool.errors import BadDataError, FormatError, printable
from zootool.formats import checked_values as checked
from zootool.formats.checked_values import Splits
from zootool.formats.collection import usual_images
from zootool.formats.options import ReadOptions
from zootool.formats.skeleton import NUMBER, TEXT, WHOLE, FileReader, Network, holds
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.untrusted.file_stack import Tensors, found_in
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files
from zootool.untrusted.safe_load import Loaded, load_checkpoint
from zootool.untrusted.unpickler import Stub
from zootool.untrusted.zip_files import ZipArchive

_FILE = re.compile(r"(?s:.*/)?([^/]+)/(checkpoint_[^/]+)/checkpoint\.pt")
_SPLITS = "cnn_park_splits.json"
# OmegaConf's, for the values in a config.
_NODES = ("AnyNode", "IntegerNode", "FloatNode", "StringNode", "BooleanNode", "BytesNode", "PathNode")
_LISTS = {"channels": 1, "kernel_size": 1, "stride": 1, "padding": 0, "residual": -1}
"""The lists of numbers in a config, and the lowest of each."""
_KEYS = ("n_layers", "n_classes", *_LISTS, "activation")
_ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid", "leaky_relu", "none")
_MAX_LAYERS = 64
_MAX_SIZE = 1 << 14
# All of the park was trained on CIFAR-10.
_IMAGE_SHAPE = (32, 32)


class CnnWildPark(FileReader):
    """Every network of a park; steps are the trainer's iterations.

    In a zip file, a network's place is its member's name: nothing is extracted. Where there is no
    `cnn_park_splits.json` (in or beside the source, or `options.splits`), every checkpoint is opened for its accuracy
    and iteration, and splits are drawn by run.
    """

    NAME = "cnn-wild-park"
    TITLE = "CNN Wild Park: runs of checkpoints, unpacked or as cnn_wild_park.zip"
    KIND = "cnn"
    COLUMNS = pa.schema(
        {"net_id": TEXT, "split": TEXT, "run_id": TEXT, "training_step": WHOLE, "test_accuracy": NUMBER}
    )
    GROUP = "run_id"
    CONVENTIONS: ClassVar = {"training_step": "the trainer's iteration"}
    IMAGES = (usual_images("cifar10"),)
    NOTHING = ("holds no checkpoints of this format", "run `zoo show` on it")

    def __init__(self, path: Path, options: ReadOptions) -> None:
        super().__init__(path, options)
        self._archive = None if path.is_dir() else ZipArchive(path)
        self._configs: dict[str, dict[str, Any]] = {}

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether a folder has runs of checkpoint_*/checkpoint.pt, itself or one level down, or a zip file has."""
        if not path.is_file():
            run = (r"(?s:.+)", r"checkpoint_.+", r"checkpoint\.pt")
            return holds(path, *run) or holds(path, r"(?s:.+)", *run)
        try:
            return path.suffix == ".zip" and any(_FILE.fullmatch(name) for name in ZipArchive(path))
        except BadDataError:
            return False

    def find(self) -> Iterator[Network]:
        """The checkpoints by their paths; what archives leave beside their content is passed over."""
        if self._archive is None:
            self._files = list(walk_files(self.path, self.options.leaves_out))
            names = [file.relative_to(self.path).as_posix() for file in self._files]
        else:
            self._files = [self.path]
            names = [name for name in self._archive if not self.options.leaves_out(Path(name))]
        for name in names:
            match = _FILE.fullmatch(name)
            if match is not None and "__MACOSX" not in name.split("/"):
                run = checked.plain_name(match[1], f"{self.shown}: a run")
                folder = checked.plain_name(match[2], f"{self.shown}: a checkpoint")
                yield Network(self.path / name, (name,), {"net_id": f"{run}/{folder}", "run_id": run})

    def complete(self) -> None:
        """Steps, accuracies and splits: of the split file, or, where it lists none, of the checkpoint itself."""
        beside = self.path if self.path.is_dir() else self.path.absolute().parent
        file = checked.find_splits(self.options.splits, beside / _SPLITS, beside.absolute().parent / _SPLITS)
        published = {} if file is None else _read_published(file)
        for network in self.networks:
            network.row.update(published.get(network.row["net_id"]) or self._read_record(network))
        if file is None:
            drawn = super().splits()
            self._splits = drawn._replace(notes=(f"there is no {_SPLITS}: the splits are drawn by run",))
            for network, split in zip(self.networks, drawn.of_each, strict=True):
                network.row["split"] = split
        else:
            known = sum(network.row["net_id"] in published for network in self.networks)
            self._splits = checked.as_published(file, self.column("split"), len(published), known)

    def splits(self) -> Splits:
        """Those of all checkpoints, whichever steps are wanted."""
        return self._splits._replace(of_each=self.column("split"))

    def architecture(self, network: Network) -> Architecture:
        """By the config of a run's first checkpoint. Raises FormatError where the file's tensors contradict it."""
        loaded, where = self._load(network)
        config = _plain_config(loaded.value.get("config"), where)
        made = cnn_architecture(_cnn_config(config, where))
        tensors = found_in(loaded, "model").tensors
        # Room is made by the architecture's sizes, so these have to be the file's before anything else.
        odd = next((s for s in made.slots if s.key not in tensors or tensors[s.key].shape != s.shape), None)
        if odd is not None:
            shape = tensors[odd.key].shape if odd.key in tensors else "missing"
            raise FormatError(f"{where}: {odd.key} is {shape}, its config says {odd.shape}", hint="get it again")
        self._configs[network.row["run_id"]] = config
        return made

    def fingerprint(self) -> str:
        """Of all files below the folder, or of the zip file."""
        return fingerprint_of_files(self._files)

    def tensors(self, network: Network) -> Tensors:
        """The weights of a checkpoint whose config is that of its run."""
        loaded, where = self._load(network)
        if _plain_config(loaded.value.get("config"), where) != self._configs[network.row["run_id"]]:
            raise FormatError(
                f"{where} has another config than the first checkpoint of its run", hint="is it another run's?"
            )
        return found_in(loaded, "model").tensors

    def _read_record(self, network: Network) -> dict[str, Any]:
        loaded, where = self._load(network)
        last = loaded.value.get("last_result")
        score = last.get("test/acc") if isinstance(last, dict) else None
        step = checked.whole_number(loaded.value.get("iteration"), f"{where}: iteration")
        return {"training_step": step, "test_accuracy": checked.fraction(score, f"{where}: test/acc")}

    def _load(self, network: Network) -> tuple[Loaded, str]:
        """A checkpoint, whose value is a dictionary, and how errors name it."""
        name = network.place[0]
        where = f"{self.shown}/{printable(name, 160)}"
        loaded = load_checkpoint(network.source if self._archive is None else self._archive.open(name))
        if not isinstance(loaded.value, dict):
            raise FormatError(f"{where} holds a {type(loaded.value).__name__}, wanted are model and config")
        return loaded, where


def _read_published(path: Path) -> dict[str, dict[str, Any]]:
    """ "run/checkpoint folder" -> what the split file says of it. Raises FormatError."""
    shown = printable(path)
    records: dict[str, dict[str, Any]] = {}
    for split, content in checked.read_splits(path).items():
        paths, scores, steps = (checked.list_in(content, key, shown) for key in ("path", "score", "step"))
        if not len(paths) == len(scores) == len(steps):
            raise FormatError(f"{shown} has {len(paths)} paths, {len(scores)} scores and {len(steps)} steps in {split}")
        for entry, score, step in zip(paths, scores, steps, strict=True):
            tail = checked.path_tail(entry, 3, shown)
            net_id = "/".join(tail[:2] if tail[-1:] == ("checkpoint.pt",) else tail[-2:])
            where = f"{shown}: {printable(net_id, 120)}"
            if net_id in records:
                raise FormatError(f"{shown} lists {printable(net_id, 120)} twice")
            records[net_id] = {
                "split": split,
                "test_accuracy": checked.fraction(score, f"{where}: score"),
                "training_step": checked.whole_number(step, f"{where}: step"),
            }
    return records


def _plain_config(value: Any, where: str) -> dict[str, Any]:
    """The settings in a config as plain values. Raises FormatError."""
    found = _plain(value)
    if not isinstance(found, dict):
        kind = printable(value.class_name if isinstance(value, Stub) else type(value).__name__, 80)
        raise FormatError(f"{where} has a config of the kind {kind}", hint="get the file again")
    missing = [key for key in _KEYS if key not in found]
    if missing:
        raise FormatError(f"{where} has a config without {missing[0]}")
    return {key: found[key] for key in _KEYS}


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > 8:
        return None
    if isinstance(value, Stub):
        state = value.state if isinstance(value.state, dict) else {}
        name = value.class_name.rpartition(".")[2]
        if name in _NODES:
            return _plain(state.get("_val"), depth + 1)
        return _plain(state.get("_content") if name in ("DictConfig", "ListConfig") else state, depth + 1)
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    return [_plain(item, depth + 1) for item in value] if isinstance(value, list | tuple) else value


def _cnn_config(settings: dict[str, Any], where: str) -> CnnConfig:
    """The config as ours. Raises FormatError for lists of odd lengths, absurd sizes and unknown activations."""
    num_layers = _whole(settings["n_layers"], f"{where}: n_layers", 1, _MAX_LAYERS)
    lists = {
        key: _list(settings[key], num_layers + (key == "channels"), f"{where}: {key}")
        for key in (*_LISTS, "activation")
    }
    unknown = [name for name in lists["activation"] if name not in _ACTIVATIONS]
    if unknown:
        known = ", ".join(_ACTIVATIONS)
        raise FormatError(f"{where} has the activation {printable(unknown[0], 40)!r}, known are {known}")
    numbers = {
        key: tuple(_whole(n, f"{where}: {key}", low, _MAX_SIZE) for n in lists[key]) for key, low in _LISTS.items()
    }
    try:
        return CnnConfig(
            channels=numbers["channels"],
            kernels=numbers["kernel_size"],
            strides=numbers["stride"],
            paddings=numbers["padding"],
            activations=tuple(lists["activation"]),
            residuals=tuple(None if source < 0 else source for source in numbers["residual"]),
            num_classes=_whole(settings["n_classes"], f"{where}: n_classes", 1, _MAX_SIZE),
            image_shape=_IMAGE_SHAPE,
        )
    except ValueError as error:
        raise FormatError(f"{where} describes no network: {error}") from error


def _list(value: Any, length: int, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        found = f"{len(value)} entries" if isinstance(value, list) else printable(value, 40)
        raise FormatError(f"{where} has {found}, wanted are {length}")
    return value


def _whole(value: Any, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"{where} has {printable(value, 40)}, wanted is a number from {low} to {high}")
    return value
