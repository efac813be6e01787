import torch
from torch import nn

from dng.bench.costs import peak_tensor_bytes
from dng.models import latent_generator
from dng.models.latent_generator import LatentGenerator, PairwiseMLP
from dng.training.seed import seeded


def build(dim: int = 5, hidden: int = 7, shape: tuple[int, int, int] = (2, 2, 2)) -> LatentGenerator:
    with seeded(0):
        return LatentGenerator(dim, dim, shape, hidden, 3).double()


def on_every_pair(generator: LatentGenerator, memory: torch.Tensor) -> torch.Tensor:
    """The MLP on every concatenation [theta^n, s], as the paper writes it."""
    count = len(generator.spatial)
    pairs = torch.cat([generator.spatial.expand(len(memory), -1, -1), memory[:, None].expand(-1, count, -1)], dim=-1)
    out = generator.out(torch.relu(generator.hidden(pairs)))
    return out.unflatten(1, generator.shape).movedim(-1, 2)


def test_gradients_are_those_of_the_mlp_on_every_pair(monkeypatch) -> None:
    for chunk_numbers in (1, 100, 1 << 20):  # one network, one network, all of them
        monkeypatch.setattr(latent_generator, "_CHUNK_NUMBERS", chunk_numbers)
        fast, written = build(), build()
        memory = torch.randn(5, 5, dtype=torch.float64)
        memories = [memory.clone().requires_grad_(), memory.clone().requires_grad_()]
        outs = [fast(memories[0]), on_every_pair(written, memories[1])]
        torch.testing.assert_close(outs[0], outs[1], rtol=0, atol=1e-12)
        weights = torch.randn_like(outs[0])
        for out in outs:
            (out * weights).sum().backward()
        torch.testing.assert_close(memories[0].grad, memories[1].grad, rtol=0, atol=1e-12)
        for name, parameter in fast.named_parameters():
            torch.testing.assert_close(parameter.grad, written.get_parameter(name).grad, rtol=0, atol=1e-12)


def test_gradients_against_finite_differences() -> None:
    shapes = ((3, 4), (2, 4), (2, 4), (2,))
    with seeded(1):
        arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(PairwiseMLP.apply, arguments)


def test_the_hidden_layer_of_all_pairs_never_exists() -> None:
    generator = build(hidden=4096, shape=(6, 8, 8)).float()
    memory = torch.randn(16, 5, requires_grad=True)
    all_pairs = 16 * 6 * 64 * 4096 * 4

    def step() -> None:
        generator(memory).sum().backward()

    assert peak_tensor_bytes(step) < all_pairs / 2


def test_the_spatial_part_follows_the_weights_at_inference() -> None:
    generator, memory = build(), torch.randn(2, 5, dtype=torch.float64)
    with torch.no_grad():
        first = generator(memory)
        assert torch.equal(generator(memory), first)
        nn.init.normal_(generator.spatial)
        changed = generator(memory)
        assert not torch.equal(changed, first)
        torch.testing.assert_close(changed, on_every_pair(generator, memory), rtol=0, atol=1e-12)


def test_bfloat16_training_has_a_gradient_for_everything() -> None:
    generator = build().float()
    memory = torch.randn(4, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = generator(memory)
    out.float().square().mean().backward()
    exact = build().float()
    exact_out = on_every_pair(exact, memory.detach())
    torch.testing.assert_close(out.float(), exact_out, rtol=0.05, atol=0.05)
    assert memory.grad is not None
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in generator.parameters())
