"""Keep the state of a training run on disk, so that a killed run can be resumed.

The state is one safetensors file with tensors and JSON. It holds all that an epoch starts from, and
is replaced as a whole after every epoch. A resumed run continues as if it had not been killed. Of
several processes the first one alone writes and reads the file, and sends the state to the others.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric.plugins import Precision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.file_formats.safetensors_file import read_tensors_of
from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.models.published import check_tensors
from tcgn_mil.text import preview
from tcgn_mil.training.agreement import from_first, tensors_from_first

_HEADER = "training_state"
_PARTS = ("model", "best", "optimizer", "average")


@dataclass
class History:
    """Loss and score of each epoch.

    Attributes
    ----------
    epochs
        For each epoch a dictionary with ``loss`` (mean training loss) and ``score`` (validation
        score, NaN if there was no validation).
    best_epoch
        Index of the epoch whose weights are kept: that with the highest score, or the last one. It
        is -1 before there is one.
    best_score
        Score of that epoch.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_score: float = -math.inf


class TrainedObjects(NamedTuple):
    """The objects that an epoch changes.

    Attributes
    ----------
    model
        The model.
    optimizer
        Optimizer, with its moments.
    precision
        Fabric's precision plugin, with its loss scale.
    average
        Moving average of the model's weights, or None.
    """

    model: nn.Module
    optimizer: Optimizer
    precision: Precision
    average: nn.Module | None = None

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and kept: the average if there is one."""
        return self.model if self.average is None else self.average


class TrainingState:
    """State of one run, in memory and (if a path is given) on disk.

    Parameters
    ----------
    trained
        Objects to write and to restore.
    config
        Settings of the run, as plain values. The state of a run with other settings is refused.
    path
        File of the state; None keeps no file.
    """

    def __init__(
        self, trained: TrainedObjects, config: Mapping[str, Any], path: str | Path | None
    ) -> None:
        self.trained, self.config = trained, json.loads(json.dumps(config))
        self.path = None if path is None else Path(path)
        self.best: dict[str, Tensor] = {}

    def keep_best(self) -> None:
        """Store the weights that were just validated; they are the best so far."""
        self.best = _on_cpu(self.trained.judged.state_dict())

    def restore_best(self) -> None:
        """Load the weights that were kept into the model."""
        self.trained.model.load_state_dict(self.best)

    def write(self, history: History) -> None:
        """Replace the file by the present state."""
        if self.path is None:
            return
        moments = {
            f"{index}.{name}": torch.as_tensor(value)
            for index, values in self.trained.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        average = {} if self.trained.average is None else self.trained.average.state_dict()
        parts = (self.trained.model.state_dict(), self.best, moments, average)
        tensors = {
            f"{part}.{name}": value
            for part, values in zip(_PARTS, parts, strict=True)
            for name, value in _on_cpu(values).items()
        }
        header = {
            "config": self.config,
            "history": dataclasses.asdict(history),
            "precision": self.trained.precision.state_dict(),
        }
        with atomic_path(self.path) as temporary:
            # One key only, since safetensors writes several in an order that varies.
            save_file(tensors, temporary, metadata={_HEADER: json.dumps(header)})

    def resume(self) -> History:
        """Restore the state in the file, if there is one.

        Returns
        -------
        History in the file, or an empty one.

        Raises
        ------
        InputError
            If the file cannot be read, or holds the state of another config or model.
        """
        tensors: dict[str, Tensor] = {}
        header = from_first(lambda: self._read(tensors))
        if header is None:
            return History()
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
        for name, value in tensors_from_first(tensors).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self._load(parts)
        self.trained.precision.load_state_dict(header["precision"])
        return History(**header["history"])

    def _read(self, tensors: dict[str, Tensor]) -> dict[str, Any] | None:
        """Return the header of the file and add its tensors to `tensors`; None without a file."""
        if self.path is None or not self.path.is_file():
            return None
        fix = "remove the file to train from the start"
        with describe_damage(self.path, what="the state of a training run", fix=fix):
            metadata, stored = read_tensors_of(
                self.path, what="the state of a training run", fix=fix
            )
            header = _header_of(metadata)
            # A damaged header is refused here, before it is sent to other processes.
            _ = History(**header["history"]), header["precision"]
            self._check_config(header["config"])
        tensors.update(stored)
        return header

    def _load(self, parts: Mapping[str, dict[str, Tensor]]) -> None:
        model, optimizer, _, average = self.trained
        try:
            check_tensors(
                parts["model"],
                {name: value.shape for name, value in model.state_dict().items()},
                "the model",
            )
        except InputError as error:
            raise InputError(
                f"holds the state of another model: {error.reason}",
                path=self.path,
                fix="choose another --out folder",
            ) from None
        model.load_state_dict(parts["model"])
        if average is not None:
            average.load_state_dict(parts["average"])
        self.best = parts["best"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = value
        # The groups of parameters are those of the new optimizer: the config is the same, and the
        # loop sets the learning rate before each step, so the file holds the moments only.
        optimizer.load_state_dict(
            {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]}
        )

    def _check_config(self, stored: Mapping[str, Any]) -> None:
        different = sorted(
            key for key in {*stored, *self.config} if stored.get(key) != self.config.get(key)
        )
        if different:
            raise InputError(
                f"holds the state of another training config; differing keys: {preview(different)}",
                path=self.path,
                fix="use the same config, or choose another --out folder",
            )


def _header_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return config, history and precision; earlier versions wrote a key for each."""
    if _HEADER in metadata:
        return dict(json.loads(metadata[_HEADER]))
    return {key: json.loads(value) for key, value in metadata.items()}


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, so that later steps do not change them.

    They become contiguous, since safetensors knows no other layout.
    """
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
