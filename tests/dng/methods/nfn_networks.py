"""Networks that NFN's layers take: of two to four layers, and with kernels."""

from tests.dng.graphs import small_cnn
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (5, 4), 3)
ARCHITECTURES = {
    "one hidden": siren_architecture(2, (5,), 3),
    "siren": SIREN,
    "deep": siren_architecture(2, (3, 5, 4), 3),
    "cnn": small_cnn(),
}
