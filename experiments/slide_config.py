"""What describes a slide-level run: one config for ``tcgn-mil finetune`` and ``tcgn-mil slide-cv``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tcgn_mil.errors import InputError
from tcgn_mil.models.mil import MilConfig
from tcgn_mil.training import TrainingConfig

CROSS_VALIDATION_REFITS = 50  # PROTOCOL, What counts as predictable


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides the result of a run.

    Attributes
    ----------
    cohort, features
        cohort.h5ad of ``tcgn-mil bulk`` and the folder of ``tcgn-mil encode``.
    encoder
        Checkpoint of ``tcgn-mil pretrain`` that made the features: its head is where the additive form starts, and
        what the zero-shot baseline predicts with. None: neither.
    folds
        CSV with the columns fold, part, id, or a folder of published lists (:mod:`tcgn_mil.data.fold_lists`); made from
        `seed` where it is not given.
    n_folds
        Folds to make, at least 3.
    group_by
        ``patient``, or ``site`` to keep each TCGA tissue source site in one fold.
    several_slides
        ``bag``: all slides of a patient are one bag; ``mean``: each is a bag of its own with the patient's profile as
        its target, and the patient's prediction is their mean.
    cohorts
        Of expression from several sources: ``within``: standardised within each on its training patients, labels
        permuted and r taken within each; ``pooled``: as of one.
    genes
        File with one gene a line; otherwise the genes expressed in at least `min_expressed` of training patients.
    min_expressed
        Share of training patients, 0 to 1.
    max_tiles
        Tiles sampled per bag and epoch in training; prediction uses all.
    refits
        Refits on permuted labels that the p-values come from. 0: none, and the p-values are approximate, and labelled
        so.
    replicates
        Resamplings of patients behind the confidence intervals.
    coverage
        Of the prediction intervals, 0 to 1.
    seed
        Of folds, initialisation, tile samples, permutations and resamplings.
    """

    cohort: str = "cohort.h5ad"
    features: str = "features"
    encoder: str | None = None
    folds: str | None = None
    n_folds: int = 5
    group_by: Literal["patient", "site"] = "patient"
    several_slides: Literal["bag", "mean"] = "bag"
    cohorts: Literal["within", "pooled"] = "within"
    genes: str | None = None
    min_expressed: float = 0.5
    max_tiles: int = 2000
    refits: int = 0
    replicates: int = 1000
    coverage: float = 0.9
    seed: int = 0
    model: MilConfig = field(default_factory=MilConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(epochs=60, batch_size=16, lr=1e-3, patience=15, loss="mix")
    )

    def __post_init__(self) -> None:
        for name in ("refits", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}", fix="give 0 or more")
        if self.replicates < 1:
            raise InputError(f"replicates is {self.replicates}", fix="give at least 1; 1000 are usual")
        if not 0 < self.coverage < 1:
            raise InputError(f"coverage is {self.coverage}", fix="give a share between 0 and 1, such as 0.9")
        if not 0 <= self.min_expressed <= 1:
            raise InputError(f"min_expressed is {self.min_expressed}", fix="give a share of patients, 0 to 1")
        if self.refits and self.training.average:
            raise InputError("refits do not average weights", fix="set training.average=0, or refits=0")
        if self.model.form == "additive" and self.model.spot_hidden:
            raise InputError("model.spot_hidden is taken from the encoder", fix="leave it at 0")


@dataclass(frozen=True)
class SlideCvConfig(FinetuneConfig):
    """The same for ``tcgn-mil slide-cv``, whose p-values come from refits unless told otherwise."""

    refits: int = CROSS_VALIDATION_REFITS
