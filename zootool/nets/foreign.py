"""Networks that are no chain of layers, known by the names of their tensors: to be refused by name."""

import re
from collections import Counter
from collections.abc import Sequence

from zootool.errors import FormatError, printable
from zootool.nets.chain import HINT
from zootool.nets.module_names import Module, common_path

_UNSUPPORTED = "zootool doesn't hold such networks yet: leave the file out"
# What a tensor's own name (the key's last segment, or the whole key where it has no other) says.
_TENSORS: tuple[tuple[str, str, str], ...] = (
    (
        r"lora_(a|b|down|up|embedding|mid|magnitude).*|hada_.*|lokr_.*|oft_.*|ia3_.*|.*\.lora_.*",
        "an adapter (LoRA)",
        "merge it into its network and convert that",
    ),
    (
        r"exp_avg.*|max_exp_avg.*|momentum_buffer|square_avg|acc_delta|optimizer.*",
        "an optimizer's state",
        "leave it out, or convert the model's own file",
    ),
    (r"(weight|bias)_(ih|hh)(_.*)?", "a recurrent layer", _UNSUPPORTED),
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
    (r"lora_.*|hada_.*|lokr_.*|.*adapter.*", "an adapter (LoRA)", "merge it into its network and convert that"),
    (r"(optim|optimizer|exp_avg|exp_avg_sq|momentum)[0-9]*", "an optimizer's state", "leave it out"),
    (r".*(lstm|gru|rnn).*", "a recurrent layer", _UNSUPPORTED),
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
_BLOCK = re.compile(r".*[0-9]")


def refuse_foreign(modules: Sequence[Module], where: str) -> None:
    """Raise FormatError for names of what no chain is, even where its shapes happen to fit one."""
    shared = len(common_path(modules))
    for module in modules:
        for name in module.tensors:
            _refuse(_TENSORS, (name,), module.key(name), where)
        _refuse(_MODULES, module.path[shared:], module.name, where)
    _refuse_blocks(modules, where)


def _refuse(table: Sequence[tuple[str, str, str]], segments: Sequence[str], shown: str, where: str) -> None:
    for pattern, what, hint in table:
        segment = next((segment for segment in segments if re.fullmatch(pattern, segment.lower())), None)
        if segment is not None:
            place = printable(shown.partition(f"{segment}.")[0] + segment, 80)
            raise FormatError(
                f"{where}: {printable(shown, 80)!r} is named like {what}, so no chain of layers",
                hint=hint.replace("{place}", place),
            )


def _refuse_blocks(modules: Sequence[Module], where: str) -> None:
    """Blocks of several named layers with as many outputs as inputs, as residual ones have."""
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
