"""Training that one process and several processes of torchrun do alike.

As a script it is what torchrun starts: it trains in a folder, resumes the run of one process there,
and tries to train by settings that differ between the processes.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tcgn_mil.batches.feature_bags import BagBatch
from tcgn_mil.errors import InputError
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.loop import fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.state import History
from tcgn_mil.types.processes import Processes

CONFIG = TrainingConfig(
    epochs=6, batch_size=9, lr=1e-2, patience=6, accelerator="cpu", loss="mix", average=0.5
)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(39, 6, generator=generator)
    targets = inputs @ torch.randn(6, 3, generator=generator)
    targets[::4, 0] = float("nan")
    return inputs, targets


def batches(epoch: int) -> list[tuple[Tensor, Tensor]]:
    """Return four batches of nine samples, and one of three."""
    inputs, targets = data()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
    return [(inputs[rows], targets[rows]) for rows in order.split(9)]


def make_model() -> nn.Module:
    torch.manual_seed(7)
    # A bias before batch normalisation has a gradient of 0. Adam would follow its rounding error.
    return nn.Sequential(
        nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.GELU(), nn.Linear(16, 3)
    )


def step(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return expression_loss(model(batch[0]), batch[1], "mix")


def validate(model: nn.Module) -> float:
    inputs, targets = data()
    return -float(expression_loss(model(inputs), targets))


def train(state: Path, *, epochs: int | None = None, **changes: Any) -> History:
    """Train; with `epochs` it stops after some of the epochs, as if it had been killed."""

    class StoppedError(Exception):
        pass

    def stop(epoch: int, history: History) -> None:
        if epoch + 1 == epochs:
            raise StoppedError(history)

    config = dataclasses.replace(CONFIG, **changes)
    try:
        return fit(
            make_model(),
            step=step,
            epoch_batches=batches,
            validate=validate,
            config=config,
            state_path=state,
            on_epoch=stop,
        )
    except StoppedError as stopped:
        return stopped.args[0]


def train_line() -> History:
    """Train on batches of one and two samples, of which a process may have none."""
    inputs = torch.linspace(-1, 1, 4)[:, None]
    return fit(
        nn.Linear(1, 1, bias=False),
        step=lambda model, batch: (model(batch) - 2 * batch).square().mean(),
        epoch_batches=lambda epoch: inputs.split([1, 2, 1]),
        validate=None,
        config=dataclasses.replace(CONFIG, keep="last", average=0.0),
    )


def train_images() -> History:
    """Train batch normalisation on batches of three images and of one, which one process has."""
    images = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(4)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(36, 1)
    )
    return fit(
        network,
        step=lambda model, batch: (model(batch) - batch.mean(dim=(1, 2, 3))).square().mean(),
        epoch_batches=lambda epoch: images.split([3, 1]),
        validate=lambda model: -float(model(images).square().mean()),
        config=dataclasses.replace(CONFIG, average=0.0),
    )


def train_slide_model() -> History:
    """Train the slide model on bags of six tiles, some of which are padding."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(10, 6, 4, generator=generator)
    mask = torch.rand(10, 6, generator=generator) < 0.7
    mask[:, 0] = True
    targets = torch.randn(10, 3, generator=generator)
    rows = torch.arange(10).split([5, 5])
    torch.manual_seed(5)
    model = MilConfig(embedding=8, attention_hidden=4, dropout=0.0)
    return fit(
        SlideRegressor(4, 3, model),
        step=lambda model, batch: expression_loss(
            model(batch.features, batch.mask).expression, batch.targets, "mix"
        ),
        epoch_batches=lambda _: [BagBatch(features[r], mask[r], targets[r]) for r in rows],
        validate=None,
        config=dataclasses.replace(CONFIG, keep="last", average=0.0),
    )


def main(folder: Path) -> None:
    processes = Processes.launched()
    told: dict[str, Any] = {"count": processes.count}
    told["history"] = dataclasses.asdict(train(folder / "several.safetensors"))
    told["resumed"] = dataclasses.asdict(train(folder / "one.safetensors"))
    # Only the first process sees the state; the folder of the other one is empty.
    seen = folder if processes.is_first else folder / "elsewhere"
    told["unseen"] = dataclasses.asdict(train(seen / "unseen.safetensors"))
    torch.manual_seed(3)
    told["line"] = dataclasses.asdict(train_line())["epochs"]
    told["images"] = dataclasses.asdict(train_images())["epochs"]
    told["bags"] = dataclasses.asdict(train_slide_model())["epochs"]
    own = folder / f"only-{processes.rank}.safetensors"
    train(own)
    told["wrote"] = own.exists()
    try:
        train(folder / "x.safetensors", lr=0.1 * (1 + processes.rank), seed=processes.rank)
    except InputError as error:
        told["refused"] = str(error)
    (folder / f"told-{processes.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
