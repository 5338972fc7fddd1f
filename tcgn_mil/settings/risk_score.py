"""Settings of the survival risk score (:mod:`tcgn_mil.survival.risk_score`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError


@config_class
class RiskConfig:
    """Settings of the penalised Cox regression that makes a gene score."""

    features: Literal["genes", "signatures", "both"] = Field(
        "genes", description="Features of the score: genes, signatures, or both."
    )
    transform: Literal["rank", "standardise"] = Field(
        "rank",
        description="Scaling of the features: rank gives normal scores of the ranks among the"
        " training patients, which do not depend on the unit; standardise gives mean 0 and"
        " standard deviation 1.",
    )
    max_genes: int = Field(
        2000,
        ge=0,
        description="Number of features that are kept: those with the smallest p-values of a"
        " univariable Cox regression in the training part. 0 keeps all.",
    )
    l1_ratios: tuple[float, ...] = Field(
        (0.05, 0.5),
        description="Shares of the lasso in the elastic net to choose from, each above 0 and at"
        " most 1.",
    )
    n_penalties: int = Field(30, ge=2, description="Number of penalties on the path.")
    smallest_penalty: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Last penalty of the path, as a share of the penalty that leaves no gene.",
    )
    inner_folds: int = Field(
        5, ge=2, description="Folds for the choice of the lasso's share and of the penalty."
    )

    def __post_init__(self) -> None:
        if not self.l1_ratios or not all(0 < ratio <= 1 for ratio in self.l1_ratios):
            raise InputError(
                f"risk.l1_ratios are {list(self.l1_ratios)}", fix="give shares above 0, at most 1"
            )
