"""Integrated gradients: how much each pixel adds to an output.

The gradient of the output f is integrated along the straight line from a baseline image x' to the
image x:

    relevance_i = (x_i - x'_i) * integral over a from 0 to 1 of df/dx_i (x' + a (x - x')).

The relevance of all pixels then sums to f(x) - f(x'). The integral is computed by Gauss-Legendre
quadrature.

References
----------
Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tcgn_mil.interpret.checks import check_model_and_images
from tcgn_mil.interpret.patch_graphs import held_graph
from tcgn_mil.models.network_input import IMAGENET_MEAN, IMAGENET_STD

INTEGRATION_STEPS = 64
_STEPS_PER_BATCH = 16


class Attribution(NamedTuple):
    """Integrated gradients of G outputs for B images.

    Attributes
    ----------
    relevance
        (B, G, H, W), what each pixel adds to the output, in the output's unit. It is signed, and
        summed over the three colours.
    change
        (B, G), output at the image minus output at the baseline, to which the relevance should sum.
    delta
        (B, G), sum of the relevance minus `change`, which is the error of the integration.
    """

    relevance: Tensor
    change: Tensor
    delta: Tensor


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Sequence[int],
    *,
    baseline: Tensor | None = None,
    steps: int = INTEGRATION_STEPS,
) -> Attribution:
    """Compute integrated gradients from a baseline image to each image.

    Parameters
    ----------
    model
        Any image model in evaluation mode.
    images
        (B, 3, H, W) float, normalised for the model.
    targets
        Columns of the output (genes), G of them.
    baseline
        (3, H, W) or (B, 3, H, W), by default :func:`white_glass`. A pixel that equals the baseline
        has no relevance. So the baseline must be the image of nothing, which is white in
        brightfield microscopy. Black would be the strongest stain of all, and would give all
        relevance to pale stroma and glass.
    steps
        Number of points on the line.

    Raises
    ------
    InputError
        If a pixel is not finite.

    Notes
    -----
    TCGN selects the edges of its graphs anew for every image. Along the line the output therefore
    jumps, and gradients do not see jumps. So the graphs of the image itself are held along the
    whole line. The output at the image does not change by that; the output at the baseline is the
    one with the image's graphs, and the relevance sums to the difference.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2)).eval()
    >>> result = integrated_gradients(model, torch.randn(1, 3, 4, 4), targets=[1], steps=8)
    >>> result.relevance.shape
    torch.Size([1, 1, 4, 4])
    >>> bool(result.delta.abs().max() < 1e-4)
    True
    """
    from captum.attr import IntegratedGradients

    check_model_and_images(model, images)
    start = white_glass(images[0]) if baseline is None else baseline
    starts = start.expand_as(images).contiguous()
    method = IntegratedGradients(model)
    rows = []
    # One image at a time, since each has graphs of its own.
    for image, origin in zip(images.split(1), starts.split(1), strict=True):
        with held_graph(model, image):
            results = [
                method.attribute(
                    image,
                    origin,
                    target=target,
                    n_steps=steps,
                    internal_batch_size=_STEPS_PER_BATCH,
                    return_convergence_delta=True,
                )
                for target in targets
            ]
        relevance = torch.cat([values.detach().sum(dim=1) for values, _ in results])  # (G, H, W)
        rows.append((relevance, torch.cat([delta.detach() for _, delta in results])))
    relevance, delta = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Attribution(relevance, relevance.sum(dim=(2, 3)) - delta, delta)


def white_glass(
    like: Tensor, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Return a normalised white image, such as glass without tissue.

    Parameters
    ----------
    like
        (..., 3, H, W), whose size, dtype and device the image gets.
    mean, std
        Normalisation of the network's input.

    Returns
    -------
    (3, H, W).
    """
    white = [(1 - m) / s for m, s in zip(mean, std, strict=True)]
    return like.new_tensor(white)[:, None, None].expand(like.shape[-3:])
