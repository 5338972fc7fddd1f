"""Write the loss and the score of each epoch for TensorBoard."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any

from tcgn_mil.training.state import History


class TensorBoardLog:
    """Writer of the numbers of each epoch, used as a context and as ``on_epoch`` of the loop.

    A resumed run continues in the same folder, from the epoch at which it resumes.

    Parameters
    ----------
    folder
        Folder of the event files. Give it, or a folder above it, to ``tensorboard --logdir``.
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

            # purge_step removes what a killed run wrote from this epoch on.
            self._writer = SummaryWriter(str(self.folder), purge_step=epoch)
        for name, value in history.epochs[epoch].items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
