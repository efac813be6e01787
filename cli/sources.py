"""`zoo show` and `zoo convert`: a source of checkpoints looked at, and turned into a store."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.console import JsonOption, answer, listed, progress_bars, shown
from cli.groups import NewStoreArgument, with_groups
from zootool.errors import MissingError, UsageError, printable

if TYPE_CHECKING:
    from zootool.formats.options import ReadOptions
    from zootool.formats.preview import Preview

_MAX_LINES = 8
_MAX_LEFT_OUT = 20


@dataclass(frozen=True)
class Reading:
    """What a source of checkpoints doesn't say itself."""

    format: Annotated[str | None, typer.Option("--format", help="How the source lies on disk; else found out.")] = None
    steps: Annotated[str | None, typer.Option(help="Training steps to keep, such as 20,40,86.")] = None
    splits: Annotated[Path | None, typer.Option(help="A published file of splits.")] = None
    labels: Annotated[Path | None, typer.Option(help="A table of labels: CSV, JSON lines or Parquet.")] = None
    architecture: Annotated[
        Path | None, typer.Option(help="YAML that declares the architecture (docs/collecting.md).")
    ] = None
    clean: Annotated[bool, typer.Option("--clean", help="Without the known slips of a published protocol.")] = False
    split_seed: Annotated[int, typer.Option(min=0, help="Of splits that the source leaves open.")] = 0
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Where each file keeps its weights, such as ema, models.generator or encoder."
        ),
    ] = None
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave out files and folders of such names; repeatable.")
    ] = None
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what can't be read; reads all first.")] = False
    grid: Annotated[
        Literal["ij", "xy"] | None,
        typer.Option(help="Whether an INR's first input is an image's row (ij) or column (xy)."),
    ] = None
    split_names: Annotated[
        str | None, typer.Option("--split-names", help="A table's own words for splits, such as holdout=test.")
    ] = None
    check: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FACTORY",
            help="Your own code that gives the networks' module (net.py:build): its outputs are compared. "
            "Runs that code.",
        ),
    ] = None

    def options(self) -> "ReadOptions":
        """What readers take. Raises UsageError and MissingError."""
        from zootool.formats.options import ReadOptions

        for path in (self.splits, self.labels, self.architecture):
            if path is not None and not path.is_file():
                raise MissingError(f"there is no file {printable(path)}", hint="check the path")
        try:
            steps = tuple(int(step) for step in self.steps.split(",")) if self.steps else ()
        except ValueError as error:
            raise UsageError(
                f"can't read --steps {printable(self.steps, 60)}", hint="write it like --steps 20,40,86"
            ) from error
        if any(not pattern.strip("/") for pattern in self.exclude or ()):
            raise UsageError("--exclude needs a pattern", hint="write it like --exclude 'optimizer.pt'")
        words = self.split_names.split(",") if self.split_names else []
        names = dict(word.split("=", 1) for word in words if "=" in word)
        if len(names) != len(words):
            raise UsageError(
                f"can't read --split-names {printable(self.split_names, 60)}",
                hint="write it like --split-names holdout=test",
            )
        # The other options go by the names that readers have for them.
        given: dict[str, Any] = {key: value for key, value in vars(self).items() if key not in ("format", "split_seed")}
        given |= {"steps": steps, "exclude": tuple(self.exclude or ()), "split_names": names}
        return ReadOptions(seed=self.split_seed, **given)


@with_groups
def show(
    *,
    source: Annotated[Path, typer.Argument(help="Checkpoints in any format: see `zoo convert`.")],
    reading: Reading,
    sample: Annotated[int, typer.Option(min=1, help="How many networks are read, to find problems.")] = 16,
    as_json: JsonOption = False,
) -> None:
    """Preview a source of checkpoints without converting it: format, counts, labels, splits, first problems.

    Example: zoo show siren_mnist_wts
    """
    from zootool.build.units import is_unit_folder
    from zootool.conversion.convert import collect
    from zootool.formats.preview import preview
    from zootool.store.schema import MANIFEST_JSON

    if (source / MANIFEST_JSON).is_file():
        raise UsageError(f"{source} is a store already", hint=f"zoo info {source}")
    if reading.format is None and is_unit_folder(source):
        raise UsageError(
            f"{source} is a folder that `zoo build` wrote", hint=f"zoo build siren --status --out {source}"
        )
    found = preview(collect(source, reading.format, reading.options()), sample)
    answer(as_json, {"source": str(source), **asdict(found)}, *_lines(found))


