"""Facts from which an encoder is built again, without its source on the hub."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm import layers as timm_layers
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.encoders.token_pooling import PooledEncoder
from tcgn_mil.models.encoders.transformers_models import (
    TransformersTrunk,
    build_transformers,
    fill_transformers,
)
from tcgn_mil.models.published import check_tensors
from tcgn_mil.models.weights import check_finite, read_tensors
from tcgn_mil.pathology import Pooling, Scalar

# Classes that an argument of timm may name, as text in YAML and JSON.
_CLASSES: Mapping[str, Any] = {
    "SwiGLUPacked": timm_layers.SwiGLUPacked,
    "SwiGLU": timm_layers.SwiGLU,
    "GluMlp": timm_layers.GluMlp,
    "SiLU": nn.SiLU,
    "GELU": nn.GELU,
}
_CLASS_ARGUMENTS = ("mlp_layer", "act_layer")
# A file of weights stores at least this many bytes for each parameter (half precision).
_BYTES_PER_PARAMETER = 2


@dataclass(frozen=True)
class Architecture:
    """An encoder without its weights.

    Attributes
    ----------
    library
        Package that builds it, ``timm`` or ``transformers``.
    name
        Model of timm, or class of transformers.
    pooling
        Pooling of its tokens; None for a model of timm that pools its features itself.
    arguments
        Arguments of the model. A class is given by its name.
    """

    library: Literal["timm", "transformers"]
    name: str
    pooling: Pooling | None
    arguments: Mapping[str, Scalar]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as a checkpoint's header holds them."""
        return {**asdict(self), "arguments": dict(self.arguments)}

    def for_input(self, input_px: int | None) -> Architecture:
        """Return the architecture for images of another side.

        A transformer of timm with ``dynamic_img_size`` reads any size, and one of transformers
        interpolates its positions; others are built for one size.
        """
        is_fixed = self.library == "timm" and not self.arguments.get("dynamic_img_size")
        if is_fixed and self.pooling is None:
            defaults: Any = timm.get_pretrained_cfg(self.name)
            is_fixed = defaults is not None and defaults.fixed_input_size
        if input_px is None or not is_fixed:
            return self
        return replace(self, arguments={**self.arguments, "img_size": input_px})


def build_trunk(architecture: Architecture) -> Any:
    """Build a transformer with random weights and without a head, whose tokens are not pooled.

    Raises
    ------
    InputError
        If the package has no such model, or does not know an argument.
    """
    return _build(architecture, 0)


def _build(architecture: Architecture, num_classes: int) -> Any:
    arguments = timm_arguments(architecture.arguments)
    if architecture.pooling is not None and arguments.get("global_pool") == "":
        del arguments["global_pool"]  # the pooling is ours, and timm's default has the same layers
    try:
        if architecture.library == "transformers":
            return build_transformers(architecture.name, arguments)
        if not timm.is_model(architecture.name):
            raise InputError(
                f"timm has no model {architecture.name!r}", fix="check it, or upgrade timm"
            )
        return timm.create_model(architecture.name, num_classes=num_classes, **arguments)
    except InputError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"{architecture.library} cannot build {architecture.name} with {arguments}"
            f" ({str(error).splitlines()[0]})",
            fix="correct the arguments (encoder_options.arguments, or those of the YAML entry)",
        ) from error


def build(architecture: Architecture, num_classes: int) -> Any:
    """Build an encoder with random weights and a head for `num_classes` genes (0 for none).

    Examples
    --------
    >>> small = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    >>> vit = Architecture("timm", "vit_tiny_patch16_224", "cls+mean", small)
    >>> build(vit, num_classes=3).head
    Linear(in_features=48, out_features=3, bias=True)
    """
    if architecture.pooling is None:
        return _build(architecture, num_classes)
    return PooledEncoder(build_trunk(architecture), architecture.pooling, num_classes)


def own_pooling(architecture: Architecture) -> Pooling | None:
    """Return how a model of timm pools its tokens; None if it has none, or pools in another way.

    A model that gives its tokens (``global_pool=""``) is pooled by its class token, or by the mean
    if it has none.
    """
    with torch.device("meta"):
        model = _build(replace(architecture, pooling=None), 0)
    prefix, own = getattr(model, "num_prefix_tokens", None), getattr(model, "global_pool", None)
    if prefix is None:
        return None
    default: Pooling = "cls" if prefix else "mean"
    by_name: dict[Any, Pooling | None] = {"": default, "token": "cls", "avg": "mean"}
    return by_name.get(own)


