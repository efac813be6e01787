"""Kendall's tau as published for zoos that others made (paper, Tables 2 and 8): measured by others, at full scale."""

PUBLISHED = {
    "small-cnn-cifar10": {"NFN (HNP)": 0.934, "NFN (NP)": 0.922, "NFT": 0.926, "NG-GNN": 0.930, "NG-T": 0.935,
                          "DNG-Encoder": 0.936},
    "small-cnn-svhn-cropped": {"NFN (HNP)": 0.931, "NFN (NP)": 0.856, "NFT": 0.858, "NG-GNN": 0.863, "NG-T": 0.872,
                               "DNG-Encoder": 0.867},
    "cnn-wild-park": {"NG-GNN": 0.804, "NG-T": 0.817, "DNG-Encoder": 0.8743},
    "simple-vit-zoo": {"NG-GNN": 0.8844, "NG-T": 0.8917, "DNG-Encoder": 0.9028},
}  # fmt: skip


def published_row(zoo_format: str, image_sets: tuple[str, ...]) -> dict[str, float]:
    """The published scores for a zoo that was collected in this format, of these image sets; empty for any other."""
    if zoo_format == "small-cnn-zoo":
        known = {"cifar10": "small-cnn-cifar10", "svhn": "small-cnn-svhn-cropped"}
        return PUBLISHED.get(known.get(image_sets[0] if len(image_sets) == 1 else "", ""), {})
    return PUBLISHED.get(zoo_format, {})