def _lines(found: "Preview") -> Iterator[str]:
    yield f"format         {found.format}"
    yield f"networks       {found.num_networks:,} ({shown(found.kind)})"
    for a in found.architectures[:_MAX_LINES]:
        nodes = "-".join(map(str, a.node_counts if len(a.node_counts) < 9 else (*a.node_counts[:8], "...")))
        spelled = f", under {a.num_spellings:,} sets of names or dtypes" if a.num_spellings > 1 else ""
        size = f"{a.num_networks:,} networks of {a.num_parameters:,} weights and biases{spelled}"
        yield f"architecture   {a.signature[:8]} {shown(a.family)} {nodes}: {size}"
        for text in a.assumptions:
            yield f"[yellow]assumed[/]        {shown(text, 500)}"
    if len(found.architectures) > _MAX_LINES:
        yield f"               and {len(found.architectures) - _MAX_LINES:,} more architectures"
    yield f"columns        {listed(found.columns)}"
    for noun, counts in (("splits", found.splits), ("labels", found.labels)):
        if counts:
            yield f"{noun:<14} {listed([f'{name} {count:,}' for name, count in counts.items()], 12)}"
    for key, value in found.conventions.items():
        yield f"convention     {shown(key)}: {shown(value)}"
    for text in found.notes:
        yield f"[yellow]note[/]           {shown(text)}"
    for left in found.left_out[:_MAX_LEFT_OUT]:
        yield f"[yellow]left out[/]       {shown(left.file)}: {shown(left.reason)}"
    if len(found.left_out) > _MAX_LEFT_OUT:
        yield f"[yellow]left out[/]       and {len(found.left_out) - _MAX_LEFT_OUT:,} more"
    for text in found.problems[:_MAX_LINES]:
        yield f"[red]problem[/]        {shown(text)}"
    if not found.problems:
        yield f"[green]no problems[/] in {found.num_read:,} networks that were read"


@with_groups
def convert(
    *,
    source: Annotated[Path, typer.Argument(help="A folder that `zoo build` wrote, or checkpoints in any format.")],
    destination: NewStoreArgument,
    name: Annotated[str | None, typer.Option(help="The zoo's name; by default the store's.")] = None,
    zstd: Annotated[int | None, typer.Option(min=-7, max=22, help="Compress chunks at this zstd level.")] = None,
    keep_nonfinite: Annotated[
        bool,
        typer.Option("--keep-nonfinite", help="Keep networks with NaN or infinite weights, marked is_finite=false."),
    ] = False,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Carry the source images along, where their terms allow it.")
    ] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Add the networks that DESTINATION doesn't have yet: a new version of it.")
    ] = False,
    reading: Reading,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and check; never changes a byte.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Convert networks into a store: one folder with all weights, checked and fast to read.

    Example: zoo convert runs/digits digits.zoo
    """
    from zootool.conversion.convert import append as append_networks
    from zootool.conversion.convert import convert as convert_networks
    from zootool.store import WriteOptions

    options = WriteOptions(workers, zstd, "keep" if keep_nonfinite else "refuse")
    given: dict[str, Any] = {"format": reading.format, "reading": reading.options(), "options": options}
    if append and (name or with_images):
        raise UsageError("--append keeps the store's name and adds no images", hint="leave out --name, --with-images")
    known = 0
    with progress_bars() as report:
        if append:
            known = append_networks(source, destination, report=report, **given).num_known
        else:
            convert_networks(source, destination, name=name, with_images=with_images, report=report, **given)
    _show_store(destination, known, as_json)


def _show_store(destination: Path, known: int, as_json: bool) -> None:
    from zootool.store import open_store
    from zootool.store.schema import assumed_lines

    store = open_store(destination)
    had = f", which had {known:,} of them already" if known else ""
    provenance = store.info.provenance
    left_out = provenance.get("left_out", [])
    more = provenance.get("num_left_out", 0) - len(left_out)
    answer(
        as_json,
        {"path": str(destination), "id": store.zoo_id, "num_networks": len(store), "known": known},
        f"[green]wrote[/] {shown(destination)}: {len(store):,} networks{had}, id {store.zoo_id[:16]}",
        *(f"[yellow]note[/] {shown(text)}" for text in provenance.get("notes", [])),
        *(f"[yellow]left out[/] {shown(left['file'])}: {shown(left['reason'])}" for left in left_out),
        f"[yellow]left out[/] and {more:,} more" if more > 0 else "",
        *(f"[yellow]assumed[/] {shown(text, 500)}" for text in assumed_lines(store.info.assumptions)),
    )
