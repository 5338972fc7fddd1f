"""Variants of TCGN, registered with timm.

Importing this module makes ``timm.create_model("tcgn_ti")`` and its likes work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from tcgn_mil.models.tcgn import GRIDS, IMAGE_PX, TCGN, TCGNConfig

CONFIGS = {
    "tcgn_ti": TCGNConfig(),
    "tcgn_xs": TCGNConfig(dims=(52, 104, 208, 416), depths=(3, 3, 12, 3), mlp_ratio=3.77),
    "tcgn_tiny": TCGNConfig(
        stem_dim=8,
        dims=(8, 16, 32, 64),
        depths=(1, 1, 1, 1),
        mlp_ratio=2.0,
        node_dim=8,
        edge_dim=4,
        encoder_ratio=1,
        num_features=256,
        head_hidden=256,
    ),
}

# Arguments of timm's create_model that other models have, and what to do instead.
_ADVICE = {
    "in_chans": " and convert the images to RGB",
    "img_size": " and resize the images",
    "global_pool": "; forward_features gives the map before pooling",
}


def _timm_cfg() -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 785,
        "input_size": (3, IMAGE_PX, IMAGE_PX),
        "pool_size": GRIDS[3],
        "fixed_input_size": True,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.conv1",
        "classifier": "head.fc2",
        "license": "bsd-3-clause",
    }


default_cfgs = generate_default_cfgs({f"{name}.untrained": _timm_cfg() for name in CONFIGS})


def _create(variant: str, pretrained: bool = False, **kwargs: Any) -> TCGN:
    if kwargs.pop("features_only", False):
        raise ValueError(
            "TCGN has no feature pyramid; use forward_features, which gives the last map"
            " (B, num_features, 7, 7)"
        )
    fixed = {"in_chans": 3, "img_size": IMAGE_PX, "global_pool": "avg"}
    for name, value in fixed.items():
        if kwargs.pop(name, value) not in (value, (value, value)):
            raise ValueError(
                f"TCGN is built for {name}={value!r} only; leave {name} out{_ADVICE[name]}"
            )
    build: Callable[..., TCGN] = build_model_with_cfg
    return build(
        TCGN, variant, pretrained, kwargs_filter=tuple(fixed), config=CONFIGS[variant], **kwargs
    )


@register_model
def tcgn_ti(pretrained: bool = False, **kwargs: Any) -> TCGN:
    """Create the published TCGN, on CMT-Ti: 22.5 million parameters with 785 genes."""
    return _create("tcgn_ti", pretrained, **kwargs)


@register_model
def tcgn_xs(pretrained: bool = False, **kwargs: Any) -> TCGN:
    """Create a larger TCGN, on CMT-XS."""
    return _create("tcgn_xs", pretrained, **kwargs)


@register_model
def tcgn_tiny(pretrained: bool = False, **kwargs: Any) -> TCGN:
    """Create a small TCGN with all its parts, for tests and demonstrations."""
    return _create("tcgn_tiny", pretrained, **kwargs)
