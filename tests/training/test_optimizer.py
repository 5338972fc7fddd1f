"""Learning rates follow time and depth, and weight decay follows the optimizer's formula."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.models import create_model
from tcgn_mil.training.optimizer import make_optimizer, parameter_groups, rate_factor, set_rate


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    rates = [rate_factor(progress, 0.1) for progress in np.linspace(0, 1, 101)]
    assert 0 < rates[0] < 0.01
    assert rates[5] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rate_factor(0.0, 0.0) == 1.0  # no warm-up


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.LayerNorm(3)
        self.position = nn.Parameter(torch.zeros(4, 4))
        self.frozen = nn.Parameter(torch.zeros(4, 4), requires_grad=False)

    def no_weight_decay(self) -> set[str]:
        return {"position"}


def test_biases_norms_and_named_parameters_do_not_decay() -> None:
    model = Named()
    decayed, plain = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert [id(parameter) for parameter in decayed["params"]] == [id(model.layer.weight)]
    expected = {
        id(p) for p in (model.layer.bias, model.norm.weight, model.norm.bias, model.position)
    }
    assert {id(parameter) for parameter in plain["params"]} == expected


def test_a_constant_rate_stays_at_its_peak_after_the_warm_up() -> None:
    assert rate_factor(0.05, 0.1, "constant") == rate_factor(0.05, 0.1) == 0.5
    assert {rate_factor(progress, 0.1, "constant") for progress in np.linspace(0.1, 1, 50)} == {1.0}
    assert rate_factor(0.0, 0.0, "constant") == 1.0


def scales(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Return the lr_scale of each parameter by name."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 0.1, layer_decay)
    found = {
        name_of[id(parameter)]: group["lr_scale"]
        for group in groups
        for parameter in group["params"]
    }
    assert sorted(found) == sorted(name_of.values())
    return found


def test_layer_decay_follows_the_depth_of_tcgn() -> None:
    found = scales(create_model("tcgn_tiny", num_classes=3), 0.5)
    in_order = (
        "stem.conv1.weight",
        "stages.0.patch_embed.proj.weight",
        "stages.0.blocks.0.local.weight",
        "graph_blocks.0.position_bias",
        "stages.1.patch_embed.proj.weight",
        "stages.1.blocks.0.local.weight",
        "graph_blocks.1.position_bias",
        "stages.2.patch_embed.proj.weight",
        "stages.2.blocks.0.local.weight",
        "channel_attentions.1.encoder.norm1.weight",
        "stages.3.patch_embed.proj.weight",
        "stages.3.blocks.0.local.weight",
        "final_conv.weight",
        "head.fc2.weight",
    )
    assert [found[name] for name in in_order] == [0.5**depth for depth in range(13, -1, -1)]
    assert found["head.fc1.bias"] == 1.0
    assert (
        found["channel_attentions.0.encoder.norm1.weight"]
        == found["stages.2.patch_embed.proj.weight"]
    )


def test_layer_decay_follows_the_depth_of_a_timm_model() -> None:
    found = scales(timm.create_model("resnet10t", num_classes=3), 0.8)
    depth_of = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1, "fc": 0}
    for name, scale in found.items():
        assert scale == pytest.approx(0.8 ** depth_of[re.split(r"\.", name)[0]])


def test_layer_decay_keeps_weight_decay_as_it_was() -> None:
    model = create_model("tcgn_tiny", num_classes=3)

    def decayed(layer_decay: float) -> set[int]:
        groups = parameter_groups(model, 0.1, layer_decay)
        return {
            id(parameter)
            for group in groups
            if group["weight_decay"]
            for parameter in group["params"]
        }

    assert decayed(0.7) == decayed(1.0)


def test_layer_decay_of_a_model_without_layers_is_refused() -> None:
    with pytest.raises(InputError, match=r"layer_decay is 0\.7, but Named has no group_matcher"):
        parameter_groups(Named(), 0.1, 0.7)


def test_every_group_has_its_own_rate() -> None:
    model = timm.create_model("resnet10t", num_classes=3)
    optimizer = make_optimizer(model, "adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    set_rate(optimizer, 0.2)
    set_rate(optimizer, 0.1)  # of the rate given, not of the one before
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx(
        [0.1 / 2**i for i in range(5, -1, -1)]
    )
    plain = make_optimizer(Named(), "adamw", lr=1.0, weight_decay=0.1)
    set_rate(plain, 0.1)
    assert [group["lr"] for group in plain.param_groups] == [0.1, 0.1]


def test_adam_decays_through_the_gradient_and_adamw_beside_it() -> None:
    """Without a gradient, Adam makes a whole step, and AdamW shrinks by lr times weight_decay."""

    def after_a_step(name: Any) -> float:
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, 2.0)
        optimizer = make_optimizer(model, name, lr=0.1, weight_decay=0.5)
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        return float(model.weight.detach())

    assert after_a_step("adam") == pytest.approx(2.0 - 0.1)
    assert after_a_step("adamw") == pytest.approx(2.0 * (1 - 0.1 * 0.5))
