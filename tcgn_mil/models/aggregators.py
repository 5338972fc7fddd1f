"""Aggregators: the ways in which a slide model pools the tiles of a bag into one vector.

An aggregator gives every tile of a bag a weight and pools the values of the tiles. Each one is a
class, registered under the name that the setting ``model.pooling`` uses:

>>> sorted(AGGREGATORS)
['attention', 'gated', 'max', 'mean', 'transformer']

To add one, derive a class from :class:`Aggregator` and register it with
:func:`register_aggregator`. If the class has a file of its own, import that file, because the class
is registered when its file is imported.

References
----------
Ilse M, Tomczak JM, Welling M. Attention-based deep multiple instance learning. ICML 2018 (gated
and plain attention).
Katharopoulos A et al. Transformers are RNNs: fast autoregressive transformers with linear
attention. ICML 2020.

Notes
-----
Shapes: B bags, N tiles (padded to the longest bag), H attention heads, E width of a tile's learned
value, V width of all values of a tile. V equals E in the pooled form of the slide model; in the
additive form, the last E of the V values are the learned ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.layers.linear_attention import LinearAttention
from tcgn_mil.registry import add_entry
from tcgn_mil.settings.model_names import unknown_aggregator
from tcgn_mil.settings.slide_model import MilConfig

_TRANSFORMER_LAYERS = 2


class Pooled(NamedTuple):
    """Result of an aggregator.

    Attributes
    ----------
    embedding
        (B, V) float32, the pooled values of each bag.
    attention
        (B, H, N) float32, weights of the tiles. They are zero at padding and sum to one over the
        tiles of a bag.
    """

    embedding: Tensor
    attention: Tensor


class Aggregator(nn.Module):
    """Base class of all aggregators.

    A subclass takes a :class:`~tcgn_mil.settings.slide_model.MilConfig` as its only argument and
    defines :meth:`forward`. It has to treat a bag as a set: the order of the tiles must not matter,
    and neither must padding.

    Attributes
    ----------
    sentence
        Name of the aggregator in the methods text of the report, which reads "expression was
        predicted from features of encoder X by <sentence>".
    supports_tile_scores
        Whether the embedding is the sum of the tiles' values, weighted by the attention averaged
        over heads. The expression of a bag is then exactly the same weighted sum of the expression
        scores of its tiles.
    reads_learned_only
        Whether the attention depends on the last E values alone, in the additive form as well. The
        other values are then pooled by the slide model, which is faster. It counts only on the
        class itself, since a derived class may pool otherwise.
    """

    sentence: ClassVar[str]
    supports_tile_scores: ClassVar[bool] = True
    reads_learned_only: ClassVar[bool] = False

    @staticmethod
    def context_layers(config: MilConfig) -> nn.ModuleList:
        """Make the layers through which the tiles of a bag see one another before they are pooled.

        Each layer maps values (B, N, V) and a mask (B, N) to values (B, N, V). By default there
        is none, so that a tile's value depends on that tile alone.
        """
        del config
        return nn.ModuleList()

    def forward(self, values: Tensor, mask: Tensor) -> Pooled:
        """Pool the tiles of each bag.

        Parameters
        ----------
        values
            (B, N, V) values of the tiles.
        mask
            (B, N) bool, True at tiles and False at padding. Each bag has at least one tile.

        Returns
        -------
        Embedding (B, V) and attention (B, H, N).
        """
        raise NotImplementedError


AGGREGATORS: dict[str, type[Aggregator]] = {}
_Class = TypeVar("_Class", bound=type[Aggregator])


def register_aggregator(name: str) -> Callable[[_Class], _Class]:
    """Register an aggregator class, as a decorator.

    Parameters
    ----------
    name
        Value of ``model.pooling`` that selects the class.

    Raises
    ------
    InputError
        If another class has this name.

    Examples
    --------
    >>> @register_aggregator("median")
    ... class Median(Aggregator):
    ...     sentence = "the median over tiles"
    ...     supports_tile_scores = False
    ...
    ...     def __init__(self, config):
    ...         super().__init__()
    ...
    ...     def forward(self, values, mask):
    ...         hidden = values.float().masked_fill(~mask[..., None], torch.nan)
    ...         embedding = hidden.nanmedian(dim=1).values
    ...         return Pooled(embedding, (mask / mask.sum(dim=1, keepdim=True))[:, None])
    >>> AGGREGATORS.pop("median").sentence
    'the median over tiles'
    """

    def register(aggregator: _Class) -> _Class:
        entry: type[Aggregator] = aggregator
        add_entry(AGGREGATORS, name, entry, what="aggregator")
        return aggregator

    return register


def aggregator_class(config: MilConfig) -> type[Aggregator]:
    """Return the aggregator that a configuration names, and check that the form allows it.

    Raises
    ------
    InputError
        If no aggregator has the name, or the additive form is combined with an aggregator for
        which tile scores do not add up.
    """
    if config.pooling not in AGGREGATORS:
        raise unknown_aggregator(config.pooling, AGGREGATORS)
    if config.form == "additive" and not _adds_up(AGGREGATORS[config.pooling], config):
        # The additive form adds the scores of two heads tile by tile. This equals the expression of
        # the bag only if the bag is a weighted sum of tiles that do not depend on one another.
        usable = [name for name, other in AGGREGATORS.items() if _adds_up(other, config)]
        raise InputError(
            f"model.form=additive does not work with model.pooling={config.pooling}",
            fix=f"set model.pooling to one of {', '.join(usable)}, or use model.form=pooled",
        )
    return AGGREGATORS[config.pooling]


def _adds_up(aggregator: type[Aggregator], config: MilConfig) -> bool:
    return aggregator.supports_tile_scores and not len(aggregator.context_layers(config))


def weighted_sum(values: Tensor, attention: Tensor) -> Tensor:
    """Sum values (B, N, V), weighted by the mean over heads of attention (B, H, N), to (B, V)."""
    # A sum over 100,000 tiles needs float32.
    with torch.autocast(values.device.type, enabled=False):
        return torch.bmm(attention.mean(dim=1, keepdim=True), values.float()).squeeze(1)


class _TileAttention(Aggregator):
    """Softmax over tiles of w^T (tanh(V h) * gate(h)), where h is the learned value of a tile.

    Several heads share one value per tile, so the embedding is the sum under their mean.
    """

    def __init__(self, config: MilConfig, *, gated: bool) -> None:
        super().__init__()
        self.width = config.embedding
        self.signal = nn.Linear(config.embedding, config.attention_hidden)
        self.gate = nn.Linear(config.embedding, config.attention_hidden) if gated else None
        # Without a bias, since a constant cancels in the softmax.
        self.weight = nn.Linear(config.attention_hidden, config.heads, bias=False)

    def forward(self, values: Tensor, mask: Tensor) -> Pooled:
        """Pool values (B, N, V) under a mask (B, N)."""
        # A slice copies in the backward pass, even one of all values.
        learned = values if values.shape[-1] == self.width else values[..., -self.width :]
        signal = torch.tanh(self.signal(learned))  # (B, N, hidden)
        if self.gate is not None:
            signal = signal * torch.sigmoid(self.gate(learned))
        logits = self.weight(signal).transpose(1, 2).float()  # (B, H, N)
        attention = logits.masked_fill(~mask[:, None], -torch.inf).softmax(dim=-1)
        return Pooled(weighted_sum(values, attention), attention)


@register_aggregator("gated")
class GatedAttention(_TileAttention):
    """Attention in which a sigmoid gate, sigmoid(U h), multiplies tanh(V h) (Ilse et al. 2018)."""

    sentence = "gated attention"
    reads_learned_only = True

    def __init__(self, config: MilConfig) -> None:
        super().__init__(config, gated=True)


@register_aggregator("attention")
class PlainAttention(_TileAttention):
    """Attention without a gate (Ilse et al. 2018)."""

    sentence = "attention"
    reads_learned_only = True

    def __init__(self, config: MilConfig) -> None:
        super().__init__(config, gated=False)


@register_aggregator("mean")
class MeanPooling(Aggregator):
    """Mean over the tiles of a bag."""

    sentence = "the mean over tiles"
    reads_learned_only = True

    def __init__(self, config: MilConfig) -> None:
        super().__init__()
        del config

    def forward(self, values: Tensor, mask: Tensor) -> Pooled:
        """Pool values (B, N, V) under a mask (B, N)."""
        weights = mask.float()
        attention = (weights / weights.sum(dim=1, keepdim=True))[:, None]  # (B, 1, N)
        return Pooled(weighted_sum(values, attention), attention)


@register_aggregator("max")
class MaxPooling(Aggregator):
    """Largest value over the tiles of a bag, for each of the V values by itself.

    The attention of a tile is the share of the V values for which it holds the maximum.
    """

    sentence = "the maximum over tiles"
    supports_tile_scores = False

    def __init__(self, config: MilConfig) -> None:
        super().__init__()
        del config

    def forward(self, values: Tensor, mask: Tensor) -> Pooled:
        """Pool values (B, N, V) under a mask (B, N)."""
        embedding, tile = values.float().masked_fill(~mask[..., None], -torch.inf).max(dim=1)
        share = torch.zeros(mask.shape, device=values.device)  # (B, N)
        share = share.scatter_add(1, tile, torch.full_like(embedding, 1 / values.shape[-1]))
        return Pooled(embedding, share[:, None])


@register_aggregator("transformer")
class TransformerMean(MeanPooling):
    """Two transformer layers with linear attention among the tiles, and then their mean.

    This is a comparator in the manner of SEQUOIA (Pizurica M et al., Nat Commun 2024).
    """

    sentence = "a transformer with linear attention"

    @staticmethod
    def context_layers(config: MilConfig) -> nn.ModuleList:
        """Make the two transformer layers."""
        return nn.ModuleList(
            LinearAttention(config.embedding, config.heads, config.dropout)
            for _ in range(_TRANSFORMER_LAYERS)
        )
