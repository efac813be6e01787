"""Guessing an Architecture from the names, order and shapes of a checkpoint's tensors.

Names and shapes say how tensors follow one another, not what happens between them: activations, strides and paddings
are assumptions, and said to be. Whoever knows better declares the architecture (`zootool.nets.declared`).
"""

import re
from collections import Counter
from collections.abc import Sequence

from zootool.architecture import Activation
from zootool.errors import FormatError, printable
from zootool.nets.chain import HINT, ChainOptions, Inferred, chain_of
from zootool.nets.lay_out import bare_names, with_keys
from zootool.nets.module_names import Module, Shapes, modules_of, num_outer

_RESNET_BLOCK = re.compile(r"(?:.*\.)?layer[0-9]+\.[0-9]+\.(conv|bn)[0-9]+\..*")
_RESNET_DEPTHS = range(8, 1203, 6)

_SINE = Activation("sine", omega_0=30.0)
_COORDINATES = 4
_SINE_LAYER = re.compile(r"(?P<box>(?:.*\.)?[^.]+)\.(?P<number>[0-9]{1,3})\.linear")
_FIRST_CODE = re.compile(r"(?P<box>(?:.*\.)?[^.]+)\.(?P<number>[0-9]{1,3})\.0")
_PLAIN_LAYER = re.compile(r"(?P<box>(?:.*\.)?[^.]+)\.(?P<number>[0-9]{1,3})")
_LAST_LAYER = re.compile(r"(last|final|output)(_layer|_linear)?(\.linear)?")
_SIREN_WORDS = re.compile(r".*(siren|sine|inr|coin|nerf|omega).*")

_BLOCK = re.compile(r".*[0-9]")
_UNSUPPORTED = "zootool doesn't hold such networks yet: leave the file out"
_ADAPTER = ("an adapter (LoRA)", "merge it into its network and convert that")
_RECURRENT = ("a recurrent layer", _UNSUPPORTED)
_OPTIMIZER = "an optimizer's state"
# What a tensor's own name (the key's last segment, or the whole key where it has no other) says: pattern, words, hint.
_TENSORS: tuple[tuple[str, str, str], ...] = (
    (r"lora_(a|b|down|up|embedding|mid|magnitude).*|hada_.*|lokr_.*|oft_.*|ia3_.*|.*\.lora_.*", *_ADAPTER),
    (
        r"exp_avg.*|max_exp_avg.*|momentum_buffer|square_avg|acc_delta|optimizer.*",
        _OPTIMIZER,
        "leave it out, or convert the model's own file",
    ),
    (r"(weight|bias)_(ih|hh)(_.*)?", *_RECURRENT),
    (r"in_proj_(weight|bias)|[qkv]_proj_weight|bias_[kv]", "attention", HINT),
    (
        r"qweight|qzeros|scales|g_idx|weight_(scale|packed|format|shape|zero_point)|absmax|quant_.*|_packed_params.*|scb"
        r"|zero_point|.*quant_state.*",
        "quantised weights",
        "convert the network before it was quantised",
    ),
    (
        r"weight_(g|v|orig|mask|u)|bias_mask|original[0-9]*|_u|_v",
        "a reparametrised weight (a weight norm, spectral norm or pruning)",
        "remove the reparametrisation in torch and save again",
    ),
    (r"n_averaged", "an average's counter (AveragedModel)", "--weights module takes the network"),
    (r"_?flat_param.*", "a flattened parameter of FSDP", "gather the full state_dict in torch and save that"),
)
# What a module's name (any segment of its path) says.
_MODULES: tuple[tuple[str, str, str], ...] = (
    (r"lora_.*|hada_.*|lokr_.*|.*adapter.*", *_ADAPTER),
    (r"(optim|optimizer|exp_avg|exp_avg_sq|momentum)[0-9]*", _OPTIMIZER, "leave it out"),
    (r".*(lstm|gru|rnn).*", *_RECURRENT),
    (
        r".*attn.*|.*attention.*|qkv|(to_|wi?)?[qkv](_?proj|_?lin)?|(to_|c_)(qkv|kv|attn)|mha|key|query",
        "attention",
        HINT,
    ),
    (r"(.*_)?(emb|embed|embeddings?|embedder|wte|wpe)([0-9_].*)?|.*embedding", "an embedding", HINT),
    (r".*(shortcut|downsample|skip|residual).*|res_?(net|block|blocks|unit|layer|layers)?_?[0-9]*", "residuals", HINT),
    (r"parametrizations", "a reparametrised weight", "remove the reparametrisation in torch and save again"),
    (r".*(deconv|transpose|upconv|convt|up_?sample).*", "a transposed convolution or upsampling", _UNSUPPORTED),
    (r"(moe|experts?|router|gate|gate_proj|.*branch.*)[0-9_]*", "parallel branches or gates", _UNSUPPORTED),
    (
        r"(generator|discriminator|netg|netd|actor|critic|student|teacher|ema|target|target_.*|online|online_.*)",
        "several networks in one file",
        "--weights {place} takes this one",
    ),
    (
        r"criterion|(.*_)?(loss|metrics?)(_.*)?|(train|val|valid|test)_(acc|accuracy|auroc|f1)",
        "a loss or a metric",
        "--weights KEY takes the part that is the network, such as --weights model",
    ),
    (r"(fc_?|lin_?|linear_?)?(mu|log_?var|log_?std|sigma)", "two outputs beside one another", _UNSUPPORTED),
)


