"""A run's loss and score by epoch, for TensorBoard."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any

from tcgn_mil.training.loop import History


class TensorBoardLog:
    """Writes each epoch's numbers as the training loop reports them; used as a context and as its ``on_epoch``.

    A resumed run goes on in the same folder, from the epoch it resumes at.

    Parameters
    ----------
    folder
        Of the event files; point ``tensorboard --logdir`` at it or at a folder above it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writer: Any = None

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def __call__(self, epoch: int, history: History) -> None:
        """Write the numbers of one epoch."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=epoch)
        for name, value in history.epochs[epoch].items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
