"""Refit slide models on permuted labels, for the null distribution of a gene's combined z.

The null distribution answers the question how large the agreement with measured expression would be
if slides said nothing about it. Permuting the predictions of one fit does not answer it: each of
two folds is training data for the other, and the combined z has twice the variance that this
shortcut assumes. So the whole fit is repeated with permuted labels (docs/protocol.md, section
Predictable genes).

All refits of a fold are trained at the same time. Their weights are stacked along a new first axis,
and ``torch.func.vmap`` maps the forward pass over that axis. Each bag is then read once for all
refits, and one large product replaces many small ones. The gradient of the sum of the losses is the
gradient of each loss, since refit r depends on its own slice of the weights alone.

The recipe is that of :mod:`tcgn_mil.training.loop`: the same optimizer, learning rates, batches,
gradient clipping and early stopping, each refit by the labels of its own validation patients. There
are two departures. Refits use full precision on the CPU, and the draws of dropout differ from those
of a single fit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from tcgn_mil.batches.bag_files import Bag
from tcgn_mil.batches.feature_bags import BagDataset, collate
from tcgn_mil.batches.loading import derive_seed
from tcgn_mil.batches.patient_bags import PatientBags
from tcgn_mil.layers.dropout import Dropout
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.progress import Progress
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.optimizer import rate_factor

# Bounds on the memory of the refits that train at the same time.
_VALUES_AT_ONCE = 250_000_000  # features times refits; some copies are held, of 4 bytes per value
_WEIGHTS_AT_ONCE = 5e7  # weights of all refits; four times as many numbers are held
_LABELS_AT_ONCE = 250_000_000  # labels of all refits; twice as many are held for a while
_TILES_AT_ONCE = 128  # tiles of small bags that are predicted together
_REFITS = 11  # purpose of the draws


@dataclass(frozen=True)
class NullBags:
    """Bags of a fold's training, validation and test patients, which all refits share."""

    train: PatientBags
    val: PatientBags
    test: PatientBags

    def transformed(self, transform: Callable[[NDArray[Any]], NDArray[np.float32]]) -> NullBags:
        """Return the same bags with features that were mapped tile by tile."""
        parts = (self.train, self.val, self.test)
        return NullBags(
            *(PatientBags(part.bags.transformed(transform), part.owner) for part in parts)
        )


@dataclass(frozen=True)
class Refit:
    """Start of one refit.

    Attributes
    ----------
    model
        Model before training.
    train_labels
        (bags, G) float32, permuted and standardised labels of the training bags.
    val_labels
        (patients, G) float32, permuted and standardised labels of the validation patients, by which
        training stops.
    """

    model: SlideRegressor
    train_labels: NDArray[np.float32]
    val_labels: NDArray[np.float32]