def infer_architecture(shapes: Shapes, where: str = "the checkpoint") -> Inferred:
    """The architecture of a SIREN, a CIFAR ResNet or a chain of layers. Raises FormatError for anything else."""
    if any("to_patch_embedding" in module.path for module in modules_of(shapes)):
        raise FormatError(
            f"{where} is a SimpleViT, whose number of heads is in no tensor",
            hint="declare it in YAML: `like: simple-vit` with num_heads and the other sizes",
        )
    for recognise in (_cifar_resnet, _refuse_foreign, _siren):
        try:
            found = recognise(shapes, where)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # Names without the weights that belong to them: it isn't what this one knows.
            continue
        if found is not None:
            return found
    try:
        return chain_of(shapes, where)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise FormatError(f"{where} has tensors that make no chain of layers", hint=HINT) from error


def _cifar_resnet(shapes: Shapes, where: str) -> Inferred | None:
    """A CIFAR ResNet by the names of its blocks, behind whatever prefix; its classifier may be called fc."""
    bare = {re.sub(r"^fc\.", "linear.", name): key for name, key in bare_names(shapes).items()}
    if not any(_RESNET_BLOCK.fullmatch(name) for name in bare):
        return None
    depth = 2 + sum(re.fullmatch(r"layer[123]\.[0-9]+\.conv[12]\.weight", name) is not None for name in bare)
    classes = next((shapes[key][0][0] for name, key in bare.items() if name == "linear.bias" and shapes[key][0]), 0)
    try:
        if depth not in _RESNET_DEPTHS or not 1 <= classes <= 100_000:
            raise FormatError(f"it has {depth} layers and {classes} classes")
        from zootool.nets.resnet import cifar_resnet_architecture  # it is traced, by torch

        architecture = with_keys(cifar_resnet_architecture(depth, classes), shapes, "it", bare)
    except FormatError as error:
        raise FormatError(
            f"{where} has the names of a ResNet, but isn't one for CIFAR with bare shortcuts: {error.message}",
            hint="shortcuts with weights can't be held; any other network can be declared in YAML",
        ) from error
    return Inferred(
        architecture, ("shortcuts are taken to skip every second pixel and to add zero channels on both sides",)
    )


def _refuse_foreign(shapes: Shapes, where: str) -> None:
    """Raise FormatError for names of what no chain is, even where its shapes happen to fit one."""
    modules = modules_of(shapes)
    shared = num_outer(modules)
    for module in modules:
        for name in module.tensors:
            _refuse_named(_TENSORS, (name,), module.key(name), where)
        _refuse_named(_MODULES, module.path[shared:], module.name, where)
    # Blocks of several named layers with as many outputs as inputs, as residual ones have.
    blocks: dict[tuple[str, ...], list[Module]] = {}
    for module in modules:
        if len(module.weight) in (2, 4) and not module.path[-1].isdecimal():
            blocks.setdefault(module.path[:-1], []).append(module)
    for path, layers in blocks.items():
        if len(layers) < 2 or not path or not _BLOCK.fullmatch(path[-1]):
            continue
        # In a chain of these, what goes in comes out where sources and nodes are the same sizes.
        if Counter(layer.weight[1] for layer in layers) == Counter(layer.weight[0] for layer in layers):
            raise FormatError(
                f"{where}: {printable('.'.join(path), 80)!r} is a block of {len(layers)} layers with as many outputs "
                "as inputs, so perhaps one with a residual",
                hint=HINT,
            )


