"""The store: a zoo on disk. `docs/format.md` describes the format, `write_store` writes it, `open_store` reads it.

Format (schema, manifest, layout), bytes (storage, arrays, shards), writing (blocks, builder, writer, append, merge).
It may import architectures, columns, fetch's requests and the dtypes of `untrusted`, and nothing of what is stored.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zootool.store.layout import WriteOptions
    from zootool.store.reader import Store, open_store
    from zootool.store.writer import write_store

_HOMES = {
    "Store": "zootool.store.reader",
    "WriteOptions": "zootool.store.layout",
    "open_store": "zootool.store.reader",
    "write_store": "zootool.store.writer",
}

__all__ = ["Store", "WriteOptions", "open_store", "write_store"]


def __getattr__(name: str) -> Any:
    # `zootool.store.schema` is imported by many who need no Parquet and no arrays.
    if name not in _HOMES:
        raise AttributeError(f"module 'zootool.store' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
