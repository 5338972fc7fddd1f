"""Config of ``tcgn-mil survive``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError
from tcgn_mil.settings.risk_score import RiskConfig


@config_class
class SurviveConfig:
    """Everything that decides the result of a survival run."""

    clinical: str = Field("clinical.csv", description="clinical.csv that tcgn-mil clinical wrote.")
    endpoint: str = Field(
        "OS", description="Endpoint: OS, DSS, DFI, PFI, or another one that the clinical table has."
    )
    predicted: str | None = Field(
        None,
        description="Predicted expression: the .h5ad file of finetune (out of fold) or of predict,"
        " or any table of patients by genes.",
    )
    measured: str | None = Field(
        None,
        description="Measured expression, which shows the best that can be reached. Without it,"
        " the measured values that came with the predictions are used (their layer truth).",
    )
    covariates: tuple[str, ...] = Field(
        (), description="Columns of the clinical table for the clinical model and for adjustment."
    )
    signatures: str | None = Field(
        None,
        description="GMT or CSV file of gene sets, used if risk.features is signatures or both."
        " Without it, the immune gene sets that the package ships are used.",
    )
    folds: str | None = Field(
        None,
        description="CSV file with the columns fold, part and id. Without it, folds are made from"
        " each seed with events spread evenly. Training and validation parts both train, since the"
        " penalty is chosen by folds within them.",
    )
    n_folds: int = Field(5, ge=3, description="Number of folds to make.")
    seeds: tuple[int, ...] = Field(
        (0,),
        description="Seeds of the folds. The concordance is computed over the folds of all"
        " seeds, and everything else over the folds of the first seed.",
    )
    group_by: Literal["patient", "site"] = Field(
        "patient",
        description="Unit that is never split across folds: patient, or site (the TCGA tissue"
        " source site).",
    )
    horizon_days: float | None = Field(
        None,
        description="Day at which follow-up ends; later events are not counted. Without it, all"
        " of the follow-up is used.",
    )
    times_days: tuple[float, ...] = Field(
        (365.25, 1095.75, 1826.25),
        description="Days at which the time-dependent AUC and the Brier score are computed.",
    )
    replicates: int = Field(
        1000, ge=0, description="Bootstrap resamples of patients for the confidence intervals."
    )
    screen: bool = Field(
        True,
        description="Also fit a univariable Cox regression for every signature and every gene, for"
        " exploration only.",
    )
    risk: RiskConfig = Field(
        default_factory=RiskConfig, description="The penalised Cox regression of the gene score."
    )

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError(
                f"seeds are {list(self.seeds)}", fix="give numbers of 0 or more, each of them once"
            )
        if self.folds is not None and len(self.seeds) > 1:
            raise InputError(
                "several seeds cannot be combined with a file of folds",
                fix="give either seeds or folds",
            )
        if any(not time > 0 for time in self.times_days):
            raise InputError(
                f"times_days are {list(self.times_days)}", fix="give times above 0, in days"
            )
