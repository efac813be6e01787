"""The models that the preset of a two-stage method and its ablation ask for."""

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from dng.methods.inr2array import INR2Array, LatentTransformer
from dng.methods.methods import RefusedError
from dng.models.ablations import MemoryDecoder, ReconstructionConfig, WeightDecoder
from dng.models.heads import CodeClassifier, LatentClassifier
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.model import Representation
from dng.models.predictors import NetworkClassifier, PredictorConfig
from dng.models.views import NUM_VIEWS
from dng.runs.inr2array_presets import INR2ArrayPreset
from dng.runs.two_stage import NOISE, ClassificationPreset, TwoStagePreset
from zootool.architecture import Architecture

ClassifierOfCodes = LatentClassifier | CodeClassifier | LatentTransformer


def build_representation(
    architectures: Collection[Architecture], preset: TwoStagePreset, image_side: int, image_channels: int
) -> Representation:
    """The model that learns codes of INRs of images of this shape.

    All networks are of the first architecture, as far as INR2JLS knows. Raises RefusedError where INR2ARRAY can't take
    them all.
    """
    if isinstance(preset, INR2ArrayPreset):
        if reason := INR2Array.refusal(architectures):
            raise RefusedError(f"INR2ARRAY can't take the zoo: {reason}")
        return INR2Array(architectures, preset.for_images(image_side, image_channels))
    return _from_images(next(iter(architectures)), preset, image_side, image_channels)


def build_code_classifier(
    preset: ClassificationPreset, code: Tensor, num_classes: int
) -> LatentClassifier | CodeClassifier:
    """The classifier of codes shaped like `code`: (1, numbers), or latent maps (1, views, channels, side, side)."""
    if code.ndim == 2:
        return CodeClassifier(code.shape[1], num_classes, preset.classifier_dim)
    _, views, channels, side, _ = code.shape
    joint_views = views if preset.ablation == "joint-classifier" else 1
    return LatentClassifier(channels, side, num_classes, preset.classifier_dim, joint_views)


def build_network_classifier(
    architecture: Architecture, preset: ClassificationPreset, num_classes: int
) -> NetworkClassifier:
    """The encoder with an MLP classifier of its memories."""
    encoder = replace(preset.encoder, dim=preset.encoder_only.dim)
    return NetworkClassifier(architecture, PredictorConfig(num_classes, encoder, preset.encoder_only.head_dim))


def _from_images(
    architecture: Architecture, preset: ClassificationPreset, image_side: int, image_channels: int
) -> INR2JLS | MemoryDecoder | WeightDecoder:
    if preset.ablation in ("inr-inr", "no-latent-generator"):
        config = ReconstructionConfig(
            image_side, image_channels, preset.encoder, preset.decoding_dim, preset.code_dim, preset.hidden_dim
        )
        kind = WeightDecoder if preset.ablation == "inr-inr" else MemoryDecoder
        return kind(architecture, config)
    single = preset.ablation in ("no-augmentation", "noise")
    config = INR2JLSConfig(
        image_side,
        image_channels,
        encoder=preset.encoder,
        num_views=1 if single else NUM_VIEWS,
        latent_dim=preset.latent_dim,
        hidden_dim=preset.hidden_dim,
        decoder_dim=preset.decoder_dim,
        noise=NOISE if preset.ablation == "noise" else 0.0,
    )
    return INR2JLS(architecture, config)
