"""Vision transformers of the package transformers, in the form of timm's (an optional extra)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tcgn_mil.errors import InputError
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
    try:
        import transformers
    except ImportError:
        raise InputError(
            f"{name} needs the package transformers, which is not installed",
            fix="run: pip install 'tcgn-mil[transformers]'",
        ) from None
    return getattr(transformers, name)


def build_transformers(name: str, arguments: Mapping[str, Scalar]) -> TransformersTrunk:
    """Build a model of transformers with random weights.

    Raises
    ------
    InputError
        If the package is not installed, or the class or an argument is unknown.
    """
    model_class = transformers_class(name)
    config = model_class.config_class(**arguments)
    return TransformersTrunk(model_class(config, **_MODEL_ARGUMENTS.get(name, {})))


def load_transformers(name: str, folder: str | Path) -> TransformersTrunk:
    """Load a model of transformers from the folder of a repository.

    Raises
    ------
    InputError
        If the package is not installed, the folder has no such model, or tensors are missing.
    """
    model_class = transformers_class(name)
    try:
        model, report = model_class.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_MODEL_ARGUMENTS.get(name, {}),
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(
            f"holds no weights of {name} ({str(error).splitlines()[0]})",
            path=folder,
            fix="give the folder of the whole repository, with config.json and model.safetensors",
        ) from None
    missing = sorted(map(str, report["missing_keys"]))
    # Heads and poolers of other tasks may be left over; what the model reads may not be missing.
    if missing or report.get("mismatched_keys"):
        raise InputError(
            f"its weights do not fit {name}: {len(missing)} tensors are missing"
            f" ({', '.join(missing[:3])})",
            path=folder,
            fix="check that the repository is that of the encoder",
        )
    return TransformersTrunk(model)
