"""Pool the tokens of a vision transformer to one vector of features for each image.

A transformer gives tokens (B, T, D). The first ones are the class token, if there is one, and
register tokens; the others stand for patches of the image. Encoders of pathology are used with the
class token, with the mean over the patches, or with both, one after the other (2 D features).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.pathology import Pooling


def pool_tokens(tokens: Tensor, pooling: Pooling, num_prefix_tokens: int) -> Tensor:
    """Pool tokens to features.

    Parameters
    ----------
    tokens
        (B, T, D).
    pooling
        ``cls``, ``mean`` or ``cls+mean``.
    num_prefix_tokens
        Number of class and register tokens, which come first. The mean leaves them out.

    Returns
    -------
    (B, D), or (B, 2 D) for ``cls+mean``: first the class token, then the mean.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.tensor([[[7.0], [9.0], [1.0], [3.0]]])  # class, register, two patches
    >>> pool_tokens(tokens, "cls+mean", num_prefix_tokens=2)
    tensor([[7., 2.]])
    """
    parts = []
    if pooling != "mean":
        parts.append(tokens[:, 0])
    if pooling != "cls":
        parts.append(tokens[:, num_prefix_tokens:].mean(dim=1))
    return torch.cat(parts, dim=1)


def pool_own_tokens(model: nn.Module, features: Tensor) -> Tensor:
    """Pool features that are tokens (B, T, D): by the class token if there is one, else the mean.

    Other features, and those of a model that does not say which tokens come first, are returned as
    they are.
    """
    prefix: Any = getattr(model, "num_prefix_tokens", None)
    if not isinstance(features, Tensor) or features.ndim != 3 or prefix is None:
        return features
    return pool_tokens(features, "cls" if prefix else "mean", prefix)


class PooledEncoder(nn.Module):
    """A vision transformer whose tokens are pooled, with a linear head.

    It follows timm's conventions, as every encoder here does.

    Parameters
    ----------
    trunk
        Transformer with ``forward_features`` (images (B, 3, H, W) to tokens (B, T, D)),
        ``num_prefix_tokens`` and ``embed_dim``.
    pooling
        ``cls``, ``mean`` or ``cls+mean``.
    num_classes
        G, the number of genes; 0 for no head.

    Raises
    ------
    InputError
        If the trunk has no tokens, or no class token to pool by.
    """

    def __init__(self, trunk: nn.Module, pooling: Pooling, num_classes: int = 0) -> None:
        super().__init__()
        check_has_tokens(trunk, pooling)
        self.trunk: Any = trunk
        self.pooling: Pooling = pooling
        width: Any = trunk.embed_dim
        self.num_features = int(width) * (2 if pooling == "cls+mean" else 1)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head; 0 removes it. `global_pool` is part of timm's convention only."""
        del global_pool
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.head

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to tokens (B, T, D)."""
        return self.trunk.forward_features(images)

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """Map tokens (B, T, D) to features, or through the head to genes (B, G)."""
        features = pool_tokens(tokens, self.pooling, self.trunk.num_prefix_tokens)
        norm = getattr(self.trunk, "fc_norm", None)
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
            # Transformers that timm pools by the mean have their last norm after it.
            parts = features.unflatten(1, (-1, int(self.trunk.embed_dim)))
            features = norm(parts).flatten(1)
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to genes (B, G), or to features without a head."""
        return self.forward_head(self.forward_features(images))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations again in the backward pass, to save memory."""
        self.trunk.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters to which weight decay does not apply."""
        exempt = getattr(self.trunk, "no_weight_decay", set)
        return {f"trunk.{name}" for name in exempt()}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return a function from a parameter's name to its layer, counted from the input."""
        matcher = self.trunk.group_matcher(coarse=coarse)
        layers = dict(group_parameters(self.trunk, matcher, reverse=True))
        top = max(layers.values()) + 1
        return lambda name: layers.get(name.removeprefix("trunk."), top)


def check_has_tokens(trunk: nn.Module, pooling: Pooling) -> None:
    """Raise an `InputError` if a model cannot be pooled in this way."""
    prefix = getattr(trunk, "num_prefix_tokens", None)
    if prefix is None:
        raise InputError(
            f"{type(trunk).__name__} gives no tokens that could be pooled by {pooling}",
            fix="give no --pooling; the model pools its maps itself",
        )
    if pooling != "mean" and not prefix:
        raise InputError(
            f"{type(trunk).__name__} has no class token, which pooling {pooling} needs",
            fix="give --pooling mean",
        )
