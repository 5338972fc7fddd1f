"""Spot encoders: a TCGN or any image model of timm, with the input that it takes and the features before its head.

The one transform that ST patches and slide tiles share, and the training augmentation.

Patches are stored at their own size (112 px at 0.69 µm/px by default) and enlarged to the network's 224 here, so that
both sources have the same sharpness.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, resolve_model_data_config
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.published import check_tensors
from tcgn_mil.models.tcgn import CONFIGS, IMAGE_PX
from tcgn_mil.models.weights import check_finite, create_model, read_tensors


class EncoderInput(NamedTuple):
    """What an encoder takes.

    Attributes
    ----------
    size_px
        Side of its square images.
    mean, std
        Of red, green, blue in [0, 1], by which they are normalised.
    """

    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


TCGN_INPUT = EncoderInput(IMAGE_PX, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def create_encoder(
    name: str,
    num_classes: int,
    *,
    checkpoint: str | Path | None = None,
    pretrained: bool = False,
    input_px: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Make a spot encoder, its weights random, downloaded or from a file.

    Parameters
    ----------
    name
        "tcgn_ti", "tcgn_xs", "tcgn_tiny", or any name that timm knows.
    num_classes
        G, the number of genes; 0 for no head.
    checkpoint
        File of weights. A TCGN's has to fit exactly (see `create_model`); of a timm model's the trunk has to, and the
        head stays random where the file has none of this size.
    pretrained
        Download timm's weights for this name; there are none of TCGN.
    input_px
        Side of the images; None for the model's own. A model that is built for one size (a ViT) is built for this one.
    **kwargs
        For the model, such as `drop_rate`.

    Returns
    -------
    The model in training mode, as torch makes it.

    Raises
    ------
    InputError
        If nothing has this name, the model cannot take images of this size, the weights cannot be had, or the file
        cannot be read safely or does not fit.
    """
    if pretrained and checkpoint is not None:
        raise InputError(
            "both pretrained weights and a checkpoint are asked for", fix="choose one of them"
        )
    if name in CONFIGS:
        if pretrained:
            raise InputError(
                f"there are no weights of {name} to download",
                fix="give a file: a checkpoint, or a trunk",
            )
        if input_px not in (None, IMAGE_PX):
            raise InputError(
                f"{name} takes images of {IMAGE_PX} px, not {input_px}", fix=f"use {IMAGE_PX} px"
            )
        return create_model(name, num_classes, checkpoint, **kwargs)
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise InputError(
            f"timm has no model {name!r}",
            fix=f"did you mean {', '.join(close)}?"
            if close
            else "timm.list_models() names those there are",
        )
    model = _create_timm(name, num_classes, pretrained, input_px, kwargs)
    if checkpoint is not None:
        _load_trunk_and_head(model, checkpoint, name)
    return model


def _create_timm(
    name: str, num_classes: int, pretrained: bool, input_px: int | None, kwargs: dict[str, Any]
) -> Any:
    sized: dict[str, Any] = {}
    try:
        own: Any = timm.get_pretrained_cfg(name)
        if (
            input_px is not None
            and own is not None
            and own.fixed_input_size
            and input_px != own.input_size[-1]
        ):
            sized = {"img_size": input_px}
        model: Any = timm.create_model(
            name, pretrained=pretrained, num_classes=num_classes, **sized, **kwargs
        )
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"weights of timm model {name!r} cannot be had ({str(error).splitlines()[0]})",
            fix="check the name and the network, or do without pretrained weights",
        ) from error
    except (TypeError, ValueError, AssertionError) as error:
        if not sized:
            raise
        raise InputError(
            f"timm model {name!r} cannot be made for images of {input_px} px ({error})",
            fix=f"use its own {own.input_size[-1]} px, or another model",
        ) from error
    if input_px is not None:  # timm itself leaves its weights' own size there
        model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, input_px, input_px)}
    return model


