"""One readable training loop for spots and bags, on Lightning Fabric (device, precision).

The loop knows neither: it is given what a step computes, the batches of an epoch, and a validation score. After every
epoch its whole state is written (:mod:`tcgn_mil.training_state`), and each epoch draws from its own seed, so that a
run killed at any point and started again ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from tcgn_mil.data.order import derive_seed
from tcgn_mil.errors import InputError
from tcgn_mil.losses import LossName
from tcgn_mil.training_state import History, Trained, TrainingState

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
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
    lr
        Peak learning rate of AdamW.
    weight_decay
        On weights of two or more dimensions, except what the model's ``no_weight_decay`` names.
    warmup_fraction
        Share of all epochs in which the rate rises linearly; it then falls as a cosine to zero.
    clip_norm
        Largest gradient norm.
    patience
        Epochs without a better validation score before training stops.
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
    lr: float = 5e-4
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    clip_norm: float = 1.0
    patience: int = 10
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
        _check("clip_norm", self.clip_norm, above=0)
        _check("warmup_fraction", self.warmup_fraction, least=0, below=1)
        _check("average", self.average, least=0, below=1)


def _check(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, below: float = math.inf
) -> None:
    if not (value >= least and above < value < below):
        bounds = [f"at least {least:g}"] * (least > -math.inf) + [f"above {above:g}"] * (above > -math.inf)
        bounds += [f"below {below:g}"] * (below < math.inf)
        raise InputError(f"training.{name} is {value}", fix=f"give a value {' and '.join(bounds)}")


def fit(
    model: nn.Module,
    *,
    step: Callable[[nn.Module, Any], Tensor],
    epoch_batches: Callable[[int], Iterable[Any]],
    validate: Callable[[nn.Module], float],
    config: TrainingConfig,
    state_path: str | Path | None = None,
    description: str = "train",
    on_epoch: Callable[[int, History], None] | None = None,
) -> History:
    """Train `model` in place; it ends with the weights of its best validation epoch, in eval mode, where it trained.

    Parameters
    ----------
    step
        ``step(model, batch)`` -> scalar loss; the batch is as `epoch_batches` yields it, moved to the device.
    epoch_batches
        Epoch number -> batches (tensors, or dataclasses and tuples of tensors); must depend on nothing but that number.
    validate
        Model in eval mode -> score, higher is better. NaN counts as the worst score.
    state_path
        Where the state after each epoch is kept (safetensors); an existing one is resumed.
    on_epoch
        Called with the epoch and the history after each epoch's state is written.

    Raises
    ------
    InputError
        If there is no batch, the loss is not finite, no epoch has a finite validation score, the device is not there,
        or `state_path` holds the state of another config or model.

    Notes
    -----
    Seeds torch's global generators. Resumed weights are equal bit by bit where the device's own operations are.
    """
    fabric = Fabric(accelerator=resolve_device(config.accelerator).type, devices=1, precision=config.precision)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr, fused=True)
    wrapped, prepared = fabric.setup(model, optimizer)
    average = ModelEmaV3(model, decay=config.average, use_warmup=True) if config.average else None
    judged = model if average is None else average.module
    kept = {name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE_KEYS}
    state = TrainingState(
        Trained(model, prepared, fabric.strategy.precision, None if average is None else judged), kept, state_path
    )
    history = state.resume()
    loop = _Loop(fabric, wrapped, prepared, step, config, lambda count: average and average.update(model, count))
    bar = tqdm(range(len(history.epochs), config.epochs), desc=description, unit="epoch")
    for epoch in bar:
        if epoch - history.best_epoch > config.patience:
            break
        torch.manual_seed(derive_seed(config.seed, epoch))
        loss = loop.epoch(epoch, epoch_batches(epoch))
        judged.eval()
        with torch.inference_mode():
            score = validate(judged)
        history.epochs.append({"loss": loss, "score": score})
        bar.set_postfix(loss=f"{loss:.4f}", score=f"{score:.4f}")
        if math.isfinite(score) and score > history.best_score:
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
            raise InputError("there is no training batch", fix="check that the training part holds samples")
        self.model.train()
        total = 0.0
        for index, batch in enumerate(tqdm(known, desc=f"epoch {epoch + 1}", unit="step", leave=False)):
            progress = (epoch + index / count) / self.config.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.lr * rate_factor(progress, self.config.warmup_fraction)
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
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        return value


def rate_factor(progress: float, warmup_fraction: float) -> float:
    """Learning rate as a share of its peak at `progress` in [0, 1] of training: linear warm-up, then a cosine to 0."""
    if progress < warmup_fraction:
        return max(progress / warmup_fraction, 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters with decay (weights of two or more dimensions) and without (biases, norms, named ones)."""
    no_weight_decay = getattr(model, "no_weight_decay", None)
    exempt: set[str] = set(no_weight_decay()) if callable(no_weight_decay) else set()
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim < 2 or name in exempt else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def to_device(batch: Any, device: torch.device) -> Any:
    """Move tensors within tuples, lists and dataclasses."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        moved = {item.name: to_device(getattr(batch, item.name), device) for item in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **moved)
    if isinstance(batch, (tuple, list)):
        moved_items = [to_device(item, device) for item in batch]
        return type(batch)(*moved_items) if hasattr(batch, "_fields") else type(batch)(moved_items)
    return batch


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, then MPS, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", fix="choose the device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise InputError("no MPS device is available", fix="choose the device cpu")
    return torch.device(name)
