"""What ``tcgn-mil survive`` is about: outcome, covariates and expression of the same patients, and its config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tcgn_mil.errors import InputError
from tcgn_mil.survival.risk_score import RiskConfig


@dataclass(frozen=True)
class SurviveConfig:
    """Everything that decides the result of a run.

    Attributes
    ----------
    clinical, endpoint
        clinical.csv of ``tcgn-mil clinical``, and the endpoint of it (OS, DSS, DFI, PFI, or its own).
    predicted
        h5ad of ``finetune`` (out of fold) or ``predict``, or any table of patients x genes.
    measured
        Measured expression, the ceiling; the predictions' own layer ``truth`` if not given.
    covariates
        Columns of clinical.csv, for the clinical model and for adjustment.
    signatures
        GMT or CSV of gene sets for ``risk.features`` other than genes; null: the immune sets shipped.
    folds
        CSV with fold, part, id; made from each of `seeds` if not given, events spread evenly. Training and validation
        parts train, since the penalty is chosen by folds within them.
    n_folds, seeds
        At least 3 folds; C is over the folds of all seeds, everything else of the first.
    group_by
        ``patient``, or ``site`` to keep each TCGA tissue source site in one fold.
    horizon_days
        Follow-up ends there: later events are not seen. Null: all of it.
    times_days
        At which time-dependent AUC and Brier score are taken.
    replicates
        Of the bootstrap over patients.
    screen
        Also the univariable Cox regression of every signature, and of every gene, for exploration.
    risk
        How a gene score is fitted.
    """

    clinical: str = "clinical.csv"
    endpoint: str = "OS"
    predicted: str | None = None
    measured: str | None = None
    covariates: tuple[str, ...] = ()
    signatures: str | None = None
    folds: str | None = None
    n_folds: int = 5
    seeds: tuple[int, ...] = (0,)
    group_by: Literal["patient", "site"] = "patient"
    horizon_days: float | None = None
    times_days: tuple[float, ...] = (365.25, 1095.75, 1826.25)
    replicates: int = 1000
    screen: bool = True
    risk: RiskConfig = field(default_factory=RiskConfig)

    def __post_init__(self) -> None:
        if self.n_folds < 3:
            raise InputError(f"n_folds is {self.n_folds}", fix="give at least 3")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError(
                f"seeds are {list(self.seeds)}", fix="give numbers of 0 or more, each once"
            )
        if self.folds is not None and len(self.seeds) > 1:
            raise InputError("several seeds with a file of folds", fix="give one of the two")
        if self.replicates < 0 or any(not time > 0 for time in self.times_days):
            raise InputError(
                "replicates below 0, or a time not above 0", fix="correct replicates or times_days"
            )
