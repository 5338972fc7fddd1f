"""Grad-CAM: the positions of the last feature map that speak for an output.

The last map A (C, h, w) is weighted by the gradient of the output y, averaged over positions:

    w_c = mean over (i, j) of dy / dA_cij,    CAM_ij = max(0, sum_c w_c A_cij).

References
----------
Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.interpret.checks import check_model_and_images


def grad_cam(
    model: nn.Module, images: Tensor, targets: Sequence[int], *, signed: bool = False
) -> Tensor:
    """Compute Grad-CAM at the last map, for each chosen output.

    Parameters
    ----------
    model
        Model in evaluation mode. Its `forward_features` gives the last map (B, C, h, w), and its
        `forward_head` maps that to the outputs. TCGN and timm's convolutional models are so.
    images
        (B, 3, H, W) float, normalised for the model.
    targets
        Columns of the output (genes), G of them.
    signed
        Whether to keep negative values, at positions that speak against the output. Grad-CAM itself
        keeps the positive part.

    Returns
    -------
    (B, G, h, w). It is zero everywhere if no position speaks for more of the output.

    Raises
    ------
    InputError
        If a pixel is not finite, or the model has no last map. The tokens of a vision transformer
        are not a map.

    Notes
    -----
    If the head pools by the mean, the sum of the map over positions is, to first order, what the
    positions add to the output, in the output's unit. So maps of two genes can be compared.

    Examples
    --------
    >>> import torch
    >>> from tcgn_mil.models import create_model
    >>> model = create_model("tcgn_tiny", num_classes=3).eval()
    >>> grad_cam(model, torch.randn(1, 3, 224, 224), targets=[0, 2]).shape
    torch.Size([1, 2, 7, 7])
    """
    from captum.attr import LayerGradCam

    check_model_and_images(model, images)
    with torch.no_grad():
        maps = last_map(model, images)
    # The features are computed once, and only the head for each output.
    head = _Head(model)
    method = LayerGradCam(head, head.last_map)
    cams = [
        method.attribute(maps, target=target, relu_attributions=not signed).detach()
        for target in targets
    ]  # (B, 1, h, w) each
    return torch.cat(cams, dim=1)


def last_map(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's last map (B, C, h, w) for images (B, 3, H, W).

    Raises
    ------
    InputError
        If the model has none.
    """
    name = type(model).__name__
    fix = "use TCGN or a convolutional model of timm; integrated gradients need no map"
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        raise InputError(
            f"{name} has no forward_features and forward_head, so it has no last map", fix=fix
        )
    maps = model.forward_features(images)  # type: ignore[operator]
    if not _is_map(maps, model):
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(
            f"forward_features of {name} gives {shape}, not a map (B, num_features, h, w)", fix=fix
        )
    return maps


def has_last_map(model: nn.Module, images: Tensor) -> bool:
    """Return whether a model has a last map (B, C, h, w); a vision transformer has none."""
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        return False
    with torch.no_grad():
        return _is_map(model.forward_features(images), model)  # type: ignore[operator]


def _is_map(maps: object, model: nn.Module) -> bool:
    return (
        isinstance(maps, Tensor)
        and maps.ndim == 4
        and maps.shape[1] == getattr(model, "num_features", None)
    )


def upsample(maps: Tensor, size_px: int) -> Tensor:
    """Enlarge maps (B, G, h, w) bilinearly to (B, G, size_px, size_px), to lay over an image."""
    return nn.functional.interpolate(maps, size=(size_px, size_px), mode="bilinear")


class _Head(nn.Module):
    """The part of a model after its last map, with a layer at which Captum can read that map."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.last_map = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return self.model.forward_head(self.last_map(maps))  # type: ignore[operator]
