"""What was published about the cost of these and other methods: measured elsewhere, by others, on other hardware."""

from dng.bench.table import Table

PUBLISHED = (
    Table(
        "MEASURED ELSEWHERE: one INR of MNIST, on a GPU (paper, Table 5)",
        ("method", "GFLOP", "memory (MB)", "run time (ms)"),
        (
            ("NFN", "2.58", "273.08", "8.2 ± 0.09"),
            ("NFT", "10.60", "241.15", "52.7 ± 1.70"),
            ("NG-GNN", "2.13", "27.40", "12.4 ± 0.70"),
            ("NG-T", "14.82", "29.77", "9.2 ± 0.41"),
            ("INR2JLS", "1.31", "29.17", "4.7 ± 0.18"),
        ),
    ),
    Table(
        "MEASURED ELSEWHERE: one SimpleViT, on a GPU (paper, Table 8)",
        ("method", "GFLOP", "memory (MB)", "run time (ms)"),
        (
            ("NG-GNN", "3.22", "54.49", "5.94"),
            ("NG-T", "44.69", "446.95", "11.77"),
            ("DNG-Encoder", "0.12", "25.36", "4.38"),
        ),
    ),
)

PUBLISHED_GFLOP = {
    "INR2JLS + classifier, 28x28x1": "1.31",
    "NFN (HNP), 28x28x1": "2.58",
    "INR2ARRAY + classifier, 28x28x1": "10.60",
    "NG-GNN, 64 probes, 28x28x1": "2.13",
    "NG-T, 64 probes, 28x28x1": "14.82",
    "DNG-Encoder + MLP, SimpleViT": "0.12",
    "NG-GNN, SimpleViT": "3.22",
    "NG-T, SimpleViT": "44.69",
}
"""The same by the names of our cases: multiply-adds count twice, and short cuts count for nothing."""
