"""Dropout with a fast mask on a CPU.

Torch draws one random number for each value, which takes a tenth of a training step on a CPU. Here
one random 64-bit word serves four values, 16 bits each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 2**16


def dropout(values: Tensor, probability: float) -> Tensor:
    """Set each value to zero with a probability, and scale the others to keep the expectation.

    Parameters
    ----------
    values
        Of any shape.
    probability
        From 0 to 1. On a CPU it is rounded to a multiple of 2^-16, and the scale is exact for the
        rounded value.

    Notes
    -----
    The mask comes from torch's global generator, so that a seed determines it.
    """
    dropped = round(probability * _LEVELS)
    if values.is_cuda or torch.compiler.is_compiling() or not 0 < dropped < _LEVELS:
        return F.dropout(values, probability)
    count = values.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=values.device)
    words = words.random_(-(2**63), None)
    # As int16 the draws are uniform in -2^15 .. 2^15 - 1; the lowest `dropped` of them drop.
    kept = words.view(torch.int16)[:count] >= dropped - _LEVELS // 2
    scale = kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - dropped))
    return values * scale.view(values.shape)


class Dropout(nn.Dropout):
    """Apply :func:`dropout` in training, and nothing in evaluation mode."""

    def forward(self, values: Tensor) -> Tensor:
        """Map values of any shape to the same shape."""
        return dropout(values, self.p) if self.training else values
