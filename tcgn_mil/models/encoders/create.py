"""Create spot encoders by name: TCGN, any image model of timm, or a network of your own.

Every encoder follows timm's conventions: ``forward_features`` and ``forward_head`` split the
network at its last map, ``get_classifier`` returns the head, and ``reset_classifier`` replaces it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import timm
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.encoders.architecture import converted, timm_arguments
from tcgn_mil.models.encoders.registered import ENCODERS
from tcgn_mil.models.encoders.token_pooling import pool_own_tokens
from tcgn_mil.models.network_input import EncoderInput
from tcgn_mil.models.published import check_tensors
from tcgn_mil.models.weights import check_finite, load_weights, read_tensors


def create_encoder(
    name: str,
    num_classes: int,
    *,
    checkpoint: str | Path | None = None,
    pretrained: bool = False,
    input_px: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Create a spot encoder with random weights, with downloaded ones, or with weights from a file.

    Parameters
    ----------
    name
        ``tcgn_ti``, ``tcgn_xs``, ``tcgn_tiny``, a registered encoder (see
        :func:`register_encoder`), or any model of timm.
    num_classes
        G, the number of genes; 0 for a model without a head, which returns its features.
    checkpoint
        File of weights. Those of TCGN and of registered encoders must fit exactly. Those of a timm
        model must fit the trunk, and the head stays random if the file has none of this size.
    pretrained
        Whether to download timm's weights for this name. There are none for TCGN.
    input_px
        Side of the images in pixels; None for the model's own. A model with a fixed input size (a
        vision transformer) is built for this side.
    **kwargs
        Further arguments of the model, such as `drop_rate`.

    Returns
    -------
    The model in training mode, as is usual in torch. Call ``eval()`` before you predict.

    Raises
    ------
    InputError
        If no model has this name, the model cannot read images of this size, the weights cannot be
        downloaded, or the file cannot be read safely or does not fit.

    Examples
    --------
    >>> model = create_encoder("resnet10t", num_classes=3).eval()
    >>> input_of(model, "resnet10t").size_px
    176
    """
    if pretrained and checkpoint is not None:
        raise InputError(
            "both pretrained weights and a checkpoint are asked for, but a model has one set of"
            " weights",
            fix="choose one of the two",
        )
    if name in ENCODERS:
        _check_registered(name, pretrained, input_px)
        try:
            model = ENCODERS[name].make(num_classes=num_classes, **kwargs)
        except TypeError as error:
            if not kwargs:
                raise
            raise InputError(
                f"{name} cannot be built with {kwargs} ({error})",
                fix="correct or remove the arguments of the encoder (encoder_options.arguments)",
            ) from error
        if checkpoint is not None:
            load_weights(model, checkpoint)
        return model
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, {*ENCODERS, *timm.list_models()}, n=3)
        raise InputError(
            f"timm has no model {name!r}, and no encoder of this name is registered",
            fix=f"did you mean {', '.join(close)}?"
            if close
            else "choose one of timm.list_models()",
        )
    model = _create_timm(name, num_classes, pretrained, input_px, kwargs)
    if checkpoint is not None:
        load_timm_weights(model, checkpoint, name)
    return model


def _check_registered(name: str, pretrained: bool, input_px: int | None) -> None:
    if pretrained:
        raise InputError(
            f"there are no weights of {name} to download",
            fix="give a file of weights: a checkpoint, or a trunk",
        )
    size_px = ENCODERS[name].input_spec.size_px
    if input_px not in (None, size_px):
        raise InputError(
            f"{name} reads images of {size_px} px, not {input_px}", fix=f"use {size_px} px"
        )


