"""One readable training loop for spots and bags, on Lightning Fabric (device, precision).

The loop knows neither: it is given what a step computes, the batches of an epoch, and a validation score. After every
epoch its whole state is written atomically, and each epoch draws from its own seed, so that a run killed at any point
and started again ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from tcgn_mil.artefacts import atomic_path
from tcgn_mil.errors import InputError
from tcgn_mil.losses import LossName

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
    precision: Precision = "32-true"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    loss: LossName = "mse"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.patience < 1:
            raise InputError("training.epochs, batch_size and patience must be at least 1", fix="raise the value")
        if not (self.lr > 0 and 0 <= self.warmup_fraction < 1):
            raise InputError("training.lr must be positive and warmup_fraction in [0, 1)", fix="change the value")


@dataclass
class History:
    """What happened: one dict an epoch with ``loss`` (mean training loss) and ``score`` (validation), and the best."""

    epochs: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int = -1
    best_score: float = -math.inf


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
    """Train `model` in place; it ends with the weights of its best validation epoch, in eval mode, on the CPU.

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
        Called after each epoch's state is written.

    Raises
    ------
    InputError
        If the loss is not finite, no epoch has a finite validation score, or `state_path` holds another config's state.
    """
    fabric = Fabric(accelerator=config.accelerator, devices=1, precision=config.precision)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr)
    model, optimizer = fabric.setup(model, optimizer)
    state = _State(model.module, optimizer, config, None if state_path is None else Path(state_path))
    history = state.resume()
    bar = tqdm(range(len(history.epochs), config.epochs), desc=description, unit="epoch")
    for epoch in bar:
        if epoch - history.best_epoch > config.patience:
            break
        torch.manual_seed(_epoch_seed(config.seed, epoch))
        loss = _train_epoch(fabric, model, optimizer, step, epoch_batches(epoch), config, epoch)
        model.eval()
        with torch.inference_mode():
            score = validate(model.module)
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
    model.module.cpu().eval()
    return history


def _train_epoch(
    fabric: Fabric, model: Any, optimizer: Any, step: Callable[[Any, Any], Tensor], batches: Iterable[Any],
    config: TrainingConfig, epoch: int,
) -> float:  # fmt: skip
    """One pass; returns the mean loss."""
    model.train()
    batches = list(batches) if not hasattr(batches, "__len__") else batches
    count = len(batches)  # type: ignore[arg-type]
    total = 0.0
    for index, batch in enumerate(tqdm(batches, desc=f"epoch {epoch + 1}", unit="step", leave=False)):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * rate_factor((epoch + index / count) / config.epochs, config.warmup_fraction)
        loss = step(model, to_device(batch, fabric.device))
        if not torch.isfinite(loss):
            raise InputError(
                f"the training loss is {loss.item()} in epoch {epoch + 1}, step {index + 1}",
                fix="lower training.lr, or use training.precision=32-true",
            )
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        total += float(loss.detach())
    return total / max(count, 1)


def rate_factor(progress: float, warmup_fraction: float) -> float:
    """Learning rate as a share of its peak at `progress` in [0, 1] of training: linear warm-up, then a cosine to 0."""
    if progress < warmup_fraction:
        return max(progress / warmup_fraction, 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters with decay (weights of two or more dimensions) and without (biases, norms, named ones)."""
    exempt = set(model.no_weight_decay()) if hasattr(model, "no_weight_decay") else set()
    decayed, plain = [], []
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
        return type(batch)(to_device(item, device) for item in batch)
    return batch


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, then MPS, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", fix="use --device cpu")
    return torch.device(name)


def _epoch_seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch * 7_919 + 17) % 2**31


class _State:
    """Model, best model, optimizer and history on disk, as tensors and JSON in one safetensors file."""

    def __init__(self, model: nn.Module, optimizer: Any, config: TrainingConfig, path: Path | None) -> None:
        self.model, self.optimizer, self.path = model, optimizer, path
        self.config = {key: value for key, value in dataclasses.asdict(config).items() if key not in _FREE_KEYS}
        self.best: dict[str, Tensor] = {}

    def keep_best(self) -> None:
        self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def restore_best(self) -> None:
        self.model.load_state_dict(self.best)

    def write(self, history: History) -> None:
        if self.path is None:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        metadata = {"config": json.dumps(self.config), "history": json.dumps(dataclasses.asdict(history))}
        plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        with atomic_path(self.path) as temporary:
            save_file(plain, temporary, metadata=metadata)

    def resume(self) -> History:
        """Load the state if there is one; its history, else an empty one."""
        if self.path is None or not self.path.is_file():
            return History()
        with safe_open(self.path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        self._check_config(json.loads(metadata.get("config", "{}")))
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self.best = parts["best"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return History(**json.loads(metadata["history"]))

    def _check_config(self, found: dict[str, Any]) -> None:
        different = sorted(key for key in {*found, *self.config} if found.get(key) != self.config.get(key))
        if different:
            raise InputError(
                f"holds the state of another training config; differing keys: {', '.join(different)}",
                path=self.path,
                fix="use the same config, or another --out folder",
            )
