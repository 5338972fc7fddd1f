"""From the tiles of a patient to a bulk profile: attention pooling with an expression head whose last layer is linear.

References: Ilse M, Tomczak JM, Welling M. Attention-based deep multiple instance learning. ICML 2018 (gated and plain
attention). Javed SA et al. Additive MIL: intrinsically interpretable multiple instance learning for pathology. NeurIPS
2022. Katharopoulos A et al. Transformers are RNNs: fast autoregressive transformers with linear attention. ICML 2020,
as comparator in the manner of SEQUOIA (Pizurica M et al., Nat Commun 2024).

Departures: several attention heads share one value per tile (the map's weight is their mean); features are
standardised by statistics of the training tiles and then normalised; the head's last layer is linear. Since attention
sums to one over tiles, the expression of a slide is then exactly the attention-weighted sum of its tiles' expression,
while training pools before that layer and never holds tiles x genes. Tile scores live in the standardised target
space: they are not abundances (the log of a mean is not the mean of logs).

In the additive form a tile's expression is the sum of two linear heads: one on what the last layer of the encoder's
head reads, which starts as that layer was trained on spots, and one on the learned values, which starts near zero. So
the model predicts before it has seen any bulk profile.

Shapes: B bags, N tiles (padded), D features, H heads, E embedding, S width of the spot head's input (D, or its hidden
layer's), V = E (pooled) or S + E (additive), G genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.aggregators import LinearAttention, MeanAttention, TileAttention, max_pool
from tcgn_mil.models.heads import SpotFeatures, SpotHead

Pooling = Literal["gated", "attention", "mean", "max", "transformer"]
Form = Literal["pooled", "additive"]
_LAYERS = 2  # of the transformer
_ADDITIVE_POOLINGS = ("gated", "attention", "mean")


@dataclass(frozen=True)
class MilConfig:
    """Size of the slide model.

    Attributes
    ----------
    pooling
        ``gated`` attention; to compare it with: ``attention`` without gates, ``mean`` or ``max`` over tiles, and
        ``transformer``, two layers in which tiles attend to each other at linear cost, then the mean.
    form
        ``pooled``: the head reads learned values alone; ``additive``: also the encoder's features, by a head that can
        start from the one trained on spots (see :meth:`SlideRegressor.start_from_spots`).
    spot_hidden
        Width of the hidden layer of the head trained on spots, which the additive form keeps as it is; 0 for a head
        without (timm models).
    embedding
        E, width of a tile's value.
    attention_hidden
        Width of the attention network.
    heads
        Attention heads.
    dropout
        On tile values, 0 to 1.
    """

    pooling: Pooling = "gated"
    form: Form = "pooled"
    embedding: int = 64
    attention_hidden: int = 32
    heads: int = 1
    dropout: float = 0.5
    spot_hidden: int = 0

    def __post_init__(self) -> None:
        for name in ("embedding", "attention_hidden", "heads"):
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} is {getattr(self, name)}", fix="give at least 1")
        if not 0 <= self.dropout < 1:
            raise InputError(
                f"model.dropout is {self.dropout}", fix="give a value from 0 to below 1"
            )
        for name, choices in (("pooling", get_args(Pooling)), ("form", get_args(Form))):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"model.{name} is {getattr(self, name)!r}",
                    fix=f"choose one of {', '.join(choices)}",
                )
        if self.form == "additive" and self.pooling not in _ADDITIVE_POOLINGS:
            raise InputError(
                f"model.form=additive goes with pooling {', '.join(_ADDITIVE_POOLINGS)}, not {self.pooling}",
                fix="use form=pooled, or another pooling",
            )
        if self.pooling == "transformer" and self.embedding % self.heads:
            raise InputError(
                f"model.embedding {self.embedding} is no multiple of model.heads {self.heads}",
                fix="give an embedding that the heads divide",
            )


class SlideOutput(NamedTuple):
    """What the model says of a batch of bags.

    Attributes
    ----------
    expression
        (B, G) in the standardised target space.
    attention
        (B, H, N) float32, zero at padding, summing to one over the tiles of a bag; with ``max`` the share of the
        embedding that comes from a tile.
    embedding
        (B, V) pooled tile values, which the head reads.
    tile_expression
        (B, N, chosen genes) if asked for, whose sum under the mean attention over heads is the bag's expression (not
        with ``max``). Standardised scores, no abundances.
    """

    expression: Tensor
    attention: Tensor
    embedding: Tensor
    tile_expression: Tensor | None = None


class SlideRegressor(nn.Module):
    """Bags of tile features to standardised expression.

    Parameters
    ----------
    in_features
        D.
    num_genes
        G.
    config
        Sizes.

    Notes
    -----
    Any number of tiles from one on; a padded bag equals its unpadded self and the order of tiles does not matter.
    """

    def __init__(self, in_features: int, num_genes: int, config: MilConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MilConfig()
        self.in_features, self.num_genes = in_features, num_genes
        self.value = nn.Sequential(
            nn.LayerNorm(in_features),
            nn.Linear(in_features, config.embedding),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.context = nn.ModuleList(
            LinearAttention(config.embedding, config.heads, config.dropout)
            for _ in range(_LAYERS if config.pooling == "transformer" else 0)
        )
        self.attention = (
            TileAttention(
                config.embedding,
                config.attention_hidden,
                config.heads,
                gated=config.pooling == "gated",
            )
            if config.pooling in ("gated", "attention")
            else MeanAttention()
        )
        self.head = nn.Linear(config.embedding, num_genes)
        self.spot_features: nn.Module | None = None
        self.spot_head: nn.Linear | None = None
        if config.form == "additive":
            self.spot_features = SpotFeatures(in_features, config.spot_hidden)
            self.spot_head = nn.Linear(config.spot_hidden or in_features, num_genes, bias=False)
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("feature_mean", torch.zeros(in_features))
        self.register_buffer("feature_std", torch.ones(in_features))
        nn.init.zeros_(self.head.bias)  # the training mean, in standardised targets
        nn.init.normal_(self.head.weight, std=0.01)
        if self.spot_head is not None:
            nn.init.zeros_(self.spot_head.weight)

    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics (D,) of training tiles by which features are standardised; they are saved with the model.

        Worth doing before training: encoders' features lie close to a common mean, which LayerNorm leaves in place.
        On 272 patients with 30 nuclear features, the median r over genes was 0.06 without and 0.12 with it.
        """
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)

    def start_from_spots(self, head: SpotHead, centre: Tensor) -> None:
        """Let the additive head start as a head that was trained on spots.

        Parameters
        ----------
        head
            With zero rows of its weight for genes that the spots did not have.
        centre
            (S,) mean of :meth:`SpotHead.last_input` over training tiles: an average tile then scores 0, the training
            mean of standardised targets.

        Raises
        ------
        ValueError
            If the model has no additive head.
        """
        if self.spot_head is None or self.spot_features is None:
            raise ValueError("only the additive form starts from spots")
        with torch.no_grad():
            self.spot_head.weight.copy_(head.weight)
            self.spot_features.centre.copy_(centre)  # type: ignore[operator]
            if head.hidden is not None:
                self.spot_features.weight.copy_(head.hidden.weight)  # type: ignore[operator]
                self.spot_features.bias.copy_(head.hidden.bias)  # type: ignore[operator]

    def forward(
        self, features: Tensor, mask: Tensor, *, tile_genes: Sequence[int] | None = None
    ) -> SlideOutput:
        """(B, N, D) and (B, N) bool, at least one tile a bag -> SlideOutput, with tile scores of `tile_genes`."""
        values = self.in_context(self.tile_values(features), mask)
        out = self.pool(values, mask)
        return (
            out
            if tile_genes is None
            else out._replace(tile_expression=self.score_tiles(values, tile_genes))
        )

    def tile_values(self, features: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, V), tile by tile, so that a large bag can be taken in chunks."""
        values = self.value((features - self.feature_mean) / self.feature_std)
        if self.spot_features is None:
            return values
        return torch.cat([self.spot_features(features).to(values.dtype), values], dim=-1)

    def in_context(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, N, V) -> (B, N, V): what tiles learn of the bag's other tiles; without a transformer nothing."""
        for layer in self.context:
            values = layer(values, mask)
        return values

    def pool(self, values: Tensor, mask: Tensor) -> SlideOutput:
        """(B, N, V) and (B, N) bool -> SlideOutput without tile scores."""
        if self.config.pooling == "max":
            embedding, attention = max_pool(values, mask)
        else:
            attention = self.attention(values[..., -self.config.embedding :], mask)
            with torch.autocast(
                values.device.type, enabled=False
            ):  # a sum over 1e5 tiles needs float32
                embedding = torch.bmm(attention.mean(dim=1, keepdim=True), values.float()).squeeze(
                    1
                )
        return SlideOutput(
            nn.functional.linear(embedding, self._weight(), self.head.bias), attention, embedding
        )

    def score_tiles(self, values: Tensor, genes: Sequence[int]) -> Tensor:
        """(B, N, V) -> (B, N, chosen genes)."""
        chosen = torch.as_tensor(genes, dtype=torch.long, device=values.device)
        return nn.functional.linear(values, self._weight()[chosen], self.head.bias[chosen])

    def _weight(self) -> Tensor:
        """(G, V) of both heads."""
        return (
            self.head.weight
            if self.spot_head is None
            else torch.cat([self.spot_head.weight, self.head.weight], 1)
        )