def _create_timm(
    name: str, num_classes: int, pretrained: bool, input_px: int | None, kwargs: dict[str, Any]
) -> Any:
    kwargs = timm_arguments(kwargs)
    sized: dict[str, Any] = {}
    try:
        defaults: Any = timm.get_pretrained_cfg(name)
        if (
            input_px is not None
            and "img_size" not in kwargs
            and defaults is not None
            and defaults.fixed_input_size
            and input_px != defaults.input_size[-1]
        ):
            sized = {"img_size": input_px}
        model: Any = timm.create_model(
            name, pretrained=pretrained, num_classes=num_classes, **sized, **kwargs
        )
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the weights of timm model {name!r} cannot be loaded ({str(error).splitlines()[0]})",
            fix="check the name and the network connection, or train without pretrained weights",
        ) from error
    except (TypeError, ValueError, AssertionError) as error:
        if kwargs:
            raise InputError(
                f"timm cannot build {name} with {kwargs} ({str(error).splitlines()[0]})",
                fix="correct the arguments of the encoder (encoder_options.arguments)",
            ) from error
        if not sized:
            raise
        raise InputError(
            f"timm model {name!r} cannot be built for images of {input_px} px ({error})",
            fix=f"use its own {defaults.input_size[-1]} px, or another model",
        ) from error
    if input_px is not None:
        # timm keeps the size of the pretrained weights there, whatever the model was built for.
        model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, input_px, input_px)}
    return model


def load_timm_weights(model: Any, path: str | Path, name: str) -> None:
    """Load weights into a timm model: the trunk exactly, the head if the file has all of it."""
    tensors, own = converted(model, read_tensors(path)), model.state_dict()
    classifier = model.pretrained_cfg.get("classifier") or ()
    prefixes = tuple(
        f"{head}." for head in ((classifier,) if isinstance(classifier, str) else classifier)
    )
    head = {key for key in own if key.startswith(prefixes)}
    if any(key not in tensors or tensors[key].shape != own[key].shape for key in head):
        head = set()  # a head for other outputs; ours stays random

    def is_wanted(key: str) -> bool:
        return key in head or not key.startswith(prefixes)

    # Files from before torch counted the batches of a BatchNorm lack this counter, which nothing
    # here reads.
    counters = {key: value for key, value in own.items() if key.endswith(".num_batches_tracked")}
    loaded = {key: value for key, value in (counters | tensors).items() if is_wanted(key)}
    expected = {key: value.shape for key, value in own.items() if is_wanted(key)}
    try:
        check_finite(loaded)
        check_tensors(
            loaded,
            expected,
            name,
            fix=f"give weights of timm's {name}, or name the model that they belong to",
        )
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None
    model.load_state_dict(loaded, strict=False)


def input_of(model: nn.Module, name: str, input_px: int | None = None) -> EncoderInput:
    """Return the size and normalisation of the images that an encoder reads.

    Parameters
    ----------
    model
        The encoder, from :func:`create_encoder`.
    name
        Name by which it was created.
    input_px
        Side of the images in pixels; None for the model's own.

    Raises
    ------
    InputError
        If the model does not read square images of three colours.
    """
    if name in ENCODERS:
        spec = ENCODERS[name].input_spec
        return spec._replace(size_px=input_px or spec.size_px)
    data = resolve_model_data_config(model)
    channels, height, width = data["input_size"]
    if channels != 3 or height != width:
        raise InputError(
            f"{name} reads images of {channels} x {height} x {width}, but an encoder must read"
            " square images of three colours",
            fix="choose another model, or give its input size",
        )
    return EncoderInput(input_px or width, tuple(data["mean"]), tuple(data["std"]))


def encoder_features(model: nn.Module, images: Tensor) -> Tensor:
    """Compute the features that an encoder's head reads, whether or not the model has a head.

    Parameters
    ----------
    model
        An encoder.
    images
        (B, 3, H, W) float, normalised.

    Returns
    -------
    (B, D) features.

    Raises
    ------
    InputError
        If the model has no such features: some models have two sets of them, or do not pool.
    """
    features = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
    features = pool_own_tokens(model, features)
    if not isinstance(features, Tensor) or features.ndim != 2:
        given = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(
            f"{type(model).__name__} gives features of shape {given}, not (images, features)",
            fix="choose a model that pools its features to one vector for each image",
        )
    return features
