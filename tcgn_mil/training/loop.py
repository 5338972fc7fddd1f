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
from typing import Any, Literal, get_args

import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from tcgn_mil.batches.loading import derive_seed
from tcgn_mil.devices import resolve_device, to_device
from tcgn_mil.errors import InputError
from tcgn_mil.training.losses import LossName
from tcgn_mil.training.optimizer import (
    OptimizerName,
    ScheduleName,
    make_optimizer,
    rate_factor,
    set_rate,
)
from tcgn_mil.training.state import History, Trained, TrainingState

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
KeptEpoch = Literal["best", "last"]
_CHOICES = {"optimizer": OptimizerName, "schedule": ScheduleName, "keep": KeptEpoch}
_FREE_KEYS = frozenset({"accelerator"})  # may change between a run and its resumption


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes
    ----------
    epochs
        Passes over the training data, at most.
    batch_size
        Spots, or patients, a step.
    optimizer
        ``adamw``, or ``adam``, whose weight decay is an L2 penalty on the loss, to reproduce a published recipe.
    lr
        Peak learning rate.
    layer_decay
        In (0, 1]: below 1 each layer nearer the input has its rate multiplied by it, for weights that are pretrained;
        the model's ``group_matcher`` says what its layers are.
    weight_decay
        On weights of two or more dimensions, except what the model's ``no_weight_decay`` names.
    warmup_fraction
        Share of all epochs in which the rate rises linearly.
    schedule
        After the warm-up: ``cosine`` falls to zero, ``constant`` stays.
    clip_norm
        Largest gradient norm.
    patience
        Epochs without a better validation score before training stops.
    keep
        Weights to end with: of the ``best`` validation epoch, or of the ``last`` one, without early stopping.
    average
        Largest decay a step of the exponential moving average of the weights, at least 0 and below 1; 0 for none. Where
        there is one, it is the average that is validated and kept.
    precision
        ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    accelerator
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    loss
        ``mse`` on standardised targets, ``correlation`` over the batch, or ``mix``, their sum.
    seed
        Of initialisation, batches, augmentation and dropout.
    """

    epochs: int = 30
    batch_size: int = 32
    optimizer: OptimizerName = "adamw"
    lr: float = 5e-4
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    schedule: ScheduleName = "cosine"
    clip_norm: float = 1.0
    patience: int = 10
    keep: KeptEpoch = "best"
    average: float = 0.0
    precision: Precision = "32-true"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    loss: LossName = "mse"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            _check(name, getattr(self, name), least=1)
        _check("seed", self.seed, least=0)
        _check("weight_decay", self.weight_decay, least=0)
        _check("lr", self.lr, above=0)
        _check("layer_decay", self.layer_decay, above=0, most=1)
        _check("clip_norm", self.clip_norm, above=0)
        _check("warmup_fraction", self.warmup_fraction, least=0, below=1)
        _check("average", self.average, least=0, below=1)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise InputError(
                    f"training.{name} is {getattr(self, name)!r}",
                    fix=f"choose one of {', '.join(get_args(choices))}",
                )


def _check(
    name: str,
    value: float,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    if not (least <= value <= most and above < value < below):
        bounds = [f"at least {least:g}"] * (least > -math.inf) + [f"above {above:g}"] * (
            above > -math.inf
        )
        bounds += [f"below {below:g}"] * (below < math.inf) + [f"at most {most:g}"] * (
            most < math.inf
        )
        raise InputError(f"training.{name} is {value}", fix=f"give a value {' and '.join(bounds)}")


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
