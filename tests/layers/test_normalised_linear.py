"""The first layer of the slide model equals its plain form, in values and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tcgn_mil.layers import normalised_linear as module
from tcgn_mil.layers.normalised_linear import normalised_linear
from tcgn_mil.layers.pooled_features import pooled_features

K = 24


def layers(width: int) -> tuple[nn.LayerNorm, nn.Linear]:
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(width), nn.Linear(width, K)
    with torch.no_grad():
        norm.weight.add_(0.3 * torch.randn(width))
        norm.bias.add_(0.3 * torch.randn(width))
    return norm, linear


def statistics(width: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation; the mean is about `ratio` standard deviations."""
    generator = torch.Generator().manual_seed(1)
    std = torch.rand(width, generator=generator) + 0.1
    return ratio * std * torch.randn(width, generator=generator), std


def tiles(mean: Tensor, std: Tensor, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return (torch.randn(*shape, len(mean), generator=generator) * std + mean).half()


def plain(
    features: Tensor, mean: Tensor, std: Tensor, norm: nn.LayerNorm, linear: nn.Linear
) -> Tensor:
    """Apply one layer after the other, which is the reference."""
    standardised = (features.to(mean.dtype) - mean) / std
    return linear(norm(standardised.nan_to_num(0.0)))


def with_gradients(
    value: Tensor, norm: nn.LayerNorm, linear: nn.Linear
) -> tuple[Tensor, list[Tensor]]:
    parameters = [*norm.parameters(), *linear.parameters()]
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(3)).to(value.dtype)
    return value.detach(), list(torch.autograd.grad((value * weights).sum(), parameters))


def relative(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("width", [1280, 192, 37])  # as images; as images; as a matrix product
@pytest.mark.parametrize("ratio", [0.0, 50.0])
def test_values_and_gradients_are_those_of_the_plain_form(width: int, ratio: float) -> None:
    (norm, linear), (mean, std) = layers(width), statistics(width, ratio)
    features = tiles(mean, std, 2, 533)  # several blocks, and rows that fill no image
    found = with_gradients(normalised_linear(features, mean, std, norm, linear), norm, linear)
    single = with_gradients(plain(features, mean, std, norm, linear), norm, linear)
    double = [copy.deepcopy(layer).double() for layer in (norm, linear)]
    exact = with_gradients(plain(features, mean.double(), std.double(), *double), *double)
    assert relative(found[0], single[0]) < 6e-7
    assert relative(found[0], exact[0]) < 5e-7
    for ours, theirs, truth in zip(found[1], single[1], exact[1], strict=True):
        assert relative(ours, truth) < 1e-6
        assert relative(ours, theirs) < 4e-6  # the error of the plain form


def test_bfloat16_is_as_exact_as_in_the_plain_form() -> None:
    (norm, linear), (mean, std) = layers(256), statistics(256, 50.0)
    features = tiles(mean, std, 300)
    exact = plain(features, mean, std, norm, linear)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = normalised_linear(features, mean, std, norm, linear)
        reference = plain(features, mean, std, norm, linear)
    assert found.dtype == reference.dtype == torch.bfloat16
    assert relative(found, exact) < 1.5 * relative(reference, exact) < 0.02


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_features_keep_their_gradients_in_narrow_arithmetic(dtype: torch.dtype) -> None:
    (norm, linear), (mean, std) = layers(256), statistics(256, 1.0)
    features = torch.randn(64, 256, generator=torch.Generator().manual_seed(5)) * std + mean
    small = 1e-6  # features of this size are hardly numbers in float16
    exact = with_gradients(plain(features, mean, std, norm, linear), norm, linear)[1]
    with torch.autocast("cpu", dtype=dtype):
        value = normalised_linear(small * features, small * mean, small * std, norm, linear)
    for found, expected in zip(with_gradients(value, norm, linear)[1], exact, strict=True):
        assert relative(found, expected) < 0.03


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_missing_feature_is_its_mean_and_an_infinite_one_an_error(dtype: torch.dtype) -> None:
    (norm, linear), (mean, std) = layers(64), statistics(64, 3.0)
    features = tiles(mean, std, 40).to(dtype)
    features[7, 3] = torch.nan
    found = normalised_linear(features, mean, std, norm, linear)
    torch.testing.assert_close(found, plain(features, mean, std, norm, linear))
    assert features[7, 3].isnan()  # the input is left as it was
    features[7, 3] = torch.inf
    assert normalised_linear(features, mean, std, norm, linear)[7].isnan().all()


def test_features_that_need_a_gradient_receive_it() -> None:
    (norm, linear), (mean, std) = layers(64), statistics(64, 3.0)
    features = tiles(mean, std, 40).float().requires_grad_()
    value = normalised_linear(features, mean, std, norm, linear)
    torch.testing.assert_close(
        value, normalised_linear(features.detach(), mean, std, norm, linear), rtol=1e-5, atol=1e-6
    )
    value.square().sum().backward()
    assert features.grad is not None
    assert (features.grad.abs().sum(dim=1) > 0).all()


def test_many_weights_are_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    (norm, linear), (mean, std) = layers(64), statistics(64, 3.0)
    features = tiles(mean, std, 40)
    weights, calls = torch.stack([linear.weight * factor for factor in (1.0, 2.0, 3.0)]), []
    product = module._times
    monkeypatch.setattr(module, "_times", lambda *given: calls.append(given) or product(*given))

    def of(weight: Tensor) -> Tensor:
        return torch.func.functional_call(
            _Layer(norm, linear, mean, std), {"linear.weight": weight}, (features,)
        )

    found = torch.func.vmap(of)(weights)
    assert len(calls) == 2  # 32 rows as images, and the other 8; each for all three weights
    for value, weight in zip(found, weights, strict=True):
        torch.testing.assert_close(value, of(weight), rtol=1e-5, atol=1e-5)


class _Layer(nn.Module):
    def __init__(self, norm: nn.LayerNorm, linear: nn.Linear, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.norm, self.linear, self.mean, self.std = norm, linear, mean, std

    def forward(self, features: Tensor) -> Tensor:
        return normalised_linear(features, self.mean, self.std, self.norm, self.linear)


def test_pooled_features_are_the_sum_of_centred_ones() -> None:
    centre, _ = statistics(48, 3.0)
    features = tiles(centre, torch.ones(48), 2, 70)
    features[0, 3, 5] = torch.nan
    weights = torch.rand(3, 2, 70, generator=torch.Generator().manual_seed(0)).requires_grad_()
    centred = (features.float() - centre).nan_to_num(0.0)
    found, expected = (
        pooled_features(features, centre, weights[0]),
        torch.einsum("bn,bnd->bd", weights[0], centred),
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    for left, right in zip(*(grad_of(value, weights) for value in (found, expected)), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-4)
    many = torch.func.vmap(lambda each: pooled_features(features, centre, each))(weights)
    torch.testing.assert_close(many[0], found)


def grad_of(value: Tensor, weights: Tensor) -> Tensor:
    return torch.autograd.grad(value.square().sum(), weights)[0]
