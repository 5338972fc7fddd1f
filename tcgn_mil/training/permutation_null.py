"""Refits on permuted labels: what the combined z of a gene would be if slides said nothing of expression.

All refits of a fold are trained at once: their weights are stacked and the forward pass is mapped over them
(``torch.func``), so that each bag is read once for all. The recipe is that of :mod:`tcgn_mil.training.loop`: the same
optimizer, rates, batches, gradient clipping and early stopping, each refit by its own validation patients' labels.
Departures: full precision on the CPU, and dropout draws differ from those of a single fit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from tqdm import tqdm

from tcgn_mil.batches.feature_bags import BagDataset
from tcgn_mil.batches.loading import derive_seed
from tcgn_mil.batches.patient_bags import PatientBags
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.optimizer import rate_factor

_LEAST_DONORS = 5  # that exchange labels; each keeps its own once in so many orders
_VALUES_AT_ONCE = 250_000_000  # features times refits; some copies of them are held, 4 bytes each
_WEIGHTS_AT_ONCE = 5e7  # of all refits that train together; four times as many numbers are held
_LABELS_AT_ONCE = 250_000_000  # twice as many are held for a while


def permutations(
    patients: Sequence[str],
    donors: Mapping[str, str],
    strata: Mapping[str, Hashable],
    *,
    count: int,
    seed: int,
) -> NDArray[np.int64]:
    """(R, M) orders of the patients' labels: donors exchange theirs within a stratum (site, cohort).

    A donor with several rows (sections, say) gives them together, to a donor of as many where there are enough of
    these; donors of a rare number of rows join those of the next lower number, and labels are laid end to end. Of genes
    that slides say nothing of, ridge on 30 simulated donors of three rows has 5 % at p < 0.05, and 15 % if rows are
    permuted one by one; where half of the donors have a rare number of rows, 7 % and 13 %.

    Parameters
    ----------
    donors
        Patient (row of a cohort) -> person.
    strata
        Patient -> what labels stay within.
    """
    rng = np.random.default_rng(derive_seed(seed, 0, 7))
    rows: dict[Hashable, dict[str, list[int]]] = {}
    for row, name in enumerate(patients):
        rows.setdefault(strata[name], {}).setdefault(donors[name], []).append(row)
    blocks = [
        [np.array(block) for block in rows[stratum].values()] for stratum in sorted(rows, key=repr)
    ]
    groups = [group for stratum in blocks for group in _of_like_size(stratum)]
    out = np.tile(np.arange(len(patients)), (count, 1))
    for order in out:
        for group in groups:
            given = [
                rng.permutation(group[donor]) for donor in rng.permutation(np.arange(len(group)))
            ]
            taken = group
            if (
                len({len(block) for block in group}) > 1
            ):  # or rows of the largest would always meet the same others
                taken = [group[donor] for donor in rng.permutation(np.arange(len(group)))]
            order[np.concatenate(taken)] = np.concatenate(given)
    return out


def _of_like_size(blocks: Sequence[NDArray[np.int64]]) -> list[list[NDArray[np.int64]]]:
    """Blocks grouped by length from the longest on, at least `_LEAST_DONORS` a group where there are so many."""
    groups: list[list[NDArray[np.int64]]] = [[]]
    for length in sorted({len(block) for block in blocks}, reverse=True):
        if len(groups[-1]) >= _LEAST_DONORS:
            groups.append([])
        groups[-1] += [block for block in blocks if len(block) == length]
    if len(groups) > 1 and len(groups[-1]) < _LEAST_DONORS:
        last = groups.pop()
        groups[-1] += last
    return groups


@dataclass(frozen=True)
class NullBags:
    """Bags of a fold's parts, which all refits share."""

    train: PatientBags
    val: PatientBags
    test: PatientBags


