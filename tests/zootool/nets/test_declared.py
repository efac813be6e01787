import pytest
import torch
from torch import nn
from torch.nn import functional

from zootool.errors import FormatError
from zootool.nets.declared import read_declaration
from zootool.nets.lay_out import entries_of, lay_out
from zootool.nets.network import Network


class TinyVit(nn.Module):
    """One block over 4 patches, post-norm, separate queries, keys and values, positions and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.positions = nn.Parameter(torch.randn(1, 5, 6))
        self.embed = nn.Linear(4, 6)
        self.q, self.k, self.v = (nn.Linear(6, 8, bias=False) for _ in range(3))
        self.out = nn.Linear(8, 6)
        self.norm = nn.LayerNorm(6)
        self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = functional.unfold(x, 2, stride=2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(patches)], 1) + self.positions
        q, k, v = (part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (self.q, self.k, self.v))
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.norm(x + self.out(attended))
        x = x + self.down(functional.gelu(self.up(x)))
        return self.head(x[:, 0])


DECLARATION = {
    "num_inputs": 4,
    "family": "vit",
    "tokens": {"patch_size": 2, "patch_order": "channels", "positions": "learned", "class_token": True},
    "position": "positions",
    "token": "token",
    "layers": [
        {"kind": "linear", "weight": "embed.weight", "bias": "embed.bias"},
        {"kind": "qkv", "weight": ["q.weight", "k.weight", "v.weight"], "num_heads": 2},
        {"kind": "attention", "num_heads": 2},
        {
            "kind": "linear", "weight": "out.weight", "bias": "out.bias", "norm": {"kind": "layer", "at": "norm"},
            "residuals": [{"source": 1, "added": "before_norm"}],
        },
        {"kind": "linear", "weight": "up.weight", "bias": "up.bias", "activation": "gelu"},
        {"kind": "linear", "weight": "down.weight", "bias": "down.bias", "residuals": [{"source": 4}]},
        {"kind": "pool_linear", "weight": "head.weight", "bias": "head.bias", "pooling": {"kind": "first"}},
    ],
}  # fmt: skip


EMBED = {"kind": "linear", "weight": "embed.weight"}


def shapes_of(module: nn.Module) -> dict[str, tuple[tuple[int, ...], str]]:
    return {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in module.state_dict().items()
    }


def rebuilt(module: nn.Module, declaration: object) -> Network:
    network = Network(read_declaration(declaration, shapes_of(module)).architecture)
    network.load_state_dict(module.state_dict())
    return network.eval()


def changed(**parts: object) -> dict:
    return {**DECLARATION, **parts}


@torch.no_grad()
def test_a_declared_transformer_computes_what_its_module_does() -> None:
    torch.manual_seed(0)
    module, x = TinyVit().eval(), torch.randn(5, 1, 4, 4)
    network = rebuilt(module, DECLARATION)
    assert list(network.state_dict()) == list(module.state_dict())
    torch.testing.assert_close(network(x), module(x))


@pytest.mark.parametrize("dtypes", [(torch.float32,) * 3, (torch.float64,) * 3, (torch.float64, *[torch.float32] * 2)])
@torch.no_grad()
def test_queries_keys_and_values_are_joined_as_declared(dtypes: tuple[torch.dtype, ...]) -> None:
    torch.manual_seed(0)
    module, x = TinyVit().eval(), torch.randn(5, 1, 4, 4)
    wanted = module(x)
    for part, dtype in zip((module.q, module.k, module.v), dtypes, strict=True):
        part.to(dtype)
    # Sorted by name: k, q, v, and every layer's bias before its weight.
    state = {key: module.state_dict()[key] for key in sorted(module.state_dict())}
    shapes = {key: shapes_of(module)[key] for key in state}
    architecture = read_declaration(DECLARATION, shapes).architecture
    assert [slot.key for slot in architecture.slots if not slot.rounded] == list(state)
    own = lay_out(architecture.num_inputs, architecture.timestamps, entries_of(architecture), family="vit",
                  tokens=architecture.tokens)  # fmt: skip
    assert own == architecture
    network = Network(architecture).eval()
    network.load_state_dict(state)
    parts = [network._joined(2, "weight")]
    torch.testing.assert_close(parts[0], torch.cat([module.q.weight, module.k.weight, module.v.weight]))
    if len(set(dtypes)) == 1 and dtypes[0] == torch.float32:
        torch.testing.assert_close(network(x), wanted)


def test_biases_are_listed_like_their_weights() -> None:
    shapes = {
        f"{part}.{name}": (shape, "float32") for part in "qkv" for name, shape in (("weight", (4, 4)), ("bias", (4,)))
    }
    layer = {"kind": "qkv", "num_heads": 1, "weight": [f"{part}.weight" for part in "qkv"]}
    for names, fits in (("qkv", True), ("qk", False)):
        rest = {"other": [f"{part}.bias" for part in "qkv" if part not in names]}
        declared = {"num_inputs": 4, "layers": [layer | {"bias": [f"{part}.bias" for part in names]}], **rest}
        if fits:
            read_declaration(declared, shapes)
        else:
            with pytest.raises(FormatError, match=r"has weights of .* and biases of"):
                read_declaration(declared, shapes)


@torch.no_grad()
def test_a_declared_cnn_with_a_flatten_and_batch_norm() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2)
    ).eval()
    torch.nn.init.normal_(module.get_buffer("1.running_mean"))
    declaration = {
        "num_inputs": 1,
        "layers": [
            {
                "kind": "conv", "weight": "0.weight", "stride": 2, "activation": "relu",
                "norm": {"kind": "batch", "at": "1"},
            },
            {"kind": "flatten_linear", "weight": "4.weight", "bias": "4.bias"},
        ],
    }  # fmt: skip
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(rebuilt(module, declaration)(x), module(x))


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ({"num_inputs": 4}, "layers: is missing"),
        (changed(layer=[]), "layer: unknown key"),
        (changed(position=None), "gives no part to 'positions'"),
        (changed(other=["positions"]), "uses 'positions' twice"),
        (changed(token="tokn"), "names 'tokn', which the checkpoint lacks"),
        (changed(num_inputs=5), "the declaration"),
        (changed(layers=[{"kind": "linear"}]), "layer 1 .linear. has no weight"),
        (changed(layers=[{"kind": "linear", "weight": "norm.weight"}]), "wanted: 2 or 4 axes|weights of shapes"),
        (changed(layers=[EMBED | {"residuals": [{"sourc": 1}]}]), "sourc"),
        (changed(layers=[EMBED | {"norm": {"kind": "layer", "at": "n"}}]), "no norm at"),
        ({"like": "simple-vitt"}, "no family 'simple-vitt'"),
        ({"like": "simple-vit", "heads": 3}, "heads"),
        ({"like": "cifar-resnet", "depth": 21}, "6 n"),
        ({"like": "siren", "num_inputs": 2, "hidden": [4], "num_outputs": 1}, "19 tensors, the architecture 4|tensors"),
        ("nothing", "declaration"),
    ],
)  # fmt: skip
def test_declarations_that_do_not_fit_say_where(declaration: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_declaration(declaration, shapes_of(TinyVit()))
