"""Vision transformers of the package transformers, in the form of timm's (an optional extra)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.extras import need_extra
from tcgn_mil.pathology import Scalar

# Classes that give tokens. Their code is that of the package: code of a repository is never run.
_CLASSES = ("ViTModel", "Dinov2Model", "Dinov2WithRegistersModel")
# The pooler on top of ViTModel is not trained in the repositories that hold encoders.
_MODEL_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {"ViTModel": {"add_pooling_layer": False}}


class TransformersTrunk(nn.Module):
    """A model of transformers with the methods that :class:`PooledEncoder` needs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.embed_dim = int(model.config.hidden_size)
        self.num_prefix_tokens = 1 + int(getattr(model.config, "num_register_tokens", 0))

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to tokens (B, T, D), after the last normalisation."""
        size = {"interpolate_pos_encoding": True} if self._is_resized(images) else {}
        return self.model(pixel_values=images, **size).last_hidden_state

    def _is_resized(self, images: Tensor) -> bool:
        # DINOv2 interpolates its positions for images of any size by itself.
        is_vit = type(self.model).__name__ == "ViTModel"
        return is_vit and images.shape[-1] != self.model.config.image_size

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations again in the backward pass, to save memory."""
        if enable:
            self.model.gradient_checkpointing_enable()
        else:
            self.model.gradient_checkpointing_disable()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns from names to layers: embeddings, blocks, and the last norm."""
        del coarse
        return {
            "stem": r"^model\.embeddings",
            "blocks": [(r"^model\..*?layers?\.(\d+)", None), (r"^model\.layernorm", (99999,))],
        }


def transformers_class(name: str) -> Any:
    """Return a model class of transformers.

    Raises
    ------
    InputError
        If the package is not installed, or the class is not one of vision transformers.
    """
    if name not in _CLASSES:
        raise InputError(
            f"{name} is no class of transformers that gives the tokens of an image",
            fix=f"choose one of {', '.join(_CLASSES)}",
        )
    need_extra("transformers", name)
    import transformers

    return getattr(transformers, name)


def stored_arguments(name: str, config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the arguments of a model that its ``config.json`` states.

    Facts that are no arguments of this model, and lists that do not change its tokens, are left
    out. A side of the image that is given twice is given once.

    Examples
    --------
    >>> stored_arguments("Dinov2Model", {"image_size": [224, 224], "model_type": "dinov2"})
    {'image_size': 224}
    """
    own = _argument_names(transformers_class(name))
    stated = {key: config[key] for key in own if key in config}
    size = stated.get("image_size")
    if isinstance(size, list) and len(set(map(str, size))) == 1:
        stated["image_size"] = size[0]
    return {k: v for k, v in stated.items() if isinstance(v, (bool, int, float, str))}


def _argument_names(model_class: Any) -> list[str]:
    """Return the arguments of a class that those of other classes do not have."""
    import transformers

    common = transformers.PretrainedConfig().to_dict()
    return [key for key in model_class.config_class().to_dict() if key not in common]


def build_transformers(name: str, arguments: Mapping[str, Scalar]) -> TransformersTrunk:
    """Build a model of transformers with random weights.

    Raises
    ------
    InputError
        If the package is not installed, or the class or an argument is unknown or wrong.
    """
    from huggingface_hub.errors import StrictDataclassError

    model_class = transformers_class(name)
    # The configurations of transformers keep arguments that they do not know without a word.
    own = _argument_names(model_class)
    if unknown := [key for key in arguments if key not in own]:
        raise InputError(
            f"{name} has no argument {', '.join(unknown)}", fix=f"give some of {', '.join(own)}"
        )
    try:
        config = model_class.config_class(**arguments)
    except StrictDataclassError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return TransformersTrunk(model_class(config, **_MODEL_ARGUMENTS.get(name, {})))


def fill_transformers(trunk: TransformersTrunk, tensors: Mapping[str, Tensor]) -> None:
    """Give a model of transformers its weights, in single precision and in place.

    The package translates the names of tensors that its earlier versions wrote.

    Raises
    ------
    InputError
        If tensors are missing, or have other shapes.
    """
    model_class, name = type(trunk.model), type(trunk.model).__name__
    fix = "check that the file is that of the encoder, and that config.json belongs to it"
    try:
        with _quiet():
            model, report = model_class.from_pretrained(
                None,
                config=trunk.model.config,
                state_dict=dict(tensors),
                output_loading_info=True,
                **_MODEL_ARGUMENTS.get(name, {}),
            )
    except RuntimeError as error:
        raise InputError(
            f"its tensors have other shapes than those of {name} with this configuration", fix=fix
        ) from error
    missing = sorted(map(str, report["missing_keys"]))
    # Heads and poolers of other tasks may be left over; what the model reads may not be missing.
    if missing or report.get("mismatched_keys"):
        raise InputError(
            f"its weights do not fit {name}: {len(missing)} tensors are missing"
            f" ({', '.join(missing[:3])})",
            fix=fix,
        )
    trunk.model = model.float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing tables, whose content is in our errors."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