def refit_predictions(
    start: Callable[[int], Refit],
    count: int,
    bags: NullBags,
    training: TrainingConfig,
    *,
    max_tiles: int | None,
    description: str,
) -> Iterator[NDArray[np.float32]]:
    """Predict the test patients by refits on permuted labels.

    Parameters
    ----------
    start
        Called with the number of a refit, once for each; returns its start. The start is held only
        while the refit trains, so memory does not grow with `count`.
    count
        Number of refits.
    bags
        Bags of the fold.
    training
        Settings, the same as those of the fit itself.
    max_tiles
        Tiles sampled per bag and epoch; None takes all.
    description
        Text of the progress bar.

    Yields
    ------
    (test patients, G) standardised predictions of each refit, in order.
    """
    first = start(0)
    scores = first.model.rank_scores if _reads_scores_only(first.model) else None
    if scores is not None:  # the same in all refits and epochs, so that they are computed once
        bags = bags.transformed(lambda features: scores(torch.from_numpy(features).float()).numpy())
    weights = sum(parameter.numel() for parameter in first.model.parameters())
    labels = first.train_labels.size + first.val_labels.size
    most = min(
        int(_WEIGHTS_AT_ONCE // weights), _VALUES_AT_ONCE // _values(bags, training, max_tiles)
    )
    at_once = max(1, min(count, most, _LABELS_AT_ONCE // labels))
    for begin in range(0, count, at_once):
        end = min(begin + at_once, count)
        refits = _Refits(
            [start(number) if number else first for number in range(begin, end)], training
        )
        yield from refits.fit(bags, max_tiles, f"{description} {begin + 1} to {end} of {count}")


def _values(bags: NullBags, training: TrainingConfig, max_tiles: int | None) -> int:
    """Return the largest number of feature values that a refit reads at the same time.

    This is a training batch, or the largest bag that is predicted.
    """
    most = {
        name: max(
            sum(slide.info.n_tiles for slide in slides) for slides in part.bags.slides.values()
        )
        for name, part in (("train", bags.train), ("val", bags.val), ("test", bags.test))
    }
    batch = training.batch_size * min(most["train"], max_tiles or most["train"])
    width = next(iter(bags.train.bags.slides.values()))[0].info.width
    return width * max(batch, most["val"], most["test"])


def _reads_scores_only(model: SlideRegressor) -> bool:
    """Return whether a model reads ranks of features, and no part of it the features themselves."""
    return model.rank_scores is not None and model.spot_features is None


def _for_vmap(model: SlideRegressor) -> SlideRegressor:
    """Return a copy of a model. If it reads ranks of features alone, the copy is given the ranks.

    Its dropout is that of torch, which vmap can draw for each refit by itself.
    """
    model = copy.deepcopy(model)
    if _reads_scores_only(model):
        model.rank_scores = None
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Dropout):
                setattr(parent, name, nn.Dropout(child.p))
    return model


class _Refits:
    """R models of one shape, stacked, each with its own labels."""

    def __init__(self, refits: Sequence[Refit], training: TrainingConfig) -> None:
        self.training = training
        self.train_labels = torch.from_numpy(np.stack([refit.train_labels for refit in refits]))
        self.val_labels = torch.from_numpy(np.stack([refit.val_labels for refit in refits]))
        self.base = _for_vmap(refits[0].model)
        stacked, _ = stack_module_state([refit.model for refit in refits])
        # The buffers are statistics of features, which permuting labels does not change.
        self.buffers = dict(self.base.named_buffers())
        # Each weight has the shape (R, ...).
        self.weights = {name: value.detach().requires_grad_() for name, value in stacked.items()}
        # As in parameter_groups: weights of two or more dimensions decay, here with the axis R.
        decayed = [value for value in self.weights.values() if value.ndim > 2]
        others = [value for value in self.weights.values() if value.ndim <= 2]
        groups = [
            {"params": decayed, "weight_decay": training.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        make: Any = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
        # One pass over the weights of all refits instead of ten.
        groups = [group for group in groups if group["params"]]
        self.optimizer = make(groups, lr=training.lr, fused=True)

    def fit(self, bags: NullBags, max_tiles: int | None, description: str) -> NDArray[np.float32]:
        """Train all refits, and predict the test patients with the weights that each one keeps.

        A refit that has stopped is trained further with the others, but its weights are not kept.
        """
        training, refits = self.training, len(self.train_labels)
        best = torch.full((refits,), -torch.inf)
        best_epoch = torch.zeros(refits, dtype=torch.long)
        kept = {name: value.detach().clone() for name, value in self.weights.items()}
        for epoch in Progress(range(training.epochs), desc=description, unit="epoch", leave=False):
            torch.manual_seed(derive_seed(training.seed, epoch, _REFITS))
            self._train_epoch(bags.train.bags, epoch, max_tiles)
            running = epoch - best_epoch <= training.patience
            if training.keep == "last":
                better = torch.ones_like(running)
            else:
                score = self._score(bags.val)
                better = (score > best) & running
                best[better] = score[better]
            best_epoch[better] = epoch
            for name, value in self.weights.items():
                kept[name][better] = value.detach()[better]
            if training.keep == "best" and not bool((epoch - best_epoch < training.patience).any()):
                break
        self.weights = kept
        return self._predict_all(bags.test)

    def _train_epoch(self, dataset: BagDataset, epoch: int, max_tiles: int | None) -> None:
        batches = dataset.epoch(epoch, batch_size=self.training.batch_size, max_tiles=max_tiles)
        self.base.train()
        for index, (rows, batch) in enumerate(zip(batches.batches, batches, strict=True)):
            progress = (epoch + index / len(batches)) / self.training.epochs
            factor = rate_factor(progress, self.training.warmup_fraction, self.training.schedule)
            for group in self.optimizer.param_groups:
                group["lr"] = self.training.lr * factor
            labels = self.train_labels[:, rows]  # (R, B, G)

            def losses(weights: Any, buffers: Any, target: Tensor, batch: Any = batch) -> Tensor:
                out = functional_call(self.base, (weights, buffers), (batch.features, batch.mask))
                return expression_loss(out.expression, target, self.training.loss)

            each = vmap(losses, in_dims=(0, None, 0), randomness="different")(
                self.weights, self.buffers, labels
            )  # (R,)
            self.optimizer.zero_grad(set_to_none=True)
            each.sum().backward()
            self._clip()
            self.optimizer.step()

    def _clip(self) -> None:
        """Clip the norm of the gradient of each refit by itself, as a single fit would."""
        gradients = [value.grad for value in self.weights.values() if value.grad is not None]
        norm = (
            torch.stack([torch.linalg.vector_norm(each.flatten(1), dim=1) for each in gradients])
            .square()
            .sum(dim=0)
            .sqrt()
        )  # (R,)
        scale = (self.training.clip_norm / (norm + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))

    def _predict(self, bags: Sequence[Bag]) -> Tensor:
        """Predict bags from all their tiles, (R, bags, G)."""
        self.base.eval()
        batch = collate(bags, np.empty((len(bags), 0), dtype=np.float32))

        def predict(weights: Any, buffers: Any) -> Tensor:
            inputs = (batch.features, batch.mask)
            return functional_call(self.base, (weights, buffers), inputs).expression

        with torch.no_grad():
            return vmap(predict, in_dims=(0, None), randomness="different")(
                self.weights, self.buffers
            )

    def _predict_all(self, part: PatientBags) -> NDArray[np.float32]:
        """Predict all patients of a part, (R, patients, G)."""
        each: list[Tensor] = []
        waiting: list[Bag] = []
        for row in range(len(part.bags)):
            bag = part.bags.bag(row)
            longest = max(len(other.features) for other in (bag, *waiting))
            if waiting and longest * (len(waiting) + 1) > _TILES_AT_ONCE:
                each.append(self._predict(waiting))
                waiting = []
            waiting.append(bag)
        each.append(self._predict(waiting))
        return part.by_patient(torch.cat(each, dim=1).numpy())

    def _score(self, part: PatientBags) -> Tensor:
        """Return minus the mean squared error on the permuted validation labels, (R,)."""
        predicted = torch.from_numpy(self._predict_all(part))
        return -torch.nanmean((predicted - self.val_labels).square().flatten(1), dim=1)
