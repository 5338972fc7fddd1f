"""Dropout that draws 16 random bits a value on a CPU, where torch's mask takes a tenth of a training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 2**16


def dropout(values: Tensor, probability: float) -> Tensor:
    """Zero each value with a probability and scale the rest so that the expectation stays.

    On a CPU the probability is rounded to a multiple of 2^-16 and the scale is exact for the rounded one. The mask
    comes from torch's generator, so that a seed fixes it.
    """
    dropped = round(probability * _LEVELS)
    if values.is_cuda or torch.compiler.is_compiling() or not 0 < dropped < _LEVELS:
        return F.dropout(values, probability)
    count = values.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=values.device).random_(
        -(2**63), None
    )
    kept = words.view(torch.int16)[:count] >= dropped - _LEVELS // 2
    scale = kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - dropped))
    return values * scale.view(values.shape)


class Dropout(nn.Dropout):
    """`dropout` in training, nothing in eval mode."""

    def forward(self, values: Tensor) -> Tensor:
        """Map values of any shape to the same shape."""
        return dropout(values, self.p) if self.training else values