def load_pooled_weights(model: PooledEncoder, path: Path, name: str) -> None:
    """Load a file of weights into an encoder whose trunk is a transformer.

    The file has the names of the library's model, or those of a checkpoint of this package. The
    conversions of the library are applied, such as that of DINOv2's names and of positions for
    another size. The tensors must then fit exactly; only those of a classifier are left out. The
    head stays random unless a checkpoint has one of its size.

    Raises
    ------
    InputError
        If the file cannot be read safely, does not fit, or holds values that are not finite.
    """
    try:
        trunk: Any = model.trunk
        tensors, head = _split_checkpoint(model, read_tensors(path))
        if isinstance(trunk, TransformersTrunk):
            check_finite(tensors)
            fill_transformers(trunk, tensors)
        else:
            _fill_timm(trunk, tensors, name)
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None
    if head:
        model.head.load_state_dict(head)


def _fill_timm(trunk: Any, tensors: dict[str, Tensor], name: str) -> None:
    tensors, own = converted(trunk, tensors), trunk.state_dict()
    classifiers = trunk.pretrained_cfg.get("classifier") or ()
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    ignored = tuple(f"{head}." for head in heads)
    wanted = {
        key: value
        for key, value in tensors.items()
        if key in own or not key.startswith(ignored or ("\0",))
    }
    check_finite(wanted)
    check_tensors(
        wanted,
        {key: value.shape for key, value in own.items()},
        name,
        fix="check that the file is that of this encoder, and that it was copied as a whole",
    )
    trunk.load_state_dict(wanted)


def _split_checkpoint(
    model: PooledEncoder, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the trunk by their own names, and those of the head if it fits."""
    prefix = "trunk."
    if not any(key.startswith(prefix) for key in tensors):
        return tensors, {}
    # A model of transformers is one module below the trunk.
    inner = "model." if isinstance(model.trunk, TransformersTrunk) else ""
    trunk = {
        key.removeprefix(prefix).removeprefix(inner): value
        for key, value in tensors.items()
        if key.startswith(prefix)
    }
    head = {
        key.removeprefix("head."): value
        for key, value in tensors.items()
        if not key.startswith(prefix)
    }
    own = {key: value.shape for key, value in model.head.state_dict().items()}
    return trunk, head if own == {key: value.shape for key, value in head.items()} else {}


def check_size(architecture: Architecture, path: Path) -> None:
    """Refuse a configuration that describes a much larger model than its file of weights.

    The configuration may come from the hub, and memory is only allocated after this check.
    """
    with torch.device("meta"):
        trunk = build_trunk(architecture)
    parameters = sum(parameter.numel() for parameter in trunk.parameters())
    if parameters * _BYTES_PER_PARAMETER > 2 * path.stat().st_size:
        raise InputError(
            f"has {path.stat().st_size / 1e6:.1f} MB, too few for {parameters / 1e6:.1f} million"
            f" parameters, which {architecture.name} has by its configuration",
            path=path,
            fix="copy or download the file again, or correct the arguments of the encoder",
        )


def converted(trunk: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply the conversion that the model's module in timm has for published weights.

    A prefix that the trunk of a larger network has in the file, such as ``backbone.``, is removed.
    """
    tensors = _without_prefix(trunk, tensors)
    convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    try:
        converted: dict[str, Tensor] = convert(dict(tensors), trunk)
    except (KeyError, IndexError, ValueError, RuntimeError, AttributeError, AssertionError):
        return tensors  # weights of another model; the check of the names says so
    return converted


def _without_prefix(trunk: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the trunk by their own names, if one prefix leads to all of them.

    Other tensors of the file, such as those of a decoder, are then left out. Two networks in one
    file, such as a student and a teacher, have two prefixes; the file then stays as it is, and the
    check of the names refuses it.
    """
    first = next(iter(trunk.state_dict()))
    prefixes = [key.removesuffix(first) for key in tensors if key.endswith(first)]
    prefix = min(prefixes, key=len, default="")
    if not prefix or not all(each.startswith(prefix) for each in prefixes):
        return tensors
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def timm_arguments(arguments: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return arguments as a model takes them: classes by their names, and numbers from text.

    Examples
    --------
    >>> timm_arguments({"init_values": "1e-5", "act_layer": "SiLU"})["init_values"]
    1e-05
    """
    return {key: _value(key, value) for key, value in arguments.items()}


def _value(key: str, value: Scalar) -> Any:
    if key in _CLASS_ARGUMENTS and isinstance(value, str):
        if value not in _CLASSES:
            raise InputError(
                f"argument {key} names the class {value!r}",
                fix=f"choose one of {', '.join(_CLASSES)}",
            )
        return _CLASSES[value]
    if isinstance(value, str):
        # YAML reads 1e-5 as text; only 1.0e-5 is a number to it.
        try:
            return float(value)
        except ValueError:
            return value
    return value
