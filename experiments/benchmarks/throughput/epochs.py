"""Measure a training epoch of the slide model beside reading the same files.

The folded form of the first layer, which the model uses, takes turns with its plain form, one
layer after the other on float32 features, and with the folded form in bfloat16. Each round reads
the files in a loop with h5py before, from the page cache and from the disk, and ratios are taken
within a round. The time of all cores ("cpu") is less disturbed by other programs than the time by
the clock.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from tcgn_mil.batches.feature_bags import BagDataset
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.progress import Progress
from tcgn_mil.settings.slide_model import Form, MilConfig
from tcgn_mil.training.losses import expression_loss

FORMS = ("plain", "folded", "folded, bfloat16")
_BATCH = 4  # bags in a step


class Spent(NamedTuple):
    """Seconds by the clock, and seconds of all cores."""

    wall: float
    cpu: float


def spent(call: Callable[[], object]) -> Spent:
    """Return the seconds that a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


class PlainRegressor(SlideRegressor):
    """The same model with standardisation, layer norm and linear layer one after the other."""

    def _learned_values(self, features: Tensor) -> Tensor:
        standardised = (features.float() - self.feature_mean) / self.feature_std
        return cast(Tensor, self.value(standardised.nan_to_num_(0.0)))


def read_all(paths: Sequence[Path]) -> None:
    """Read the features of all files in a loop."""
    for path in paths:
        with h5py.File(path) as file:
            file["features"][:]


def forget(paths: Sequence[Path]) -> None:
    """Take files out of the page cache of this machine (a virtual one's host may keep them)."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


class Epochs:
    """Epochs over features on disk, by one model of each form.

    Parameters
    ----------
    paths
        Feature files, each the bag of a patient.
    width, genes
        D and G.
    form
        Form of the slide model, ``pooled`` or ``additive``.
    """

    def __init__(self, paths: Sequence[Path], width: int, genes: int, form: Form) -> None:
        self.paths = paths
        targets = np.random.default_rng(0).standard_normal((len(paths), genes)).astype(np.float32)
        files = {path.stem: [path] for path in paths}
        self.bags = BagDataset(list(files), files, targets, seed=0, kept_bytes=0)
        config = MilConfig(form=form)
        classes = {"plain": PlainRegressor}
        self.models = {
            name: classes.get(name, SlideRegressor)(width, genes, config) for name in FORMS
        }
        for model in self.models.values():
            model.load_state_dict(self.models["plain"].state_dict())

    def epoch(self, name: str) -> None:
        """Train a model by one epoch over all tiles."""
        model = self.models[name].train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        narrow = torch.autocast("cpu", dtype=torch.bfloat16, enabled="bfloat16" in name)
        for batch in self.bags.epoch(0, batch_size=_BATCH, max_tiles=None):
            with narrow:
                out = model(batch.features, batch.mask).expression
                loss = expression_loss(out.float(), batch.targets, "mix")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def difference(self) -> dict[str, float]:
        """Return the largest relative difference of folded and plain form, without dropout.

        It is that of the predictions, and of the gradients of the first layer, in one step.
        """
        batch = next(iter(self.bags.epoch(0, batch_size=2, max_tiles=2000)))
        values, gradients = [], []
        for name in ("plain", "folded"):
            model = self.models[name].eval()
            out = model(batch.features, batch.mask).expression
            first = cast(nn.Linear, model.value[1])
            loss = expression_loss(out, batch.targets, "mse")
            gradients.append(torch.autograd.grad(loss, [first.weight])[0])
            values.append(out.detach())
        return {
            name: float((pair[0] - pair[1]).abs().max() / pair[0].abs().max())
            for name, pair in (("values", values), ("gradients", gradients))
        }


def compare_epochs(
    paths: Sequence[Path], width: int, genes: int, *, form: Form, rounds: int
) -> dict[str, Any]:
    """Return medians over rounds, and the median of the ratios of each round."""
    epochs = Epochs(paths, width, genes, form)
    epochs.bags.bag(0)
    measured: dict[str, Any] = {"form": form, "rounds": rounds, **epochs.difference()}
    found: dict[str, list[Spent]] = {}
    for _ in Progress(range(rounds), desc=f"{form} form", unit="round"):
        forget(paths)
        found.setdefault("read, disk", []).append(spent(lambda: read_all(paths)))
        forget(paths)
        found.setdefault("folded, disk", []).append(spent(lambda: epochs.epoch("folded")))
        found.setdefault("read", []).append(spent(lambda: read_all(paths)))
        for name in FORMS:
            found.setdefault(name, []).append(spent(functools.partial(epochs.epoch, name)))
    for name, times in found.items():
        base = found["read, disk" if "disk" in name else "read"]
        pairs = list(zip(times, base, found["plain"], strict=True))
        measured[name] = {
            "wall_s": float(np.median([each.wall for each in times])),
            "cpu_s": float(np.median([each.cpu for each in times])),
            "share_of_reading": float(np.median([read.wall / it.wall for it, read, _ in pairs])),
            "times_plain_wall": float(np.median([old.wall / it.wall for it, _, old in pairs])),
            "times_plain_cpu": float(np.median([old.cpu / it.cpu for it, _, old in pairs])),
        }
    return measured
