"""Convolutions by oneDNN, also where torch may use one thread only.

With one thread, torch convolves float32 maps without oneDNN, and a forward pass of TCGN took 1.6
times as long for it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def conv2d(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    groups: int = 1,
) -> Tensor:
    """Convolve as :func:`torch.nn.functional.conv2d` does.

    Parameters
    ----------
    maps
        (B, C, H, W).
    weight, bias
        (D, C / groups, h, w) and (D,).
    stride, padding, groups
        As torch defines them.

    Returns
    -------
    (B, D, H', W').
    """
    by_onednn = (
        not torch.compiler.is_compiling()
        and torch.get_num_threads() == 1
        and maps.device.type == "cpu"
        and maps.dtype == weight.dtype == torch.float32
        and torch.is_inference_mode_enabled()  # the gradient would be computed without oneDNN
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )
    if by_onednn:
        return torch.mkldnn_convolution(maps, weight, bias, padding, stride, (1, 1), groups)
    return F.conv2d(maps, weight, bias, stride, padding, groups=groups)
