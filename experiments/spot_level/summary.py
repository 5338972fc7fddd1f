"""Summarise a cross-validation of the spot network: results, one sentence, and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tcgn_mil.experiments.spot_level.combine import RunResults
from tcgn_mil.experiments.spot_level.config import PUBLISHED_EPOCHS, SpotConfig
from tcgn_mil.experiments.spot_level.evaluate import MODEL, PREDICTOR_NAMES, SectionResults
from tcgn_mil.experiments.spot_level.inputs.folds import SectionSplit
from tcgn_mil.io.atomic import plain_rows


@dataclass(frozen=True)
class SpotCrossValidation:
    """A cross-validation whose folds have all been evaluated.

    Attributes
    ----------
    config
        Config of the run.
    folds
        Sections that train, validate and test in each fold.
    panel_sizes
        Number of genes of each fold.
    combined
        Results over all test sections.
    sections
        Results by test section.
    """

    config: SpotConfig
    folds: Sequence[SectionSplit]
    panel_sizes: Sequence[int]
    combined: RunResults
    sections: Mapping[str, SectionResults]

    def summary(self) -> dict[str, Any]:
        """Return the contents of ``summary.json``: the headline and the baselines come first."""
        config, folds = self.config, self.folds
        table = self.combined.summary.set_index("predictor")
        model = table.loc[MODEL]
        baselines = {
            name: _number(row["headline"]) for name, row in table.iterrows() if name != MODEL
        }
        return {
            "sentence": self.sentence(),
            "headline": {
                "what": "median depth-adjusted r of genes in at least 20 % of the test spots,"
                " mean of sections",
                "model": _number(model["headline"]),
                "interval_95": [_number(model["headline_low"]), _number(model["headline_high"])],
                "baselines": baselines,
            },
            "predictable_genes": _whole(model.get("predictable")),
            "p_values": model.get("p_values"),
            "labels": spot_cv_labels(config, folds),
            "model": config.model,
            "members": config.members,
            "normalisation": config.normalisation,
            # Folds choose their genes on their own training sections, so the number can differ.
            "genes": sorted(set(self.panel_sizes)),
            "folds": [self._fold(fold) for fold in folds],
            "patient_leakage": sorted({name for fold in folds for name in fold.leaking}),
            "sections": plain_rows(pd.concat([part.summary for part in self.sections.values()])),
            "results": plain_rows(self.combined.summary),
        }

    def sentence(self) -> str:
        """Return one or two sentences that state the headline beside the baselines."""
        table = self.combined.summary.set_index("predictor")
        model, baselines = table.loc[MODEL], table.drop(index=MODEL)
        beside = "; ".join(
            f"{PREDICTOR_NAMES.get(str(name), str(name))} {row['headline']:.3f}"
            for name, row in baselines.iterrows()
            if not pd.isna(row["headline"])
        )
        predictable = (
            f"{int(model['predictable'])} genes predictable, "
            if not pd.isna(model.get("predictable"))
            else ""
        )
        best = max(baselines["headline"], default=float("nan"))
        # A comparison with NaN is false, so a headline that is NaN counts as no better.
        verdict = "" if model["headline"] > best else " It is no better than the best of these."
        return (
            f"{self.config.model}, {len(self.folds)} folds, {int(model['sections'])} sections:"
            f" headline {model['headline']:.3f} ({model['headline_low']:.3f} to"
            f" {model['headline_high']:.3f}), {predictable}beside {beside}.{verdict}"
        )

    def _fold(self, fold: SectionSplit) -> dict[str, Any]:
        joined = self.config.validation == "join"
        return {
            "fold": fold.name,
            "train": list(fold.train),
            "val": list(fold.val),
            "test": list(fold.test),
            "validation": "none: it trained as well" if joined else fold.validation,
        }


def spot_cv_labels(config: SpotConfig, folds: Sequence[SectionSplit]) -> list[str]:
    """Return the warnings that belong beside every number of a run, one sentence fragment each.

    They name departures from docs/protocol.md, for example patient leakage.
    """
    labels = []
    if config.encoder_options.untrained and config.train in ("head", "none"):
        labels.append(f"the encoder is untrained: the weights of {config.model} are random")
    if config.preset is not None:
        labels.append(f"preset {config.preset}: the protocol of the TCGN paper")
        # A preset can be shortened for a test, but then it does not reproduce the paper.
        if config.training.epochs < PUBLISHED_EPOCHS:
            labels.append(f"truncated: {config.training.epochs} of its {PUBLISHED_EPOCHS} epochs")
        if config.panel.file is None:
            labels.append("the genes were chosen on these data and are not the paper's panel")
    if not config.baselines:
        labels.append(
            "predictable genes are above ridge regression only, since no small network was trained"
            " (baselines=false)"
        )
    if leaking := sorted({name for fold in folds for name in fold.leaking}):
        labels.append(f"patient leakage: {', '.join(leaking)} tested on and also trained on")
    if config.select_on_test:
        labels.append("selected on test: the epoch was chosen on the test sections themselves")
    if config.normalisation == "published":
        labels.append(
            "published normalisation: counts are divided by the total over the panel alone, which"
            " raises plain r"
        )
    if len(folds) > 1:
        labels.append(
            "p-values over all sections are approximate: the models of two folds share training"
            " patients"
        )
    return labels


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _whole(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value)