def _refuse_named(table: Sequence[tuple[str, str, str]], segments: Sequence[str], shown: str, where: str) -> None:
    for pattern, what, hint in table:
        segment = next((segment for segment in segments if re.fullmatch(pattern, segment.lower())), None)
        if segment is not None:
            place = printable(shown.partition(f"{segment}.")[0] + segment, 80)
            raise FormatError(
                f"{where}: {printable(shown, 80)!r} is named like {what}, so no chain of layers",
                hint=hint.replace("{place}", place),
            )


def _siren(shapes: Shapes, where: str) -> Inferred | None:
    """A SIREN by what the published code calls its layers."""
    modules = modules_of(shapes)
    if any(len(module.weight) != 2 or not set(module.tensors) <= {"weight", "bias"} for module in modules):
        return None
    found = _siren_layers(modules)
    if found is None:
        return None
    layers, has_sine_output, is_certain = found
    if not is_certain:
        chain_of(shapes, where)  # what is no chain is no SIREN either, and is refused for that
        raise FormatError(
            f"{where}: {printable(layers[0].name, 80)!r} is called like a SIREN's layer, but others are too",
            hint="declare `like: siren` with num_inputs, hidden, num_outputs and omega_0 (siren-pytorch: omega_0: 1, "
            "first_omega_0: 30), or `like: chain` with its `activation`",
        )
    output = _SINE if has_sine_output else Activation()
    options = ChainOptions(tuple(layer.name for layer in layers), _SINE, output, "siren")
    said = "a sine too, as its name is" if has_sine_output else "linear, with nothing added to it"
    notes = ("layers are taken for sines with omega_0 = 30, as their names are", f"the output is taken for {said}")
    return Inferred(chain_of(shapes, where, options).architecture, notes)


def _siren_layers(modules: Sequence[Module]) -> tuple[tuple[Module, ...], bool, bool] | None:
    """Layers that are called like a SIREN's, from first to last, None where they aren't.

    Also whether the output is called like a sine, and whether other networks hardly have such names.
    """
    texts = [".".join(module.path) for module in modules]
    takes_coordinates = min(module.weight[1] for module in modules) <= _COORDINATES
    has_words = any(_SIREN_WORDS.fullmatch(text.lower()) for text in texts)
    box, layers, rest = _numbered(_SINE_LAYER, modules)
    if layers and len(rest) <= 1:
        # net.0.linear of the SIREN notebook and the neural-functional sets, COIN with last_layer.linear.
        head, _, name = box.rpartition(".")
        last = ".".join(rest[0].path) if rest else ""
        ends = {f"{box}.{len(layers)}", f"{box}.{len(layers)}.linear"}
        if not rest or last in ends or _LAST_LAYER.fullmatch(last.removeprefix(f"{head}.")):
            is_certain = name == "net" or has_words
            if is_certain or takes_coordinates:
                return (*layers, *rest), not rest, is_certain
    box, layers, rest = _numbered(_FIRST_CODE, modules)
    if layers and not rest and (box.endswith("net.net") or (box.endswith("net") and takes_coordinates)):
        # net.net.0.0 of the first SIREN code, whose activation is a setting; without coordinates it is an encoding.
        return layers, False, box.endswith("net.net") and takes_coordinates
    _, layers, rest = _numbered(_PLAIN_LAYER, modules)
    is_of_pytorch = layers and len(rest) == 1 and _LAST_LAYER.fullmatch(rest[0].path[-1])
    if takes_coordinates and (has_words or is_of_pytorch or any(map(_SINE_LAYER.fullmatch, texts))):
        # layers.0 and last_layer of siren-pytorch are anybody's names.
        return tuple(modules), False, False
    return None


def _numbered(pattern: re.Pattern[str], modules: Sequence[Module]) -> tuple[str, tuple[Module, ...], Sequence[Module]]:
    """The box of the modules that a pattern fits, if they are 0, 1, ... in one box, those modules, and all others."""
    matches = [(pattern.fullmatch(".".join(module.path)), module) for module in modules]
    found = sorted((int(match["number"]), module.name, module) for match, module in matches if match)
    boxes = {match["box"] for match, _ in matches if match}
    rest = [module for match, module in matches if not match]
    if len(boxes) != 1 or [number for number, *_ in found] != list(range(len(found))):
        return "", (), rest
    return boxes.pop(), tuple(module for *_, module in found), rest
