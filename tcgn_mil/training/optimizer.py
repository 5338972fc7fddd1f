"""Optimizer, parameter groups and learning rate of a training run."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim import Optimizer

from tcgn_mil.errors import InputError
from tcgn_mil.settings.training import OptimizerName, ScheduleName


def make_optimizer(
    model: nn.Module,
    name: OptimizerName,
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
) -> Optimizer:
    """AdamW, or Adam with its L2 penalty, over :func:`parameter_groups`."""
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(parameter_groups(model, weight_decay, layer_decay), lr=lr, fused=True)


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters with decay (weights of two or more dimensions) and without (biases, norms, named ones).

    A `layer_decay` below 1 makes these two groups for each layer of the model's ``group_matcher``, with an
    ``lr_scale`` of 1 at the output that is multiplied by it for each layer nearer the input (Clark et al. 2020, ICLR,
    ELECTRA; as in timm).

    Raises
    ------
    InputError
        If the model has no ``group_matcher`` and `layer_decay` is below 1.
    """
    no_weight_decay = getattr(model, "no_weight_decay", None)
    exempt: set[str] = set(no_weight_decay()) if callable(no_weight_decay) else set()
    if layer_decay < 1:
        if not callable(getattr(model, "group_matcher", None)):
            raise InputError(
                f"training.layer_decay is {layer_decay}, but {type(model).__name__} has no group_matcher, which names "
                "its layers in order of depth",
                fix="set training.layer_decay=1, or use a model of timm or TCGN",
            )
        return list(param_groups_layer_decay(model, weight_decay, exempt, layer_decay=layer_decay))
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim < 2 or name in exempt else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group its learning rate: `rate` times its ``lr_scale``, where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def rate_factor(
    progress: float, warmup_fraction: float, schedule: ScheduleName = "cosine"
) -> float:
    """Learning rate as a share of its peak at `progress` in [0, 1] of training.

    Linear warm-up, then a cosine to 0, or the peak to the end.
    """
    if progress < warmup_fraction:
        return max(progress / warmup_fraction, 1e-3)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))
