"""The Small Transformer Zoo: `{mnist,ag_news}/{run}_{epoch}_{accuracy}.pt` with a table `metadata/{set}.csv`.

Each block computes fc2(relu(fc1(norm(attention(norm(x)))))), without skips, and the norms have no parameters; then come
a norm, the mean over the tokens and a classifier of two layers. MNIST's patches are embedded by a convolution, to which
positions are added. Another embedding, such as that of words, isn't part of a dynamic graph: its tensors are kept among
the extras, and the network begins behind it. Published splits are drawn anew by every reader, so here they are drawn by
run.
"""

import re
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from zootool.architecture import Activation, Architecture, Norm, Pooling, Timestamp, Tokens
from zootool.errors import FormatError, printable
from zootool.formats.checked_values import fraction, path_tail, plain_name, whole_number
from zootool.formats.collection import usual_images
from zootool.formats.foreign_tables import read_csv_rows
from zootool.formats.skeleton import NUMBER, TEXT, WHOLE, FileReader, Network
from zootool.nets.lay_out import Entry, lay_out
from zootool.untrusted.file_stack import Tensors

_ACCURACY = {"mnist": "test_top1_accuracy", "ag_news": "test_accuracy"}
_NUM_HEADS = 2
_NORM = Norm("layer")
_RELU = Activation("relu")
_MAX_BLOCKS = 64
_MAX_WIDTH = 1 << 14
_ATTENTION = ("queries", "keys", "values", "out_projection")
_BLOCK = (*(f"attention.{name}.weight" for name in _ATTENTION), "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
_CLASSIFIER = ("classifier.fc1.weight", "classifier.fc1.bias", "classifier.fc2.weight", "classifier.fc2.bias")


class _Line(NamedTuple):
    """A line of the metadata: the accuracy and "50", "75", "100" or "best*"."""

    accuracy: float | None
    epoch: str


class SmallTransformers(FileReader):
    """Every network of the sets of a source that have a table; "best" networks are of no step."""

    NAME = "small-transformers"
    TITLE = "Small Transformer Zoo: mnist/ or ag_news/, and metadata/"
    KIND = "transformer"
    FOLDERS = ("mnist", "ag_news")
    PARTS = (r"([^/\n]+)_([^/_]+)_(\d{1,5})\.pt",)
    COLUMNS = pa.schema({
        "net_id": TEXT, "dataset": TEXT, "split": TEXT, "run_id": TEXT, "training_step": WHOLE, "checkpoint": TEXT,
        "test_accuracy": NUMBER,
    })  # fmt: skip
    GROUP = "dataset"
    CONVENTIONS: ClassVar = {"training_step": "epoch", "norms": "layer norms without parameters"}
    # The shares of the zoo's own reader, which shuffles without a seed.
    SHARES = (0.7, 0.15, 0.15)

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether there is a table in metadata/ for a folder of that name."""
        return bool(_sets_in(path))

    def folders(self) -> list[Path]:
        return [self.path / name for name in _sets_in(self.path)]

    def network(self, file: Path, match: re.Match[str]) -> Network | None:
        name = file.parent.name
        if file.parent.parent != self.path:
            return None
        run = f"{name}/{plain_name(match[1], f'a run in {self.shown}')}"
        row = {"net_id": f"{name}/{file.stem}", "dataset": name, "run_id": run, "epoch": match[2]}
        return Network(file, (self.FOLDERS.index(name), file.name), row)

    def complete(self) -> None:
        """What the tables say."""
        self._lines = {name: _metadata(self.path / "metadata" / f"{name}.csv", name) for name in _sets_in(self.path)}
        for network in self.networks:
            line = self._lines[network.row["dataset"]].get(network.source.name)
            epoch = network.row["epoch"] if line is None else line.epoch
            where = f"{printable(network.source)}: its epoch"
            network.row["training_step"] = whole_number(epoch, where) if epoch.isdigit() else None
            if line is not None:
                network.row.update({"checkpoint": printable(line.epoch, 40), "test_accuracy": line.accuracy})

    def architecture(self, network: Network) -> Architecture:
        return _Layers(self.tensors(network), printable(network.source)).architecture()

    def about(self) -> dict[str, Any]:
        """Notes are on gaps between tables and folders, and on tensors that are no part of a network's graph."""
        notes = ["the zoo's own reader shuffles without a seed: its splits can't be repeated"]
        unlisted = sum("checkpoint" not in network.row for network in self.networks)
        if unlisted:
            notes.append(f"{unlisted:,} networks are in no table of metadata/: their accuracy is null")
        names = {(network.row["dataset"], network.source.name) for network in self.networks}
        absent = sum((name, file) not in names for name, files in self._lines.items() for file in files)
        if absent:
            notes.append(f"metadata/ lists {absent:,} networks that aren't here, or weren't asked for")
        slots = [slot for architecture in self.architectures for slot in architecture.slots]
        extras = sorted({slot.key for slot in slots if slot.timestamp is None and slot.role == "other"})
        if extras:
            behind = "kept among the extras; the network begins behind this embedding, at the encoder's input"
            notes.append(f"{printable(', '.join(extras), 160)}: {behind}")
        is_mnist = set(self.column("dataset")) == {"mnist"}
        assumed = f"attention is taken to have {_NUM_HEADS} heads, as in the zoo's paper"
        return {
            "image_sets": (usual_images("mnist"),) if is_mnist else (),
            "notes": notes,
            "assumptions": ((assumed,),) * len(self.architectures),
        }


def _sets_in(path: Path) -> list[str]:
    sets = SmallTransformers.FOLDERS
    return [name for name in sets if (path / "metadata" / f"{name}.csv").is_file() and (path / name).is_dir()]


def _metadata(path: Path, name: str) -> dict[str, _Line]:
    """File name -> its line. A file that is listed as "best*" and by its epoch too is known by its epoch."""
    column = _ACCURACY[name]
    lines: dict[str, _Line] = {}
    for number, cells in enumerate(read_csv_rows(path, ("ckpt_epoch", "ckpt_file", column)), start=2):
        where = f"{printable(path)} line {number}"
        file = "/".join(path_tail(cells["ckpt_file"], 1, where))
        line = _Line(fraction(cells[column], f"{where}: {column}"), cells["ckpt_epoch"].strip())
        known = lines.get(file)
        if known is not None and known.accuracy != line.accuracy:
            raise FormatError(f"{where} gives {printable(file, 80)} another accuracy than an earlier line")
        if known is None or not known.epoch.isdigit():
            lines[file] = line
    return lines


class _Layers:
    """The layers of a network with these tensors, one after another. Raises FormatError for others than the zoo's."""

    def __init__(self, tensors: Tensors, shown: str) -> None:
        self._tensors = tensors
        self._shown = shown
        self._timestamps: list[Timestamp] = []
        self._entries: list[Entry] = []

    def architecture(self) -> Architecture:
        """The architecture; tensors that no layer uses are kept beside it."""
        num_blocks = self._count_blocks()
        dim = self._shape("encoder.0.attention.queries.weight")[1]
        tokens = Tokens(positions="learned") if self._add_embedding(dim) else None
        for block in range(num_blocks):
            self._add_block(f"encoder.{block}", block, dim)
        pooled = self._shape("classifier.fc1.weight")[0]
        self._add_layer(
            "classifier.fc1",
            Timestamp("pool_linear", pooled, dim, source_norm=_NORM, pooling=Pooling("mean"), activation=_RELU),
        )
        self._add_layer("classifier.fc2", Timestamp("linear", self._shape("classifier.fc2.weight")[0], pooled))
        for timestamp in self._timestamps:
            if max(timestamp.num_nodes, timestamp.num_sources) > _MAX_WIDTH:
                raise FormatError(
                    f"{self._shown} has a layer of {timestamp.num_nodes} nodes, at most {_MAX_WIDTH} are read"
                )
        known = {entry.key for entry in self._entries}
        for key in self._tensors:
            if key not in known:
                self._add_entry(key, "other", None)
        num_inputs = self._timestamps[0].num_sources
        return lay_out(num_inputs, self._timestamps, self._entries, family="transformer", tokens=tokens)

    def _count_blocks(self) -> int:
        numbers = {match[1] for key in self._tensors if (match := re.match(r"encoder\.(\d{1,6})\.", key))}
        blocks = sorted(map(int, numbers))
        if not blocks or blocks != list(range(len(blocks))) or len(blocks) > _MAX_BLOCKS:
            raise FormatError(f"{self._shown} has the encoder blocks {blocks[:8]}, wanted are 0, 1, ...")
        wanted = {f"encoder.{block}.{part}" for block in blocks for part in _BLOCK} | set(_CLASSIFIER)
        odd = next((key for key in self._tensors if key not in wanted and not key.startswith("embedding.")), None)
        odd = odd or next((key for key in sorted(wanted) if key not in self._tensors), None)
        if odd is not None:
            state = "has" if odd in self._tensors else "lacks"
            raise FormatError(
                f"{self._shown} {state} {printable(odd, 80)!r}: it is no network of the small transformer zoo"
            )
        return len(blocks)

    def _add_embedding(self, dim: int) -> bool:
        """Whether images become tokens by a convolution and positions, which are the first timestamp then."""
        own = {key: tensor.shape for key, tensor in self._tensors.items() if key.startswith("embedding.")}
        position = next((key for n in (2, 3) for key, shape in own.items() if "pos" in key and len(shape) == n), None)
        weight, bias = (
            next((key for key, shape in own.items() if "pos" not in key and len(shape) == n), None) for n in (4, 1)
        )
        if weight is None or bias is None or position is None or len(own) != 3:
            return False
        channels_out, channels_in, height, width = own[weight]
        are_fit = own[position][-1] == dim and own[position][:-2] in ((), (1,)) and own[bias] == (dim,)
        if channels_out != dim or height != width or not are_fit:
            return False
        self._timestamps.append(
            Timestamp("conv", dim, channels_in, height * width, kernel=(height, width), stride=height)
        )
        self._add_entry(weight, "weight", 1)
        self._add_entry(bias, "bias", 1)
        self._add_entry(position, "position", None)
        return True

    def _add_block(self, prefix: str, block: int, dim: int) -> None:
        names = [f"{prefix}.attention.{name}.weight" for name in _ATTENTION]
        queries, keys, values, out = map(self._shape, names)
        inner = queries[0]
        if keys != queries or values != queries or out != (dim, inner) or inner % _NUM_HEADS:
            raise FormatError(
                f"{self._shown}: the attention of block {block} has {queries}, {keys}, {values} and {out}"
            )
        first = len(self._timestamps) + 1
        self._timestamps += [
            Timestamp("qkv", 3 * inner, dim, has_bias=False, source_norm=_NORM, num_heads=_NUM_HEADS),
            Timestamp("attention", inner, 3 * inner, edges_per_pair=0, has_bias=False, num_heads=_NUM_HEADS),
            Timestamp("linear", dim, inner, has_bias=False),
        ]
        for name, timestamp in zip(names, (first, first, first, first + 2), strict=True):
            self._add_entry(name, "weight", timestamp)
        hidden = self._shape(f"{prefix}.fc1.weight")[0]
        self._add_layer(f"{prefix}.fc1", Timestamp("linear", hidden, dim, source_norm=_NORM, activation=_RELU))
        self._add_layer(f"{prefix}.fc2", Timestamp("linear", dim, hidden))

    def _add_layer(self, prefix: str, timestamp: Timestamp) -> None:
        weight, bias = (self._tensors[f"{prefix}.{part}"].shape for part in ("weight", "bias"))
        wanted = (timestamp.num_nodes, timestamp.num_sources)
        if weight != wanted or bias != wanted[:1]:
            raise FormatError(f"{self._shown}: {prefix} is {weight} and {bias}, wanted is {wanted}")
        self._timestamps.append(timestamp)
        self._add_entry(f"{prefix}.weight", "weight", len(self._timestamps))
        self._add_entry(f"{prefix}.bias", "bias", len(self._timestamps))

    def _shape(self, key: str) -> tuple[int, ...]:
        shape = self._tensors[key].shape
        if len(shape) != 2 or min(shape) < 1:
            raise FormatError(f"{self._shown}: {printable(key, 80)} is {shape}, wanted are 2 axes")
        return shape

    def _add_entry(self, key: str, role: Any, timestamp: int | None) -> None:
        tensor = self._tensors[key]
        self._entries.append(Entry(key, tensor.shape, role, timestamp, tensor.dtype))
