"""The slide model: invariances, sums of tile scores, gradients and learning."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.aggregators import AGGREGATORS
from tcgn_mil.models.heads import SpotHead, SpotHidden
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import MilConfig

D, G = 12, 5
VARIANTS = [
    MilConfig(embedding=8, attention_hidden=6, heads=2),
    MilConfig(pooling="attention", embedding=8, attention_hidden=6),
    MilConfig(pooling="mean", embedding=8),
    MilConfig(pooling="max", embedding=8),
    MilConfig(pooling="transformer", embedding=8, heads=2),
    MilConfig(form="additive", embedding=8, attention_hidden=6, heads=2),
    MilConfig(pooling="mean", form="additive", embedding=8, spot_hidden=D),
]


@pytest.fixture(params=VARIANTS, ids=lambda config: f"{config.pooling}-{config.form}")
def model(request: pytest.FixtureRequest) -> SlideRegressor:
    torch.manual_seed(0)
    model = SlideRegressor(D, G, request.param)
    with torch.no_grad():  # larger than at the start, so that tiles and genes differ visibly
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
        for buffer in () if model.spot_features is None else model.spot_features.buffers():
            buffer.add_(0.5 * torch.randn_like(buffer))
    return model.eval()


def bag(tiles: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    features = torch.randn(1, tiles, D, generator=torch.Generator().manual_seed(seed))
    return features, torch.ones(1, tiles, dtype=torch.bool)


def padded(parts: list[tuple[Tensor, Tensor]], filling: float = 0.0) -> tuple[Tensor, Tensor]:
    longest = max(features.shape[1] for features, _ in parts)
    features = torch.full((len(parts), longest, D), filling)
    mask = torch.zeros(len(parts), longest, dtype=torch.bool)
    for row, (part, _) in enumerate(parts):
        features[row, : part.shape[1]], mask[row, : part.shape[1]] = part[0], True
    return features, mask


@pytest.mark.parametrize("filling", [0.0, 7.0])
def test_a_padded_bag_equals_its_unpadded_self(model: SlideRegressor, filling: float) -> None:
    parts = [bag(3, 1), bag(1, 2), bag(9, 3)]
    together = model(*padded(parts, filling))
    for row, (features, mask) in enumerate(parts):
        alone = model(features, mask)
        tiles = features.shape[1]
        torch.testing.assert_close(
            together.expression[row], alone.expression[0], atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            together.attention[row, :, :tiles], alone.attention[0], atol=1e-6, rtol=1e-5
        )
        assert (together.attention[row, :, tiles:] == 0).all()


def test_a_missing_feature_counts_as_its_training_mean() -> None:
    torch.manual_seed(0)
    model = SlideRegressor(D, G, MilConfig(embedding=8, attention_hidden=6, heads=2)).eval()
    model.standardise(torch.arange(D) * 100.0, torch.arange(D) + 1.0)
    features, mask = bag(4)
    complete, missing = features.clone(), features.clone()
    complete[0, 2, 3], missing[0, 2, 3] = model.feature_mean[3], torch.nan
    torch.testing.assert_close(
        model(missing, mask).expression, model(complete, mask).expression, atol=0, rtol=0
    )
    assert missing[0, 2, 3].isnan()  # the input is left as it was


def test_a_missing_feature_leaves_every_variant_finite(model: SlideRegressor) -> None:
    features, mask = bag(4)
    features[0, 2, 3] = torch.nan
    output = model(features, mask, tile_genes=[0])
    assert output.expression.isfinite().all()
    assert output.tile_expression.isfinite().all()
    features[0, 2, 3] = torch.inf  # an error, which must not turn into a prediction
    assert not model(features, mask).expression.isfinite().all()


def test_the_order_of_tiles_does_not_matter(model: SlideRegressor) -> None:
    features, mask = bag(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    first, second = model(features, mask), model(features[:, order], mask)
    torch.testing.assert_close(first.expression, second.expression, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first.attention[:, :, order], second.attention, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "model",
    [config for config in VARIANTS if AGGREGATORS[config.pooling].supports_tile_scores],
    indirect=True,
)
@pytest.mark.parametrize("tiles", [1, 40, 5_000])
def test_attention_weighted_tile_scores_are_the_expression(
    model: SlideRegressor, tiles: int
) -> None:
    features, mask = padded([bag(tiles), bag(max(1, tiles // 2), 2)])
    genes = [4, 0]
    out = model(features, mask, tile_genes=genes)
    summed = torch.einsum("bn,bng->bg", out.attention.mean(dim=1), out.tile_expression)
    torch.testing.assert_close(summed, out.expression[:, genes], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        out.attention.sum(dim=-1), torch.ones(out.attention.shape[:2]), atol=1e-5, rtol=0
    )


def test_with_max_the_map_says_which_tiles_the_embedding_comes_from() -> None:
    model = SlideRegressor(D, G, MilConfig(pooling="max", embedding=8)).eval()
    features, mask = bag(30)
    out = model(features, mask)
    values = model.tile_values(features)
    torch.testing.assert_close(out.embedding, values.max(dim=1).values)
    share = torch.bincount(values[0].argmax(dim=0), minlength=30) / 8
    torch.testing.assert_close(out.attention[0, 0], share)


def test_tiles_of_a_transformer_know_each_other() -> None:
    model = SlideRegressor(D, G, MilConfig(pooling="transformer", embedding=8)).eval()
    features, mask = bag(6)
    other = features.clone()
    other[0, 5] = -features[0, 5]
    scores = [
        model(found, mask, tile_genes=[0]).tile_expression[0, :5] for found in (features, other)
    ]
    assert (scores[0] - scores[1]).abs().max() > 1e-5


@pytest.mark.parametrize("hidden", [0, 6])
def test_the_additive_form_starts_as_the_head_trained_on_spots(hidden: int) -> None:
    """Scores are centred; the second head starts near zero; genes without spots start at 0."""
    torch.manual_seed(0)
    model = SlideRegressor(D, G, MilConfig(form="additive", embedding=8, spot_hidden=hidden)).eval()
    model.standardise(torch.randn(D), torch.rand(D) + 0.5)
    layer = SpotHidden(torch.randn(6, D), torch.randn(6)) if hidden else None
    weight = torch.randn(G, hidden or D)
    weight[3] = 0
    head = SpotHead(weight, layer)
    features, mask = bag(50)
    read = nn.functional.gelu(features[0] @ layer.weight.T + layer.bias) if layer else features[0]
    torch.testing.assert_close(head.last_input(features[0]), read)
    model.start_from_spots(head, read.mean(dim=0))
    scores = model(features, mask, tile_genes=range(G)).tile_expression[0]
    torch.testing.assert_close(scores, (read - read.mean(dim=0)) @ weight.T, atol=0.2, rtol=0)
    assert scores[:, 3].abs().max() < 0.2
    with pytest.raises(ValueError, match="additive"):
        SlideRegressor(D, G).start_from_spots(head, read.mean(dim=0))


def test_tile_scores_come_on_request_only(model: SlideRegressor) -> None:
    assert model(*bag(4)).tile_expression is None
    assert model(*bag(4), tile_genes=[]).tile_expression.shape == (1, 4, 0)


def test_stored_features_give_the_same_with_and_without_scores_of_tiles(
    model: SlideRegressor,
) -> None:
    """Without scores of tiles, the additive form pools features without holding their values."""
    features, mask = padded([bag(20), bag(35, 2)])
    stored = features.half()
    with_scores, without = model(stored, mask, tile_genes=[0]), model(stored, mask)
    for name in ("expression", "attention", "embedding"):
        found, expected = getattr(without, name), getattr(with_scores, name)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(without.expression, model(stored.float(), mask).expression)
    parameters = [value for name, value in model.named_parameters() if "value" in name]
    gradients = [
        torch.autograd.grad(output.expression.square().sum(), parameters)
        for output in (without, with_scores)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_outputs_have_the_stated_shapes(model: SlideRegressor) -> None:
    out = model(*padded([bag(3), bag(7)]), tile_genes=range(G))
    heads = model.config.heads if model.config.pooling in ("gated", "attention") else 1
    width = model.config.embedding + (D if model.config.form == "additive" else 0)
    assert out.expression.shape == (2, G)
    assert out.attention.shape == (2, heads, 7)
    assert out.embedding.shape == (2, width)
    assert out.tile_expression.shape == (2, 7, G)


def test_every_parameter_receives_a_gradient(model: SlideRegressor) -> None:
    model.train()(*padded([bag(6), bag(4)])).expression.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_attention_sums_to_one_in_mixed_precision(model: SlideRegressor) -> None:
    features, mask = bag(20_000)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(features, mask)
    with torch.inference_mode():
        full = model(features, mask)
    torch.testing.assert_close(
        mixed.attention.sum(-1), torch.ones_like(mixed.attention[..., 0]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(mixed.expression.float(), full.expression, atol=0.05, rtol=0.02)


def train(
    model: SlideRegressor, features: Tensor, mask: Tensor, targets: Tensor, steps: int
) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        loss = nn.functional.mse_loss(model(features, mask).expression, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_it_overfits_a_few_bags() -> None:
    torch.manual_seed(0)
    features, mask = padded([bag(tiles, seed) for tiles, seed in [(3, 1), (8, 2), (5, 3), (1, 4)]])
    model = SlideRegressor(D, G, MilConfig(embedding=16, attention_hidden=8, dropout=0))
    assert train(model, features, mask, torch.randn(4, G), steps=200) < 1e-3


def test_gated_attention_finds_the_tile_that_matters_where_the_mean_cannot() -> None:
    """The target is the mark of the one flagged tile; the other 59 tiles carry decoys."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(64, 60, D, generator=generator)
    bags, key = torch.arange(64), torch.randint(0, 60, (64,), generator=generator)
    features[..., 0] = -1
    features[bags, key, 0] = 3
    targets, mask = features[bags, key, 1:2], torch.ones(64, 60, dtype=torch.bool)
    losses, weights = {}, {}
    for pooling in ("gated", "mean"):
        torch.manual_seed(0)
        model = SlideRegressor(
            D, 1, MilConfig(pooling=pooling, embedding=16, attention_hidden=8, dropout=0)
        )
        losses[pooling] = train(model, features, mask, targets, steps=100)
        weights[pooling] = float(
            model(features, mask).attention.mean(dim=1)[bags, key].mean().detach()
        )
    assert losses["gated"] < 0.1 * losses["mean"]
    assert weights["gated"] > 3 * weights["mean"] == pytest.approx(3 / 60)


def test_a_fresh_model_predicts_about_the_training_mean() -> None:
    torch.manual_seed(0)
    assert SlideRegressor(D, G).eval()(*bag(30)).expression.abs().max() < 0.3


@pytest.mark.parametrize(
    "model", [config for config in VARIANTS if config.form == "pooled"], indirect=True
)
def test_standardised_features_do_not_depend_on_offset_and_scale(model: SlideRegressor) -> None:
    features, mask = bag(20)
    offset, scale = torch.linspace(-50, 50, D), torch.linspace(0.1, 9, D)
    expected = model(features, mask).expression
    model.standardise(offset, scale)
    torch.testing.assert_close(
        model(features * scale + offset, mask).expression, expected, atol=1e-3, rtol=1e-3
    )
    assert {"feature_mean", "feature_std"} <= set(model.state_dict())


def test_the_same_seed_makes_the_same_model() -> None:
    first, second, other = (_seeded(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def _seeded(seed: int) -> SlideRegressor:
    torch.manual_seed(seed)
    return SlideRegressor(D, G)


@pytest.mark.parametrize(("name", "value"), [("dropout", 1.0), ("embedding", 0), ("heads", 0)])
def test_impossible_sizes_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"config key '{name}' is"):
        MilConfig(**{name: value})
