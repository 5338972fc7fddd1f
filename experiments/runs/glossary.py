"""Plain words for what the report shows: terms, predictors, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

_R = (
    "how closely predicted and measured values go together over patients: 0 not at all, 1 perfectly, below 0 the wrong"
    " way round. r squared is the share of the differences between patients that the prediction explains, so r = 0.3"
    " explains 9 % and r = 0.7 about half. It says nothing of a single patient"
)
TERMS: Mapping[str, str] = {
    "r": _R,
    "out of fold": (
        "the patients are split into parts (folds); each part is predicted by a model that saw none of its patients, so"
        " that the result holds for new patients of the same kind"
    ),
    "95 % interval": (
        "what the number could as well have been with other patients of the same kind; an interval that holds 0 (or, of"
        " hazard ratios, 1; of C, 0.5) is compatible with no effect"
    ),
    "p and q": (
        "p: how often chance alone would do as well. q: the same after many genes were tried; among all genes with q"
        " below 0.05 about one in twenty is expected to be a false find"
    ),
    "baseline": (
        "a simple way to predict, which a model must beat to be of use: the mean of the training patients; a straight"
        " line fit (ridge) on the slide's colours or on the mean of its features; a network that learnt nothing"
    ),
    "predictable gene": ("q below 0.05, and r above that of every baseline"),
    "unit": (
        "expression is on the scale that each section names. Values of a rank or a z-score have 0 at the middle of the"
        " training patients, and about two thirds of them lie between -1 and 1"
    ),
    "attention": (
        "how much a tile of the slide counts in the prediction; 1 is an even share, 2 twice as much"
    ),
    "signature": (
        "a published set of genes that stand for one kind of immune cell or response; its score is the mean rank of its"
        " genes among the patients, from 0 (lowest) to 1 (highest)"
    ),
    "Spearman r": (
        "r of the patients' ranks, which single extreme values cannot carry. Partial r: what is left of it among"
        " patients alike in the covariates named, such as tumour purity"
    ),
    "C": (
        "concordance: of two patients, how often the one with the higher risk score has the event first; 0.5 is a coin"
        " toss, 1 always"
    ),
    "hazard ratio": (
        "how many times as often the event happens, at any time, in patients with one unit more of the covariate, or in"
        " one group against the other; 1 is no difference"
    ),
    "depth-adjusted r": (
        "r of a gene within a tissue section, after taking out how many RNA molecules each spot caught in all"
    ),
}

PREDICTORS = {
    "model": "model",
    "ridge_mean_features": "ridge on mean features",
    "ridge_colour": "ridge on colour",
    "zero_shot": "zero-shot (spots only)",
    "untrained": "untrained network",
    "training_mean": "training mean",
    "small_network": "small network",
    "depth_control": "depth (spline)",
    "log_total": "log total",
}

MEANINGS = {
    "r (95 % interval)": "Pearson r within test folds, combined; the interval is over patients",
    "pooled r (biased)": "r over all folds at once, which differences between the folds' models distort",
    "model above by": "the model's median r minus that of this predictor; with its interval",
    "90 % interval ±": "half the width of an interval that should hold 90 % of patients, in the unit of expression",
    "inside": "the share of patients whose measured value lay in that interval",
    "partial r": "what is left of Spearman r among patients alike in what was adjusted for",
    "fold": "genes of the set among the predictable ones, as a multiple of what chance would give",
    "effect": "Spearman r for numbers; for categories the share of the ranks' variance between them (epsilon squared)",
    "above clinical": "C minus that of the clinical model; with its interval",
    "pairs": "pairs of patients in which it is known who had the event first",
    "per sd": "per standard deviation of the gene's expression",
    "unlike training": "how far the slide's features lie from those of training; above 1 is beyond them",
}


def with_plain_names(
    frame: pd.DataFrame, columns: Mapping[str, str | tuple[str, str, str]]
) -> pd.DataFrame:
    """Chosen columns under plain names, those that the frame has and that are not empty.

    A name of three columns is a value and its bounds, told as ``0.21 (0.10 to 0.32)``.
    """
    out = {}
    for name, source in columns.items():
        if isinstance(source, str):
            if source in frame and frame[source].notna().any():
                out[name] = frame[source]
        elif set(source) <= set(frame) and frame[source[0]].notna().any():
            out[name] = [
                "NA"
                if pd.isna(value)
                else f"{value:.3f}" + ("" if pd.isna(low) else f" ({low:.3f} to {high:.3f})")
                for value, low, high in frame[list(source)].itertuples(index=False)
            ]
    return pd.DataFrame(out, index=frame.index)


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def interval_text(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"
