"""Settings of the training loop (:func:`tcgn_mil.training.loop.fit`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.settings.device_names import DEVICE_HELP, DEVICE_NAMES

OptimizerName = Literal["adamw", "adam"]
ScheduleName = Literal["cosine", "constant"]
LossName = Literal["mse", "correlation", "mix"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
KeptEpoch = Literal["best", "last"]


@config_class
class TrainingConfig:
    """Settings of the training loop."""

    epochs: int = Field(30, ge=1, description="Largest number of passes over the training data.")
    batch_size: int = Field(
        32, ge=1, description="Spots in a step, or patients if a slide model is trained."
    )
    optimizer: OptimizerName = Field(
        "adamw",
        description="adamw, or adam, whose weight decay is an L2 penalty on the loss. adam serves"
        " to reproduce a published recipe.",
    )
    lr: float = Field(5e-4, gt=0, description="Peak learning rate.")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Below 1, the learning rate of each layer is multiplied by this factor once for"
        " each layer between it and the output. This protects pretrained weights near the input.",
    )
    weight_decay: float = Field(
        0.05,
        ge=0,
        description="Weight decay of all weights with two or more dimensions, except those that the"
        " model excludes by no_weight_decay.",
    )
    warmup_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of all epochs in which the learning rate rises linearly.",
    )
    schedule: ScheduleName = Field(
        "cosine",
        description="Learning rate after the warm-up: with cosine it falls to zero, with"
        " constant it does not change.",
    )
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    patience: int = Field(
        10,
        ge=1,
        description="Training stops after this many epochs without a better validation score.",
    )
    keep: KeptEpoch = Field(
        "best",
        description="Weights to end with: those of the best validation epoch, or those of the last"
        " epoch, without early stopping.",
    )
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Largest decay, per step, of an exponential moving average of the weights. The"
        " average is then validated and kept. 0 means no average.",
    )
    precision: Precision = Field(
        "32-true", description="Arithmetic: 32-true, bf16-mixed or 16-mixed."
    )
    accelerator: str = Field(
        "auto",
        pattern=DEVICE_NAMES,
        description=f"{DEVICE_HELP} Under torchrun each process has its own, and this is auto, cuda"
        " or cpu.",
    )
    loss: LossName = Field(
        "mse",
        description="Loss on standardised targets: mse, correlation over the batch, or mix, which"
        " is their sum.",
    )
    seed: int = Field(
        0, ge=0, description="Seed of initialisation, batches, augmentation and dropout."
    )