def _load_trunk_and_head(model: Any, path: str | Path, name: str) -> None:
    """Load a file of weights into a timm model: the trunk exactly, the head if the file has all of it."""
    tensors, own = read_tensors(path), model.state_dict()
    classifier = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(
        f"{head}." for head in ((classifier,) if isinstance(classifier, str) else classifier)
    )
    head = {key for key in own if key.startswith(heads)}
    if any(key not in tensors or tensors[key].shape != own[key].shape for key in head):
        head = set()
    # Counters that torch's BatchNorm did not have at first, and that nothing here reads.
    found = {
        key: value for key, value in own.items() if key.endswith(".num_batches_tracked")
    } | tensors
    found = {key: value for key, value in found.items() if key in head or not key.startswith(heads)}
    expected = {
        key: value.shape for key, value in own.items() if key in head or not key.startswith(heads)
    }
    try:
        check_finite(found)
        check_tensors(
            found,
            expected,
            name,
            fix=f"give weights that timm's {name} was saved with, or name their model",
        )
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None
    model.load_state_dict(found, strict=False)


def input_of(model: nn.Module, name: str, input_px: int | None = None) -> EncoderInput:
    """What an encoder of :func:`create_encoder`, made by this name, takes; `input_px` stands above its own size.

    Raises
    ------
    InputError
        If that is no square picture of three colours.
    """
    data = resolve_model_data_config(model)
    channels, height, width = data["input_size"]
    if channels != 3 or height != width:
        raise InputError(
            f"{name} takes {channels} x {height} x {width}, no square picture of three colours",
            fix="choose its input size, or another model",
        )
    return EncoderInput(input_px or width, tuple(data["mean"]), tuple(data["std"]))


def encoder_features(model: nn.Module, images: Tensor) -> Tensor:
    """Normalised images (B, 3, H, W) to the features (B, D) that the head takes, whether the model has one or not.

    Raises
    ------
    InputError
        If the model has no such features: some keep two sets of them, or do not pool.
    """
    features = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
    if not isinstance(features, Tensor) or features.ndim != 2:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(
            f"{type(model).__name__} gives features of shape {found}, not (images, features)",
            fix="choose a model that pools its features",
        )
    return features


NETWORK_PX = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_VIEWS = (1, 4, 8)
_LARGEST_BLUR = 5.0
_LEAST_SIGMA = 1e-3  # whose kernel is exactly 1 at its centre and 0 elsewhere
# Optical density of red, green, blue. Rows: haematoxylin, eosin, and DAB for what is neither, as is usual for H&E
# (Ruifrok & Johnston, Anal Quant Cytol Histol 2001).
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


def to_network_input(
    patches: Tensor,
    size_px: int = NETWORK_PX,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Tensor:
    """Normalise patches and bring them to the network's size, bilinear, on whichever device they are.

    Parameters
    ----------
    patches
        (B, P, P, 3) uint8, any P.
    size_px
        Side of the output.
    mean, std
        Of red, green, blue in [0, 1], as the network was trained with.

    Returns
    -------
    (B, 3, size_px, size_px) float32, channels-last in memory as the pixels were.

    Raises
    ------
    ValueError
        For another dtype or shape.
    """
    if patches.dtype != torch.uint8 or patches.ndim != 4 or patches.shape[-1] != 3:
        raise ValueError(
            f"patches are {patches.dtype} {tuple(patches.shape)}; give uint8 (B, P, P, 3)"
        )
    pixels = patches.float()
    # Normalised while small: interpolation weights sum to one, so the order does not change the result.
    pixels.sub_(pixels.new_tensor(mean) * 255).div_(pixels.new_tensor(std) * 255)
    images = pixels.permute(0, 3, 1, 2)
    side = max(patches.shape[1:3])
    if side == size_px == min(patches.shape[1:3]):
        return images
    # Antialiasing changes nothing when enlarging, and takes twice the time.
    return nn.functional.interpolate(
        images, size=(size_px, size_px), mode="bilinear", antialias=side > size_px
    )
