"""Report on the demo: planted truth beside prediction, genes by what they follow, and the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcgn_mil.experiments.runs.finished_run import Run, pictures_of, table_of
from tcgn_mil.experiments.runs.glossary import PREDICTORS
from tcgn_mil.experiments.runs.page import Section
from tcgn_mil.experiments.runs.report_part import ReportPart

MODEL, UNTRAINED = "model", "untrained"
_MINUTE = 60
_NEAR_ZERO = 0.1
_COLOUR = "ridge_colour"
# Predictors that are not named as the best baseline: the model itself; the training mean, which has
# no r; and the untrained model, which in its additive form is the zero-shot prediction.
_NO_BASELINE = (MODEL, "training_mean", UNTRAINED)


def demo_opening(run: Run) -> list[str]:
    """Return three sentences on what was planted, found, and rightly not found."""
    summary = run.summary
    r, tiles = summary["median_r"], summary["tile_auc"]
    genes, null = summary["genes"], summary["null_genes"]
    planted = (
        f"Slides of {summary['patients']} invented patients were drawn, in which it is known where"
        f" immune aggregates lie and where each of two kinds of tumour grows that have the same"
        f" colours and differ in their nuclei only; {genes - null} genes follow these tissues, and"
        f" {null} genes follow nothing."
    )
    sentences = [planted]
    followers = r["followers"]
    if "model" in followers:
        place = (
            f" and places immune aggregates on a slide with an AUC of {tiles['median']:.3f} (1 is"
            " perfect, 0.5 is guessing)"
            if tiles["median"] is not None
            else ""
        )
        best, value = _best_baseline(followers)
        sentences.append(
            f"From the slide alone, the model predicts the genes that follow tissue in patients"
            f" whom it has not seen with a median correlation of {followers['model']:.2f}"
            f" ({PREDICTORS.get(best, best)}, the best baseline, has {value:.2f}; 1 is"
            f" perfect, 0 is none){place}."
        )
    if "model" in r.get("morphology", {}) and "model" in r.get("null", {}):
        null_r = r["null"]["model"]
        expected = ", as they should" if abs(null_r) < _NEAR_ZERO else ""
        sentences.append(
            f"Genes of the two kinds of tumour, for which a network has to look at nuclei, reach"
            f" {r['morphology']['model']:.2f} where colours alone reach"
            f" {r['morphology'].get(_COLOUR, float('nan')):.2f}, and genes that follow nothing stay"
            f" at {null_r:.2f}{expected}."
        )
    return sentences


def _best_baseline(medians: Mapping[str, float]) -> tuple[str, float]:
    known = {name: value for name, value in medians.items() if name not in _NO_BASELINE}
    return max(known.items(), key=lambda item: item[1])


def demo_sections(run: Run, share: float) -> list[Section]:
    """Make the sections on the planted truth and on the steps; they have no interactive data."""
    return [_truth_section(run), _steps_section(run)]


def _truth_section(run: Run) -> Section:
    summary = run.summary
    tiles = summary["tile_auc"]
    auc = (
        f" Over the {tiles['slides']} slides that have such tiles, the median AUC of the map of"
        f" {tiles['gene']} for tiles that are at least half immune tissue is"
        f" {tiles['median']:.3f}; planted-truth/tile_auc.csv has each slide."
        if tiles["median"] is not None
        else ""
    )
    # Cohorts with very small folds have a pooled r only.
    columns = list(run.frame("by_kind.csv"))
    prefix = "r_" if f"r_{MODEL}" in columns else "pooled_r_"
    return Section(
        "The planted truth, by what each gene follows",
        [
            "Colour genes follow a tissue that has a colour of its own. Morphology genes follow one"
            " of two tumour subtypes, which have the same colours and differ in their nuclei only,"
            " so that ridge on colour should have an r of about 0 for them. Null genes follow"
            " nothing. Followers are the colour and the morphology genes together. The headline of"
            f" the slide models is over all {summary['genes']} genes, of which"
            f" {summary['null_genes']} follow nothing and lower the median; this table divides"
            " them.",
            "The slide in the figure at the top was chosen by its truth: the rarest of immune"
            " aggregates and the two subtypes is more frequent on it than on any other slide. Tile"
            f" scores are those of the model that did not see its patient.{auc}",
        ],
        table_of(
            run,
            "by_kind.csv",
            "Median r by what the genes follow, out of fold",
            {
                "genes that follow": "kind",
                "genes": "genes",
                "share predictable": "predictable",
                **{words: f"{prefix}{name}" for name, words in PREDICTORS.items()},
            },
        ),
        pictures_of(
            run,
            {
                "by_kind.png": "r of each gene by what it truly follows; bars are medians.",
            },
        ),
    )


def _steps_section(run: Run) -> Section:
    return Section(
        "The commands, and the time that each took",
        [
            f"The steps took {run.summary['seconds'] / _MINUTE:.1f} minutes in all; last, tcgn-mil"
            " report wrote this page. spot-cv and slide-cv are run small, to show the verbs:"
            " spot-cv trains a small network for a few epochs in two folds, and slide-cv takes few"
            " refits, so that its p-values are coarse. The truth behind the data is in the folder"
            " cohort/truth. The command python -m"
            " tcgn_mil.experiments.demo.explanation_check, followed by the folder of the demo,"
            " measures how much of the explanations lies in immune aggregates."
        ],
        table_of(
            run,
            "steps.csv",
            "In this order",
            {"seconds": "seconds", "command": "command", "refused, since": "refused"},
        ),
    )


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the methods paragraph of the demo."""
    return (
        f"Slides, spots, expression and survival of {summary['patients']} patients were simulated"
        " (tcgn_mil.experiments.demo.synthetic). Expression was the mixture of the profiles of the"
        " tissues on the patient's slides, with noise. A tile counted as immune if immune tissue"
        " filled at least half of it."
    )


def _sentence(run: Run) -> str:
    return (
        f"Made a synthetic cohort of {run.summary['patients']} patients, and compared what the"
        " stages found with the planted truth."
    )


REPORT = ReportPart(
    kind="demo",
    position=0,
    sections=demo_sections,
    methods=methods,
    terms=frozenset({"r", "out of fold", "baseline"}),
    sentence=_sentence,
    command=lambda run: "tcgn-mil demo --out NEW",
    opening=demo_opening,
    files=("by_kind.csv", "tile_auc.csv", "truth_beside_prediction.png"),
)
