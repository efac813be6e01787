"""SimpleViT checkpoints of several versions of vit-pytorch: their architecture, by their own keys.

Older versions embed patches by a linear layer alone (`to_patch_embedding.1`), and have the last norm behind the mean
over the tokens, as `linear_head.0`, rather than before it as `transformer.norm`. That is another network, not only
another name.
"""

from collections.abc import Mapping
from dataclasses import replace

from zootool.architecture import Architecture, Pooling, Timestamp
from zootool.errors import FormatError, printable
from zootool.nets.lay_out import Entry, entries_of, lay_out
from zootool.nets.vit_architecture import SimpleVitConfig, simple_vit_architecture
from zootool.untrusted.lazy_tensor import LazyTensor

HYPERPARAMETERS = ("patch_size", "num_classes", "dim", "dim_head", "depth", "heads", "mlp_dim")

_MAX_DEPTH = 64
_EMBEDDING_NORMS = ("to_patch_embedding.1.", "to_patch_embedding.3.")


def vit_architecture(settings: Mapping[str, int], tensors: Mapping[str, LazyTensor], shown: str) -> Architecture:
    """The architecture of a network with these hyper-parameters and tensors.

    Raises FormatError where they contradict each other.
    """
    architecture = simple_vit_architecture(_config(settings, tensors, shown))
    if f"{_EMBEDDING_NORMS[1]}weight" not in tensors:
        architecture = _without_embedding_norms(architecture)
    if "transformer.norm.weight" not in tensors:
        architecture = _with_norm_behind_mean(architecture)
    wanted = {slot.key: slot.shape for slot in architecture.slots}
    odd = next((key for key, shape in wanted.items() if key not in tensors or tensors[key].shape != shape), None)
    odd = odd or next((key for key in tensors if key not in wanted), None)
    if odd is not None:
        got = tensors[odd].shape if odd in tensors else "missing"
        raise FormatError(
            f"{shown}: {printable(odd, 80)} is {got}, vit_hyperparameters.json says {wanted.get(odd, 'nothing of it')}",
            hint="is it another zoo's?",
        )
    return architecture


def _config(settings: Mapping[str, int], tensors: Mapping[str, LazyTensor], shown: str) -> SimpleVitConfig:
    embedding = tensors.get("to_patch_embedding.2.weight", tensors.get("to_patch_embedding.1.weight"))
    pixels = settings["patch_size"] ** 2
    if embedding is None or len(embedding.shape) != 2 or pixels == 0 or embedding.shape[1] % pixels:
        raise FormatError(f"{shown} has no patch embedding for patches of {settings['patch_size']} pixels")
    if not 1 <= settings["depth"] <= _MAX_DEPTH or min(settings.values()) < 1 or settings["dim"] % 4:
        raise FormatError(f"{shown}: vit_hyperparameters.json describes no network: {dict(settings)}")
    return SimpleVitConfig(
        channels=embedding.shape[1] // pixels,
        patch_size=settings["patch_size"],
        dim=settings["dim"],
        depth=settings["depth"],
        num_heads=settings["heads"],
        head_dim=settings["dim_head"],
        mlp_dim=settings["mlp_dim"],
        num_classes=settings["num_classes"],
    )


def _without_embedding_norms(architecture: Architecture) -> Architecture:
    first, *rest = architecture.timestamps
    entries = [
        replace(entry, key=entry.key.replace("to_patch_embedding.2.", "to_patch_embedding.1."))
        for entry in entries_of(architecture)
        if not entry.key.startswith(_EMBEDDING_NORMS)
    ]
    return _laid_out(architecture, [replace(first, source_norm=None, norm=None), *rest], entries)


def _with_norm_behind_mean(architecture: Architecture) -> Architecture:
    *rest, last, head = architecture.timestamps
    timestamps = [
        *rest,
        replace(last, output_pooling=Pooling("mean")),
        replace(head, kind="linear", pooling=None),
    ]
    names = {"transformer.norm.": "linear_head.0.", "linear_head.": "linear_head.1."}
    entries = []
    for entry in entries_of(architecture):
        prefix = next((old for old in names if entry.key.startswith(old)), "")
        entries.append(replace(entry, key=names.get(prefix, "") + entry.key.removeprefix(prefix)))
    entries.sort(key=lambda entry: entry.key.startswith("linear_head."))
    return _laid_out(architecture, timestamps, entries)


def _laid_out(architecture: Architecture, timestamps: list[Timestamp], entries: list[Entry]) -> Architecture:
    return lay_out(architecture.num_inputs, timestamps, entries, family=architecture.family, tokens=architecture.tokens)
