"""Hypothesis strategies for architectures: any layers, dtypes, missing biases, norms, ties and stray entries."""

from hypothesis import strategies as st

from zootool.architecture import DTYPE_BYTES, Activation, Architecture, Norm, Role, Timestamp
from zootool.nets.lay_out import Entry, lay_out

WIDTHS = st.integers(1, 5)
FLOATS = st.sampled_from(["float32", "float32", "float16", "bfloat16", "float64"])
DTYPES = st.sampled_from(sorted(DTYPE_BYTES))
ACTIVATIONS = st.sampled_from([Activation(), Activation("relu"), Activation("sine", omega_0=12.5), Activation("gelu")])
NORM_ROLES: tuple[Role, ...] = ("scale", "shift", "running_mean", "running_var")


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Convolutions, then linear layers, their entries in a shuffled order."""
    num_convolutions, num_linear = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    num_sources = num_inputs = draw(WIDTHS)
    timestamps: list[Timestamp] = []
    entries: list[Entry] = []
    for index in range(1, num_convolutions + num_linear + 1):
        num_nodes, has_bias = draw(WIDTHS), draw(st.booleans())
        norm = Norm("batch") if draw(st.booleans()) else None
        is_conv = index <= num_convolutions
        side = draw(st.integers(1, 3)) if is_conv else 1
        is_flat = not is_conv and index == num_convolutions + 1 and num_convolutions > 0
        positions = draw(st.integers(1, 4)) if is_flat else 1
        timestamps.append(
            Timestamp(
                "conv" if is_conv else "flatten_linear" if is_flat else "linear",
                num_nodes,
                num_sources,
                edges_per_pair=side**2 * positions,
                kernel=(side, side) if is_conv else None,
                has_bias=has_bias,
                norm=norm,
                activation=draw(ACTIVATIONS),
            )
        )
        entries += draw(layer_entries(index, timestamps[-1], side))
        num_sources = num_nodes
    entries += draw(stray_entries(entries))
    return lay_out(num_inputs, timestamps, draw(st.permutations(entries)), family="drawn")


@st.composite
def layer_entries(draw: st.DrawFn, index: int, timestamp: Timestamp, side: int) -> list[Entry]:
    """Weight, bias and norm of a layer; a linear weight may be stored the other way round."""
    n, m, k = timestamp.num_nodes, timestamp.num_sources, timestamp.edges_per_pair
    shape: tuple[int, ...] = (n, m, side, side) if timestamp.kind == "conv" else (n, m * k)
    order = None
    if timestamp.kind == "linear" and draw(st.booleans()):
        shape, order = (m, n), (1, 0)
    entries = [Entry(f"layers.{index}.weight", shape, "weight", index, draw(FLOATS), order)]
    if timestamp.has_bias:
        entries.append(Entry(f"layers.{index}.bias", (n,), "bias", index, draw(FLOATS)))
    if timestamp.norm is not None:
        entries += [Entry(f"norms.{index}.{role}", (n,), role, index, draw(FLOATS)) for role in NORM_ROLES]
        entries.append(Entry(f"norms.{index}.count", (), "num_batches_tracked", index, "int64"))
    return entries


@st.composite
def stray_entries(draw: st.DrawFn, entries: list[Entry]) -> list[Entry]:
    """What belongs to no layer, and names for what is there already."""
    shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    stray = [Entry(f"stray.{i}", draw(shapes), "other", None, draw(DTYPES)) for i in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        twin = draw(st.sampled_from(entries))
        stray.append(Entry("tied", twin.shape, twin.role, twin.timestamp, twin.dtype, twin.order, twin.key))
    return stray
