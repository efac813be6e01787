import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zootool.nets.modules import Cnn, Siren
from zootool.architecture import Activation, Architecture, Residual, check_slots
from zootool.errors import FormatError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.network import Network
from zootool.nets.resnet import CifarResnet, cifar_resnet_architecture
from zootool.nets.siren import siren_architecture


class PreActivation(nn.Module):
    """A convolution, then blocks of norm, ReLU and convolution whose input is added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 1, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1)) for _ in range(2)
        )
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x) + x
        return self.fc(functional.adaptive_avg_pool2d(torch.relu(x), 1).flatten(1))


class PostNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        return self.c(self.norm(x + functional.dropout(self.b(x), 0.5, self.training)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.register_buffer("unused", torch.arange(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(functional.leaky_relu(self.a(x), 0.2))


def vgg() -> nn.Sequential:
    convolutions = [nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(2), nn.GELU(), nn.Dropout(0.2), nn.Conv2d(6, 4, 3)]
    between = [nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*convolutions, *between, nn.Linear(36, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 2))


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2)
    return module.eval()


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (Siren(2, (8, 8), 3, output_offset=0.5), (5, 2)),
        (Cnn(CnnConfig((1, 4, 6), (3, 5), (2, 1), (0, 2), ("relu", "silu"), (None, None))), (2, 1, 12, 12)),
        (vgg(), (2, 3, 16, 16)),
        (CifarResnet(8), (2, 3, 8, 8)),
        (PreActivation(), (2, 3, 8, 8)),
        (PostNorm(), (3, 4)),
        (Tied(), (3, 4)),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU6(), nn.Linear(4, 2)).double(), (2, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_rebuilt_network_computes_the_same(module: nn.Module, shape: tuple[int, ...]) -> None:
    module = randomised(module)
    x = torch.randn(shape, dtype=next(module.parameters()).dtype)
    architecture = Architecture.from_module(module, x)
    check_slots(architecture)
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    rebuilt = Network(architecture, allow_unused=True).eval()
    rebuilt.load_state_dict(module.state_dict())
    torch.testing.assert_close(rebuilt(x), module(x), rtol=1e-6, atol=1e-6)
    assert list(dict.fromkeys(slot.key for slot in architecture.slots)) == list(module.state_dict())


def test_tracing_finds_the_declared_architectures() -> None:
    config = CnnConfig()
    assert Architecture.from_module(Cnn(config), torch.randn(1, 1, 28, 28), "cnn") == cnn_architecture(config)
    siren = Siren(2, (8, 8), 3, output_offset=0.5)
    assert Architecture.from_module(siren, torch.randn(1, 2), "siren") == siren_architecture(2, (8, 8), 3, 30, 0.5)


def test_option_a_shortcuts_have_stride_and_offset() -> None:
    architecture = cifar_resnet_architecture(20)
    assert architecture.num_layers == 20
    residuals = [timestamp.residuals for timestamp in architecture.timestamps if timestamp.residuals]
    assert len(residuals) == 9
    assert residuals[3] == (Residual(source=7, offset=8, stride=2),)
    assert residuals[4] == (Residual(source=9),)


def test_activations_are_told_apart() -> None:
    architecture = Architecture.from_module(vgg(), torch.randn(1, 3, 16, 16))
    names = [timestamp.activation.name for timestamp in architecture.timestamps]
    assert names == ["gelu", "relu", "tanh", "none"]
    assert [t.kind for t in architecture.timestamps] == ["conv", "conv", "flatten_linear", "linear"]
    assert architecture.timestamps[2].edges_per_pair == 9
    leaky = Architecture.from_module(Tied(), torch.randn(1, 4)).timestamps[0].activation
    assert leaky == Activation("leaky_relu", negative_slope=0.2)


def test_tied_and_unused_entries_are_kept() -> None:
    slots = {slot.key: slot for slot in Architecture.from_module(Tied(), torch.randn(1, 4)).slots}
    assert slots["b.weight"].alias_of == "a.weight"
    assert slots["unused"].array == "exact"
    assert slots["unused"].dtype == "int64"


class SumOfEqualLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.a(x))


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * self.b(x)


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return x * x


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 0 else x


class Projected(nn.Module):
    """A shortcut with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) + self.c(x)


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1)), (2, 3), "Softmax"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), (1, 4, 5, 5), "2 groups"),
        (nn.Sequential(nn.Conv2d(4, 4, (3, 1), padding=(1, 0))), (1, 4, 5, 5), "both directions"),
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.LayerNorm([4, 3, 3])), (1, 4, 5, 5), "layer norm over"),
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Tanh()), (2, 3), "behind its last layer"),
        (nn.LSTM(3, 3), (2, 4, 3), "can't be traced"),
        (SumOfEqualLayers(), (2, 4), "used twice"),
        (Product(), (2, 4), "a branch with a layer"),
        (Squared(), (2, 4), "mul"),
        (Projected(), (2, 4), "a branch with a layer"),
        (Branching(), (2, 4), "can't be traced"),
        (nn.ReLU(), (2, 4), "last layer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_expressed_is_named(module: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Architecture.from_module(module, torch.randn(shape))
