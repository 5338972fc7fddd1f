"""Aggregators are chosen by name, and a class of one's own can be registered."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.aggregators import (
    AGGREGATORS,
    Aggregator,
    Pooled,
    register_aggregator,
    weighted_sum,
)
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import MilConfig

D, G = 12, 5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"pooling": "max", "form": "additive"},
            r"form=additive does not work with model.pooling=max.*one of gated, attention, mean,",
        ),
        (
            {"pooling": "transformer", "form": "additive"},
            "form=additive does not work with model.pooling=transformer",
        ),
        (
            {"pooling": "best"},
            "model.pooling is 'best'.*one of gated, attention, mean, max, transformer",
        ),
        ({"pooling": "transformer", "heads": 3}, "not a multiple of model.heads 3"),
    ],
)
def test_a_config_that_no_model_can_have_is_refused(keys: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SlideRegressor(D, G, MilConfig(**keys))


class Brightest(Aggregator):
    """Softmax over the sums of the tiles' values, such as a user would write."""

    sentence = "the tiles with the largest sums of values"

    def __init__(self, config: MilConfig) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.ones(()))

    def forward(self, values: Tensor, mask: Tensor) -> Pooled:
        logits = self.sharpness * values.float().sum(dim=2)
        attention = logits.masked_fill(~mask, -torch.inf).softmax(dim=1)[:, None]
        return Pooled(weighted_sum(values, attention), attention)


def test_the_aggregator_door_takes_a_class_from_outside() -> None:
    register_aggregator("brightest")(Brightest)
    try:
        torch.manual_seed(0)
        model = SlideRegressor(D, G, MilConfig(pooling="brightest", embedding=8, dropout=0))
        features, mask = torch.randn(3, 6, D), torch.ones(3, 6, dtype=torch.bool)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for _ in range(2):
            loss = (model(features, mask).expression - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[1] < losses[0]
        assert model.get_parameter("attention.sharpness").item() != 1
        out = model.eval()(features, mask, tile_genes=range(G))
        summed = torch.einsum("bn,bng->bg", out.attention[:, 0], out.tile_expression)
        torch.testing.assert_close(summed, out.expression)
        # In the additive form it sees the values of both heads, whether tiles are scored or not.
        config = MilConfig(pooling="brightest", form="additive", embedding=8)
        additive = SlideRegressor(D, G, config).eval()
        torch.testing.assert_close(
            additive(features, mask).attention, additive(features, mask, tile_genes=[0]).attention
        )
        with pytest.raises(InputError, match="aggregator 'brightest' is registered already"):
            register_aggregator("brightest")(Brightest)
    finally:
        AGGREGATORS.pop("brightest")


def test_every_aggregator_has_a_phrase_for_the_methods_text() -> None:
    phrases = {name: aggregator.sentence for name, aggregator in AGGREGATORS.items()}
    assert phrases["gated"] == "gated attention"
    assert len(set(phrases.values())) == len(phrases)
