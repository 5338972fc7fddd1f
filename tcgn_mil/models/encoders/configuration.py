"""Read the architecture and the input of an encoder from its entry and its stored configuration.

A configuration comes from a hub or from a user's folder, so that any of its values may be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.encoders.architecture import Architecture, own_pooling
from tcgn_mil.models.encoders.sources import EncoderSource
from tcgn_mil.models.encoders.transformers_models import stored_arguments
from tcgn_mil.models.network_input import IMAGENET_MEAN, IMAGENET_STD, EncoderInput
from tcgn_mil.pathology import PathologyEncoder, Pooling, Scalar

_TRANSFORMERS_CLASSES = {
    "vit": "ViTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
}


def merged_architecture(
    named: EncoderSource,
    config: Mapping[str, Any],
    pooling: Pooling | None,
    arguments: dict[str, Scalar],
) -> Architecture:
    """Merge what the registry, the configuration beside the weights, and the user say.

    Raises
    ------
    InputError
        If nothing names the architecture, or the configuration has arguments that are lists.
    """
    entry = named.entry
    is_transformers = (
        entry.library == "transformers" if entry else "model_type" in config and not named.name
    )
    if is_transformers:
        return _transformers_architecture(entry, config, pooling, arguments)
    stored = config.get("architecture")
    own: Mapping[str, Scalar] = {}
    if entry is None and named.name:
        # The user named the model. Arguments of another model would not belong to it.
        name: object = named.name
        if isinstance(stored, str) and stored.partition(".")[0] == named.name.partition(".")[0]:
            own = _plain_arguments(config.get("model_args"))
    else:
        name = stored or (entry.architecture if entry else None)
        own = _plain_arguments(config.get("model_args"))
    if not isinstance(name, str):
        raise InputError(
            "has no config.json that names the architecture",
            fix="name it by --encoder-model, such as uni2-h or a model of timm",
        )
    merged = {**own, **(entry.arguments if entry else {}), **arguments}
    merged.pop("num_classes", None)
    architecture = Architecture("timm", name, pooling or (entry.pooling if entry else None), merged)
    if architecture.pooling is None:
        return replace(architecture, pooling=own_pooling(architecture))
    return architecture


def _transformers_architecture(
    entry: PathologyEncoder | None,
    config: Mapping[str, Any],
    pooling: Pooling | None,
    arguments: dict[str, Scalar],
) -> Architecture:
    kind = str(config.get("model_type"))
    name = entry.architecture if entry else _TRANSFORMERS_CLASSES.get(kind, kind)
    # The configuration beside the weights knows more than an entry, such as the activation.
    own = {**(entry.arguments if entry else {}), **stored_arguments(name, config), **arguments}
    return Architecture("transformers", name, pooling or (entry.pooling if entry else "cls"), own)


def _plain_arguments(given: object) -> dict[str, Scalar]:
    """Return the arguments of a configuration; those that are null are the model's own."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(
            f"model_args in config.json is {given!r}, not a mapping",
            fix='write names and values, such as {"img_size": 224}, or remove it',
        )
    plain = {}
    for key, value in given.items():
        # A pair of equal sides is the side of a square.
        if isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]
        if isinstance(value, (bool, int, float, str)):
            plain[str(key)] = value
        elif value is not None:
            raise InputError(
                f"argument {key} in config.json is {value!r}, which cannot be given to a model",
                fix="give a number or a text, or remove it",
            )
    return plain


def merged_input(
    entry: PathologyEncoder | None,
    config: Mapping[str, Any],
    trunk: nn.Module,
    input_px: int | None,
) -> EncoderInput:
    """Return size and normalisation: the registry's, else those beside the weights or of timm.

    Raises
    ------
    InputError
        If the configuration states no usable size, mean or deviation, or if the model is built for
        images of another side.
    """
    stored = config.get("pretrained_cfg")
    defaults: Mapping[str, Any] = {
        **(getattr(trunk, "pretrained_cfg", None) or {}),
        **(stored if isinstance(stored, Mapping) else {}),
    }
    embed: Any = getattr(trunk, "patch_embed", None)
    built = embed.img_size[0] if getattr(embed, "strict_img_size", False) else None
    if entry is None:
        return EncoderInput(
            input_px or built or _side(defaults.get("input_size")),
            _colour(defaults, "mean", IMAGENET_MEAN),
            _colour(defaults, "std", IMAGENET_STD),
            "bicubic" if defaults.get("interpolation") == "bicubic" else "bilinear",
        )
    px = input_px or entry.input_px
    if built is not None and built != px:
        raise InputError(
            f"the encoder {entry.name} is built for images of {built} px, but its entry reads"
            f" {px} px",
            fix=f"set input_px to {built} in the entry, or its argument img_size to {px}",
        )
    resize = entry.tile_px if entry.tile_px != entry.input_px and input_px is None else None
    return EncoderInput(
        px,
        entry.mean or _colour(defaults, "mean", IMAGENET_MEAN),
        entry.std or _colour(defaults, "std", IMAGENET_STD),
        entry.interpolation,
        resize,
    )


@contextmanager
def naming_the_folder(folder: Path | None) -> Iterator[None]:
    """Name the folder of a configuration in errors about it."""
    try:
        yield
    except InputError as error:
        raise InputError(error.reason, path=error.path or folder, fix=error.fix) from None


def _side(size: object) -> int:
    if size is None:
        return 224
    is_square = isinstance(size, (list, tuple)) and len(size) == 3 and size[1] == size[2]
    side = cast(Any, size)[-1] if is_square else None
    if not isinstance(side, int) or side < 1:
        raise InputError(
            f"input_size in config.json is {size!r}", fix="write it as [3, 224, 224], or remove it"
        )
    return side


def _colour(defaults: Mapping[str, Any], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    given = defaults.get(key)
    if given is None:
        return default
    is_colour = (
        isinstance(given, (list, tuple))
        and len(given) == 3
        and all(isinstance(value, (int, float)) for value in given)
    )
    if not is_colour or (key == "std" and min(given) <= 0):
        raise InputError(
            f"the {key} of colours in the configuration of the encoder is {given!r}",
            fix="write three numbers, and positive ones for std, or remove it",
        )
    return tuple(float(value) for value in given)