@dataclass(frozen=True)
class Refit:
    """One refit: its model before training, and standardised labels (bags, G) to train by, (patients, G) to stop by."""

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
    """Standardised predictions (test patients, G) of each refit on permuted labels, in order.

    Parameters
    ----------
    start
        Number of the refit -> what it starts from; asked for once each, and held while it trains, so that memory does
        not grow with `count`.
    """
    first = start(0)
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
    """Most feature values that a refit looks at in one go: a training batch, or the largest bag that is predicted."""
    most = {
        name: max(
            sum(slide.info.n_tiles for slide in slides) for slides in part.bags.slides.values()
        )
        for name, part in (("train", bags.train), ("val", bags.val), ("test", bags.test))
    }
    batch = training.batch_size * min(most["train"], max_tiles or most["train"])
    width = next(iter(bags.train.bags.slides.values()))[0].info.width
    return width * max(batch, most["val"], most["test"])


class _Refits:
    """Models of one shape, stacked, each with its own labels."""

    def __init__(self, refits: Sequence[Refit], training: TrainingConfig) -> None:
        self.training = training
        self.train_labels = torch.from_numpy(np.stack([refit.train_labels for refit in refits]))
        self.val_labels = torch.from_numpy(np.stack([refit.val_labels for refit in refits]))
        self.base = refits[0].model
        stacked, _ = stack_module_state([refit.model for refit in refits])
        self.buffers = dict(
            self.base.named_buffers()
        )  # statistics of features, which no label changes
        self.weights = {name: value.detach().requires_grad_() for name, value in stacked.items()}
        decayed = [value for value in self.weights.values() if value.ndim > 2]
        others = [value for value in self.weights.values() if value.ndim <= 2]
        groups = [
            {"params": decayed, "weight_decay": training.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        make: Any = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = make([group for group in groups if group["params"]], lr=training.lr)

    def fit(self, bags: NullBags, max_tiles: int | None, description: str) -> NDArray[np.float32]:
        """Train, each to its best validation epoch (or the last, as configured), and predict the test patients."""
        training, refits = self.training, len(self.train_labels)
        best = torch.full((refits,), -torch.inf)
        best_epoch = torch.zeros(refits, dtype=torch.long)
        kept = {name: value.detach().clone() for name, value in self.weights.items()}
        for epoch in tqdm(range(training.epochs), desc=description, unit="epoch", leave=False):
            torch.manual_seed(derive_seed(training.seed, epoch, 11))
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
            labels = self.train_labels[:, rows]

            def losses(weights: Any, buffers: Any, target: Tensor, batch: Any = batch) -> Tensor:
                out = functional_call(self.base, (weights, buffers), (batch.features, batch.mask))
                return expression_loss(out.expression, target, self.training.loss)

            each = vmap(losses, in_dims=(0, None, 0), randomness="different")(
                self.weights, self.buffers, labels
            )
            self.optimizer.zero_grad(set_to_none=True)
            each.sum().backward()
            self._clip()
            self.optimizer.step()

    def _clip(self) -> None:
        """The gradient norm of each refit by itself, as a single fit would clip it."""
        gradients = [value.grad for value in self.weights.values() if value.grad is not None]
        norm = (
            torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients])
            .sum(dim=0)
            .sqrt()
        )
        scale = (self.training.clip_norm / (norm + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))

    def _predict(self, dataset: BagDataset, row: int) -> Tensor:
        """(R, G) of one patient, from all tiles."""
        self.base.eval()
        features = torch.from_numpy(dataset.bag(row).features)[None]
        mask = torch.ones(features.shape[:2], dtype=torch.bool)

        def one(weights: Any, buffers: Any) -> Tensor:
            return functional_call(self.base, (weights, buffers), (features, mask)).expression[0]

        with torch.no_grad():
            return vmap(one, in_dims=(0, None), randomness="different")(self.weights, self.buffers)

    def _predict_all(self, part: PatientBags) -> NDArray[np.float32]:
        """(R, patients, G)."""
        each = [self._predict(part.bags, row).numpy() for row in range(len(part.bags))]
        return part.by_patient(np.stack(each, axis=1))

    def _score(self, part: PatientBags) -> Tensor:
        """(R,) minus the mean squared error on the validation patients' permuted labels."""
        predicted = torch.from_numpy(self._predict_all(part))
        return -torch.nanmean((predicted - self.val_labels).square().flatten(1), dim=1)
