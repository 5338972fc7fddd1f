"""Optimizer, parameter groups and learning rate."""

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
    """Create AdamW, or Adam with its L2 penalty, over :func:`parameter_groups`.

    Parameters
    ----------
    model
        Model whose trainable parameters are optimised.
    name
        ``adamw`` or ``adam``.
    lr
        Peak learning rate.
    weight_decay, layer_decay
        See :func:`parameter_groups`.
    """
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(parameter_groups(model, weight_decay, layer_decay), lr=lr, fused=True)


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Group the trainable parameters by weight decay and, if asked for, by layer.

    Parameters
    ----------
    model
        Parameters that its ``no_weight_decay`` names have no weight decay.
    weight_decay
        Decay of weights with two or more dimensions. Biases and norms have none.
    layer_decay
        Below 1, there are two groups for each layer of the model's ``group_matcher``. Their
        ``lr_scale`` is 1 at the output and is multiplied by `layer_decay` for each layer nearer the
        input, as in ELECTRA (Clark et al. 2020, ICLR) and timm.

    Raises
    ------
    InputError
        If `layer_decay` is below 1 and the model has no ``group_matcher``.
    """
    no_weight_decay = getattr(model, "no_weight_decay", None)
    exempt: set[str] = set(no_weight_decay()) if callable(no_weight_decay) else set()
    if layer_decay < 1:
        if not callable(getattr(model, "group_matcher", None)):
            raise InputError(
                f"training.layer_decay is {layer_decay}, but {type(model).__name__} has no"
                " group_matcher, which names its layers in order of depth",
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
    """Set the learning rate of every group to `rate` times its ``lr_scale``, if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def rate_factor(
    progress: float, warmup_fraction: float, schedule: ScheduleName = "cosine"
) -> float:
    """Return the learning rate as a share of its peak.

    Parameters
    ----------
    progress
        Share of the training that is done, from 0 to 1.
    warmup_fraction
        Share in which the rate rises linearly.
    schedule
        After the warm-up, ``cosine`` falls to 0 and ``constant`` stays at the peak.

    Examples
    --------
    >>> [round(rate_factor(progress, 0.1), 3) for progress in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup_fraction:
        return max(progress / warmup_fraction, 1e-3)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))
