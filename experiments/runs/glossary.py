"""Explain in plain words what the report shows: terms, predictors and columns of tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

# A term of the report, and its meaning. Each verb says which terms its sections use.
TERMS: Mapping[str, str] = {
    "r": (
        "The correlation of predicted and measured values over patients: 1 is perfect agreement, 0"
        " is none, and below 0 the prediction points the wrong way. The square of r is the share of"
        " the differences between patients that a straight line through the predictions explains:"
        " 9 % at r = 0.3, about half at r = 0.7. With few patients r is uncertain, and this share"
        " with it, so that the interval of r has to be read as well. r says nothing about a single"
        " patient."
    ),
    "out of fold": (
        "The patients are split into parts (folds). A model that saw none of the patients of a part"
        " predicts them, so the result holds for new patients of the same kind."
    ),
    "95 % interval": (
        "The values that are compatible with these patients: over many studies, 95 of 100 such"
        " intervals include the value that very many patients would give. An interval that"
        " includes 0 (for hazard ratios 1, for C 0.5) is compatible with no effect."
    ),
    "p and q": (
        "p is the probability that chance alone gives at least as good a result. q corrects p for"
        " the number of genes that were tried: among all genes with q below 0.05, about one in"
        " twenty is expected to be a false finding."
    ),
    "baseline": (
        "A simple way to predict, which a model must beat to be of use: the mean of the training"
        " patients; a linear fit (ridge regression) on the colours of the slide or on the mean of"
        " its features; or a network that was not trained."
    ),
    "predictable gene": "A gene with q below 0.05 whose r is above that of every baseline.",
    "unit": (
        "The scale of expression, which each section names. A rank or a z-score is 0 for the middle"
        " of the training patients, and about two thirds of the values lie between -1 and 1."
    ),
    "attention": (
        "How much a tile of the slide counts in the prediction. 1 is an even share, and 2 is twice"
        " that."
    ),
    "signature": (
        "A published set of genes that stand for one kind of immune cell or response. Its score is"
        " the mean rank of its genes among the patients, from 0 (lowest) to 1 (highest)."
    ),
    "Spearman r": (
        "The correlation of the ranks of the patients, which single extreme values cannot dominate."
        " The partial r is what remains of it among patients who are alike in the named covariates,"
        " such as tumour purity."
    ),
    "C": (
        "The concordance: how often, of two patients, the one with the higher risk score has the"
        " event first. 0.5 is no better than a coin toss, and 1 is always right."
    ),
    "hazard ratio": (
        "How many times as often the event happens, at any time, in patients with one more unit of"
        " the covariate, or in one group compared with the other. 1 is no difference."
    ),
    "depth-adjusted r": (
        "The correlation for a gene within a tissue section, after the total number of RNA"
        " molecules of each spot (the sequencing depth) is taken out."
    ),
}

# Name of a predictor in tables of results, and its plain name.
PREDICTORS = {
    "model": "model",
    "ridge_mean_features": "ridge on mean features",
    "kernel_mean_features": "kernel ridge on mean features",
    "ridge_colour": "ridge on colour",
    "zero_shot": "zero-shot (spots only)",
    "untrained": "untrained network",
    "training_mean": "training mean",
    "small_network": "small network",
    "depth_control": "depth (spline)",
    "log_total": "log total",
}

# Plain name of a column, and its meaning.
MEANINGS = {
    "r (95 % interval)": "Pearson r within test folds, combined; the interval is over patients",
    "pooled r (biased)": "r over all folds at once, which differences between fold models distort",
    "model above by": "median r of the model minus that of this predictor, with its interval",
    "90 % interval ±": "half the width of an interval that should hold the measured value in 90 %"
    " of patients, in the unit of expression",
    "inside": "share of patients whose measured value lay in that interval",
    "partial r": "what remains of Spearman r among patients alike in what was adjusted for",
    "fold": "number of genes of the set among the predictable ones, as a multiple of what chance"
    " would give",
    "effect": "Spearman r for numbers; for categories the share of the variance of the ranks that"
    " lies between them (epsilon squared)",
    "above clinical": "C minus that of the clinical model, with its interval",
    "pairs": "pairs of patients for whom it is known who had the event first",
    "per sd": "per standard deviation of the gene's expression",
    "unlike training": "distance of the patient's tile features from those of the training"
    " patients, in standard deviations of theirs; 0 is usual",
    "p (unlike)": "probability of such a distance for a patient of the training kind",
    "like training?": "out if that probability is at most 5 %; unknown if there are fewer than 19"
    " training patients",
    "seen in": "patient: the mean of the tile features is unusual; tiles: their spread is; both",
}


def with_plain_names(
    frame: pd.DataFrame, columns: Mapping[str, str | tuple[str, str, str]]
) -> pd.DataFrame:
    """Return chosen columns under plain names, without those that are missing or empty.

    Parameters
    ----------
    frame
        A table of a run.
    columns
        Plain name of each column, and the column of `frame`. Three columns are a value and its
        bounds, shown as ``0.210 (0.100 to 0.320)``.
    """
    shown: dict[str, pd.Series | list[str]] = {}
    for name, source in columns.items():
        if isinstance(source, str):
            if source in frame and frame[source].notna().any():
                shown[name] = frame[source]
        elif set(source) <= set(frame) and frame[source[0]].notna().any():
            bounded = frame[list(source)].itertuples(index=False, name=None)
            shown[name] = [_value_with_bounds(*values) for values in bounded]
    return pd.DataFrame(shown, index=frame.index)


def interval_text(low: float | None, high: float | None) -> str:
    """Return `` (95 % interval 0.100 to 0.300)``, or nothing where a bound is missing."""
    return "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"


def _value_with_bounds(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return "NA"
    return f"{value:.3f}" + ("" if pd.isna(low) else f" ({low:.3f} to {high:.3f})")
