"""One readable training loop for spots and bags, on Lightning Fabric (device, precision).

The loop knows neither: it is given what a step computes, the batches of an epoch, and a validation score. After every
epoch its whole state is written (:mod:`tcgn_mil.training.state`), and each epoch draws from its own seed, so that a
run killed at any point and started again ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from tcgn_mil.batches.loading import derive_seed
from tcgn_mil.devices import resolve_device, to_device
from tcgn_mil.errors import InputError
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.optimizer import make_optimizer, rate_factor, set_rate
from tcgn_mil.training.state import History, Trained, TrainingState

_FREE_KEYS = frozenset({"accelerator"})  # may change between a run and its resumption






def fit(
    model: nn.Module,
    *,
    step: Callable[[nn.Module, Any], Tensor],
    epoch_batches: Callable[[int], Iterable[Any]],
    validate: Callable[[nn.Module], float] | None,
    config: TrainingConfig,
    state_path: str | Path | None = None,
    description: str = "train",
    on_epoch: Callable[[int, History], None] | None = None,
) -> History:
    """Train `model` in place; it ends with the weights of the epoch to keep, in eval mode, where it trained.

    Parameters
    ----------
    step
        ``step(model, batch)`` -> scalar loss; the batch is as `epoch_batches` yields it, moved to the device.
    epoch_batches
        Epoch number -> batches (tensors, or dataclasses and tuples of tensors); must depend on that alone.
    validate
        Model in eval mode -> score, higher is better. NaN counts as the worst score. Where the last epoch is kept, it
        may be None; scores are then NaN.
    state_path
        Where the state after each epoch is kept (safetensors); an existing one is resumed.
    on_epoch
        Called with the epoch and the history after each epoch's state is written.

    Raises
    ------
    InputError
        If there is no batch, the loss is not finite, no epoch to choose from has a finite validation score, the device
        is not there, or `state_path` holds the state of another config or model.
    ValueError
        If the best epoch is to be kept and `validate` is None.

    Notes
    -----
    Seeds torch's global generators. Resumed weights are equal bit by bit where the device's own operations are.
    """
    if validate is None and config.keep == "best":
        raise ValueError("keep='best' needs validate; give it, or train with keep='last'")
    fabric = Fabric(
        accelerator=resolve_device(config.accelerator).type, devices=1, precision=config.precision
    )
    optimizer = make_optimizer(
        model,
        config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
    )
    wrapped, prepared = fabric.setup(model, optimizer)
    average = ModelEmaV3(model, decay=config.average, use_warmup=True) if config.average else None
    judged = model if average is None else average.module
    kept = {
        name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE_KEYS
    }
    state = TrainingState(
        Trained(model, prepared, fabric.strategy.precision, None if average is None else judged),
        kept,
        state_path,
    )
    history = state.resume()
    loop = _Loop(
        fabric,
        wrapped,
        prepared,
        step,
        config,
        lambda count: average and average.update(model, count),
    )
    bar = tqdm(range(len(history.epochs), config.epochs), desc=description, unit="epoch")
    for epoch in bar:
        if config.keep == "best" and epoch - history.best_epoch > config.patience:
            break
        torch.manual_seed(derive_seed(config.seed, epoch))
        loss = loop.epoch(epoch, epoch_batches(epoch))
        score = _score(judged, validate)
        history.epochs.append({"loss": loss, "score": score})
        bar.set_postfix(loss=f"{loss:.4f}", score=f"{score:.4f}")
        if config.keep == "last" or (math.isfinite(score) and score > history.best_score):
            history.best_epoch, history.best_score = epoch, score
            state.keep_best()
        state.write(history)
        if on_epoch is not None:
            on_epoch(epoch, history)
    if history.best_epoch < 0:
        raise InputError(
            "no epoch has a finite validation score",
            fix="check that validation targets vary, or use more validation data",
        )
    state.restore_best()
    model.eval()
    return history


def _score(model: nn.Module, validate: Callable[[nn.Module], float] | None) -> float:
    """Validation score of the model in eval mode, NaN without validation."""
    model.eval()
    with torch.inference_mode():
        return math.nan if validate is None else validate(model)


@dataclass(frozen=True)
class _Loop:
    """The steps of an epoch."""

    fabric: Fabric
    model: Any
    optimizer: Any
    step: Callable[[nn.Module, Any], Tensor]
    config: TrainingConfig
    after_step: Callable[[int], Any]

    def epoch(self, epoch: int, batches: Iterable[Any]) -> float:
        """One pass over the batches; returns the mean loss."""
        known = batches if isinstance(batches, Sized) else list(batches)
        count = len(known)
        if not count:
            raise InputError(
                "there is no training batch", fix="check that the training part holds samples"
            )
        self.model.train()
        total = 0.0
        for index, batch in enumerate(
            tqdm(known, desc=f"epoch {epoch + 1}", unit="step", leave=False)
        ):
            progress = (epoch + index / count) / self.config.epochs
            factor = rate_factor(progress, self.config.warmup_fraction, self.config.schedule)
            set_rate(self.optimizer, self.config.lr * factor)
            total += self._update(batch, f"epoch {epoch + 1}, step {index + 1}")
            self.after_step(epoch * count + index + 1)
        return total / count

    def _update(self, batch: Any, where: str) -> float:
        """Forward, backward and optimizer step; returns the loss."""
        loss = self.step(self.model, to_device(batch, self.fabric.device))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"the training loss is {value} in {where}",
                fix="lower training.lr, or use training.precision=32-true",
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False
        )
        self.optimizer.step()
        return value
