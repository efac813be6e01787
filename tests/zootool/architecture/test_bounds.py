from collections.abc import Callable
from typing import Any

import pytest

from zootool.architecture import Activation, Architecture, Norm, ParameterSlot, Pooling, Residual, Timestamp, Tokens
from zootool.architecture.steps import ACTIVATION_NAMES, activate

anything: Any = "x"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Activation("sine", omega_0=float("nan")), "omega_0"),
        (lambda: Activation("sine", omega_0=10**5000), "an integer of 16610 bits"),
        (lambda: Activation("leaky_relu", negative_slope=anything), "negative_slope"),
        (lambda: Activation("gelu", approximate=anything), "approximate"),
        (lambda: Norm("batch", eps=float("inf")), "eps of a norm"),
        (lambda: Norm("batch", eps=True), "eps of a norm"),
        (lambda: Norm(anything), "kind of a norm"),
        (lambda: Norm("group", num_groups=0), "num_groups"),
        (lambda: Pooling("max", -1), "size of a pooling"),
        (lambda: Pooling("mean", None, 2), "no stride"),
        (lambda: Pooling("first", 2), "no pooling over windows"),
        (lambda: Tokens(positions=anything), "positions"),
        (lambda: Tokens(patch_size=True), "patch_size"),
        (lambda: Residual(-1), "source of a residual"),
        (lambda: Residual(0, added=anything), "added of a residual"),
        (lambda: Timestamp("linear", 2.0, 1), "nodes of a layer"),  # type: ignore[arg-type]
        (lambda: Timestamp("linear", 2**31, 1), "nodes of a layer"),
        (lambda: Timestamp("conv", 1, 1, 9, kernel=(3, 3, 1)), "height and a width"),  # type: ignore[arg-type]
        (lambda: Timestamp("linear", 2**30, 2**30), "edges, at most"),
        (lambda: ParameterSlot("w", anything, 0, ()), "slot 'w': its array"),
        (lambda: ParameterSlot("w", "edges", 0, (), role=anything), "its role"),
        (lambda: ParameterSlot("w", "edges", 0, (2**40, 2**40)), "beyond what an array can hold"),
        (lambda: Architecture(1, (), family="x"), "at least one timestamp"),
        (lambda: Architecture(True, (Timestamp("linear", 1, 1),)), "num_inputs"),
        (lambda: Architecture(2, (Timestamp("linear", 3, 2), Timestamp("linear", 1, 4))), "4 sources, but 3 nodes"),
        (
            lambda: Architecture(4, (Timestamp("linear", 6, 4),), tokens=Tokens(2, positions="sincos_2d")),
            "tokens of 6 nodes have no sincos_2d positions",
        ),
        (lambda: Architecture(1, (Timestamp("linear", 1, 1),), output_offset=1e300), "output_offset"),
        (lambda: Architecture(1, (Timestamp("linear", 1, 1),), family="x" * 1001), "characters"),
    ],
)
def test_what_no_network_has_is_refused_where_it_is_made(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_every_activation_that_is_known_can_be_computed() -> None:
    import torch

    for name in ACTIVATION_NAMES:
        assert activate(Activation(name), torch.zeros(1)).shape == (1,)


def test_a_residual_is_never_spread_over_a_map_of_another_size() -> None:
    import torch

    from zootool.architecture.layers import add_residual

    with pytest.raises(ValueError, match=r"\(1, 4, 1, 1\) isn't added to \(1, 4, 3, 3\)"):
        add_residual(Residual(0), torch.zeros(1, 4, 3, 3), torch.zeros(1, 4, 1, 1))
