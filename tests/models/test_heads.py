"""The head can be trained alone, and the last layer can be set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.encoders import create_encoder
from tcgn_mil.models.heads import BeforeLastLayer, HeadOnly, last_layer, set_last_layer

GENES = 5
SIZES = {"resnet10t": 32, "tcgn_tiny": 224}


def images(name: str, count: int = 3) -> torch.Tensor:
    return torch.randn(
        count, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture(params=sorted(SIZES))
def named(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(0)
    return request.param, create_encoder(request.param, GENES)


def test_the_last_layer_maps_what_comes_before_it(named: tuple[str, nn.Module]) -> None:
    name, model = named
    model.eval()
    before = BeforeLastLayer(model)(images(name))
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((GENES, before.shape[1])), rng.standard_normal(GENES)
    set_last_layer(model, weight, bias)
    expected = before.detach().double().numpy() @ weight.T + bias
    np.testing.assert_allclose(model(images(name)).detach().numpy(), expected, rtol=1e-3, atol=1e-3)
    assert not last_layer(model)._forward_pre_hooks


def test_only_the_head_trains(named: tuple[str, nn.Module]) -> None:
    name, model = named
    before = {key: value.clone() for key, value in model.state_dict().items()}
    head = HeadOnly(model).train()
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=0.1)
    head(images(name)).square().sum().backward()
    optimizer.step()
    changed = {
        key for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed
    assert all(
        key.startswith(("fc.", "head.")) for key in changed
    )  # no weight and no running mean of the trunk


def test_a_model_without_a_linear_head_is_refused() -> None:
    with pytest.raises(InputError, match="no linear head"):
        last_layer(nn.Conv2d(3, 3, 1))
