"""A selection of a zoo as a store of its own."""

from pathlib import Path

from zootool.errors import MissingError
from zootool.progress import Reporter, silent
from zootool.store.builder import WriteOptions
from zootool.store.rows import StoreRows, info_of, nonfinite_of
from zootool.store.stored_images import stored_images
from zootool.store.writer import write_store
from zootool.zoo.zoo import Zoo


def subset(
    zoo: Zoo,
    destination: str | Path,
    *,
    name: str | None = None,
    options: WriteOptions | None = None,
    report: Reporter = silent,
) -> str:
    """Write the selected networks as a new store, with their images where the zoo carries them; returns its id.

    Raises MissingError for an empty selection, and what writing a store raises.
    """
    destination = Path(destination)
    if len(zoo) == 0:
        raise MissingError(
            f"no network of {zoo.info.name} is selected", hint=zoo.why_empty or "see the columns with `zoo info`"
        )
    provenance: dict[str, object] = {"subset_of": {"name": zoo.info.name, "id": zoo.id, "num_networks": len(zoo.store)}}
    options = options or WriteOptions(nonfinite=nonfinite_of(zoo.store))
    source = StoreRows(zoo.store, zoo.rows, info_of(zoo.store, name or destination.stem, provenance, zoo.rows))
    return write_store(destination, source, options, report, images=stored_images(zoo.store))
