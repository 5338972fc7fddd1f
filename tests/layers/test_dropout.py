"""Dropout has the right share, scale and gradient, and a seed repeats it."""

from __future__ import annotations

import pytest
import torch

from tcgn_mil.layers.dropout import Dropout, dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_share_dropped_and_expectation(probability: float) -> None:
    torch.manual_seed(0)
    found = dropout(torch.ones(999, 1001), probability)
    assert float((found == 0).float().mean()) == pytest.approx(probability, abs=2e-3)
    assert float(found.mean()) == pytest.approx(1.0, abs=1e-2)
    assert found.unique().numel() == 2


def test_neighbouring_values_are_dropped_independently() -> None:
    torch.manual_seed(1)
    lost = (dropout(torch.ones(1_000_000), 0.3) == 0).double()
    for lag in (1, 2, 3, 4, 8):
        together = float((lost[:-lag] * lost[lag:]).mean())
        assert together == pytest.approx(0.09, abs=2e-3)


def test_the_seed_fixes_the_mask_and_the_gradient_follows_it() -> None:
    values = torch.ones(3, 5, 7, requires_grad=True)
    torch.manual_seed(2)
    first = dropout(values, 0.5)
    torch.manual_seed(2)
    assert torch.equal(first, dropout(values, 0.5))
    assert not torch.equal(first, dropout(values, 0.5))
    first.sum().backward()
    assert torch.equal(values.grad, first.detach())


def test_eval_mode_and_extreme_probabilities() -> None:
    values = torch.randn(4, 3)
    assert Dropout(0.4).eval()(values) is values
    assert torch.equal(dropout(values, 0.0), values)
    assert torch.equal(dropout(values, 1.0), torch.zeros(4, 3))
    assert dropout(torch.ones(8, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16
