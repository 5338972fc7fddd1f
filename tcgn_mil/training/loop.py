"""Training loop for spots and for bags, on Lightning Fabric (device and precision).

The loop knows neither spots nor bags. It is given a function for the loss of a step, the batches of
an epoch, and a validation score. After every epoch it writes its whole state
(:mod:`tcgn_mil.training.state`), and each epoch draws from a seed of its own. So a run that was
killed at any point and is started again ends with the same weights.

Under torchrun, several processes share the rows of each batch (:mod:`tcgn_mil.training.processes`).
The loss and the state are those of one process, so a run may be resumed by another number of them.
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

from tcgn_mil.batches.loading import derive_seed
from tcgn_mil.devices import to_device
from tcgn_mil.errors import InputError
from tcgn_mil.progress import Progress
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.agreement import check_same, lost_processes
from tcgn_mil.training.optimizer import make_optimizer, rate_factor, set_rate
from tcgn_mil.training.processes import SharedNetwork, open_fabric, shared_batch_normalisation
from tcgn_mil.training.state import History, TrainedObjects, TrainingState
from tcgn_mil.types.processes import Processes

_FREE_KEYS = frozenset({"accelerator"})  # may change between a run and its resumption


@lost_processes()
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
    """Train a model in place.

    Afterwards the model has the weights of the epoch to keep, is in evaluation mode, and is on the
    device on which it was trained.

    Parameters
    ----------
    model
        Model to train.
    step
        Called as ``step(model, batch)``; returns the loss, a scalar. The batch is one that
        `epoch_batches` gave, moved to the device.
    epoch_batches
        Called with the number of the epoch; returns its batches. A batch is a tensor, or a
        dataclass or tuple of tensors. The batches must depend on the number alone.
    validate
        Called with the model in evaluation mode; returns a score, for which higher is better. NaN
        counts as the worst score. It may be None if the last epoch is kept; scores are then NaN.
    config
        Settings.
    state_path
        File (safetensors) that keeps the state after each epoch. If it exists, training resumes
        from it. Of several processes the first one alone reads and writes it.
    description
        Text of the progress bar.
    on_epoch
        Called with the number of the epoch and the history, after the state was written.

    Returns
    -------
    Loss and score of each epoch, and the epoch whose weights were kept.

    Raises
    ------
    InputError
        If there is no batch, the loss is not finite, no epoch has a finite validation score, the
        device does not exist, or `state_path` holds the state of another config or model. Of
        several processes also if their settings differ, or if one of them ends early.
    ValueError
        If the best epoch is to be kept and `validate` is None.

    Notes
    -----
    Torch's global generators are seeded. Resumed weights are equal bit by bit if the operations of
    the device are deterministic.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> inputs = torch.linspace(-1, 1, 32)[:, None]
    >>> model = nn.Linear(1, 1)
    >>> history = fit(
    ...     model,
    ...     step=lambda model, batch: (model(batch) - 2 * batch).square().mean(),
    ...     epoch_batches=lambda epoch: inputs.split(8),
    ...     validate=None,
    ...     config=TrainingConfig(epochs=20, lr=0.1, keep="last", accelerator="cpu"),
    ... )
    >>> len(history.epochs), history.epochs[-1]["loss"] < 0.1
    (20, True)
    """
    if validate is None and config.keep == "best":
        raise ValueError("keep='best' needs validate; give it, or train with keep='last'")
    processes = Processes.launched()
    fabric = open_fabric(config)
    checked_config = {
        name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE_KEYS
    }
    # The other processes wait here for the first one, which may evaluate the training before this.
    shapes = [list(part.shape) for part in model.parameters()]
    check_same(
        {**checked_config, "shapes of the model": shapes},
        "have different settings",
        fix="give the same config and the same input files to all machines",
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
    # Where there is an average of the weights, it is the average that is validated and kept.
    judged = model if average is None else average.module
    state = TrainingState(
        TrainedObjects(
            model, prepared, fabric.strategy.precision, None if average is None else judged
        ),
        checked_config,
        state_path,
    )
    history = state.resume()
    loop = _Loop(
        fabric,
        wrapped,
        wrapped if processes.count == 1 else SharedNetwork(wrapped, processes),
        prepared,
        step,
        config,
        lambda count: average and average.update(model, count),
    )
    bar = Progress(
        range(len(history.epochs), config.epochs),
        desc=description,
        unit="epoch",
        disable=not processes.is_first,
    )
    for epoch in bar:
        if config.keep == "best" and epoch - history.best_epoch > config.patience:
            break
        # Each epoch has its own seed, so that a resumed run draws what an uninterrupted one does.
        # Each process has its own, too, so that dropout differs between the rows of a batch.
        own = () if processes.is_first else (processes.rank,)
        torch.manual_seed(derive_seed(config.seed, epoch, *own))
        with shared_batch_normalisation(processes):
            loss = loop.epoch(epoch, epoch_batches(epoch))
        # All processes must agree on the epoch to keep, and on when to stop.
        score = fabric.broadcast(_score(judged, validate))
        history.epochs.append({"loss": loss, "score": score})
        bar.set_postfix(loss=f"{loss:.4f}", score=f"{score:.4f}", refresh=False)
        if config.keep == "last" or (math.isfinite(score) and score > history.best_score):
            history.best_epoch, history.best_score = epoch, score
            state.keep_best()
        if not processes.is_first:
            continue
        state.write(history)
        if on_epoch is not None:
            on_epoch(epoch, history)
    if history.best_epoch < 0:
        raise InputError(
            "no epoch has a finite validation score, so there are no weights to keep",
            fix="check that validation targets vary, or use more validation data",
        )
    state.restore_best()
    model.eval()
    return history


def _score(model: nn.Module, validate: Callable[[nn.Module], float] | None) -> float:
    """Return the validation score of the model in evaluation mode, NaN without validation."""
    model.eval()
    with torch.inference_mode():
        return math.nan if validate is None else validate(model)


@dataclass(frozen=True)
class _Loop:
    """The steps of an epoch."""

    fabric: Fabric
    model: Any
    called: Any
    optimizer: Any
    step: Callable[[nn.Module, Any], Tensor]
    config: TrainingConfig
    after_step: Callable[[int], Any]

    def epoch(self, epoch: int, batches: Iterable[Any]) -> float:
        """Pass over the batches once, and return the mean loss."""
        steps = batches if isinstance(batches, Sized) else list(batches)
        count = len(steps)
        if not count:
            raise InputError(
                "there is no training batch", fix="check that the training part holds samples"
            )
        self.model.train()
        total = 0.0
        for index, batch in enumerate(
            Progress(
                steps,
                desc=f"epoch {epoch + 1}",
                unit="step",
                leave=False,
                disable=not self.fabric.is_global_zero,
            )
        ):
            progress = (epoch + index / count) / self.config.epochs
            factor = rate_factor(progress, self.config.warmup_fraction, self.config.schedule)
            set_rate(self.optimizer, self.config.lr * factor)
            total += self._update(batch, f"epoch {epoch + 1}, step {index + 1}")
            self.after_step(epoch * count + index + 1)
        return total / count

    def _update(self, batch: Any, where: str) -> float:
        """Run forward pass, backward pass and optimizer step, and return the loss."""
        loss = self.step(self.called, to_device(batch, self.fabric.device))
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
