"""Draw the figures that several kinds of runs share: curves, distributions, scatter plots.

A figure of a run is a PNG for the screen, a PDF for print, and a CSV file of the values drawn.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil import plotting
from tcgn_mil.plotting import COLOURS, figure_label, plain_text, save_figure

_STYLES = ("-", "--", ":")
_LINE = 44  # letters in a line below a figure of one column
_MOST_NAMED = 8  # names in a legend; more are told apart in the CSV file only


@plotting.styled
def training_curves(
    history: Mapping[str, Sequence[Mapping[str, float]]], path: str | Path, *, score: str
) -> None:
    """Draw training loss and validation score by epoch.

    Parameters
    ----------
    history
        Name of each run (for example a fold), and the loss and score of its epochs.
    path
        PNG file to write.
    score
        Name of the score. Where no run has a score, the loss is drawn alone.

    Examples
    --------
    ::

        training_curves({"fold 0": [{"loss": 1.0, "score": 0.1}, {"loss": 0.8, "score": 0.2}]},
                        "curves.png", score="r")
    """
    scored = any(
        np.isfinite([epoch["score"] for epoch in epochs]).any() for epochs in history.values()
    )
    figure, axes = plotting.subplots(
        1,
        1 + scored,
        width=plotting.TWO_COLUMNS if scored else plotting.ONE_COLUMN + 1.2,
        height=2.3,
        squeeze=False,
    )
    for index, (name, epochs) in enumerate(history.items()):
        number = np.arange(1, len(epochs) + 1)
        colour, style = COLOURS[index % len(COLOURS)], _STYLES[index // len(COLOURS) % 3]
        label = plain_text(name) if index < _MOST_NAMED else None
        axes[0, 0].plot(
            number, [epoch["loss"] for epoch in epochs], style, color=colour, label=label
        )
        scores = np.array([epoch["score"] for epoch in epochs], dtype=float)
        if scored and np.isfinite(scores).any():
            best = int(np.nanargmax(scores))
            axes[0, 1].plot(number, scores, style, color=colour)
            axes[0, 1].plot(best + 1, scores[best], "o", color=colour)
    axes[0, 0].set(xlabel="epoch", ylabel="training loss (standardised)")
    if scored:
        axes[0, 1].set(xlabel="epoch (dot: the best)", ylabel=f"validation {score}")
    for axis in axes.flat:
        axis.xaxis.get_major_locator().set_params(integer=True)
    if len(history) > 1:
        more = len(history) - _MOST_NAMED
        figure.legend(loc="outside right upper", title=f"and {more} more" if more > 0 else None)
    save_figure(
        figure,
        path,
        pd.DataFrame(
            [
                {"run": name, "epoch": number, "loss": epoch["loss"], "score": epoch["score"]}
                for name, epochs in history.items()
                for number, epoch in enumerate(epochs, start=1)
            ],
            columns=["run", "epoch", "loss", "score"],
        ),
    )


@plotting.styled
def gene_distributions(
    values: Mapping[str, NDArray[np.floating]], path: str | Path, *, xlabel: str
) -> None:
    """Draw the cumulative distribution over genes of a number per gene, such as r.

    Parameters
    ----------
    values
        Name of each predictor, and its numbers, (G,). Their median stands in the legend.
    path
        PNG file to write.
    xlabel
        Name of the number.

    Examples
    --------
    ::

        gene_distributions({"model": r, "ridge": r_ridge}, "genes.png", xlabel="r within folds")
    """
    figure, axis = plotting.subplots(
        width=plotting.ONE_COLUMN, height=2.3 + 0.16 * min(len(values), 8)
    )
    drawn = []
    for index, (name, numbers) in enumerate(values.items()):
        finite = np.sort(np.asarray(numbers, dtype=float)[np.isfinite(numbers)])
        if not finite.size:
            continue
        share = np.arange(1, finite.size + 1) / finite.size
        drawn.append(pd.DataFrame({"predictor": name, "value": finite, "share_at_or_below": share}))
        axis.step(
            finite,
            share,
            _STYLES[index // len(COLOURS) % 3],
            where="post",
            color=COLOURS[index % len(COLOURS)],
            label=f"{plain_text(name)}: median {plotting.r_text(float(np.median(finite)))}"
            f" (n = {finite.size:,} genes)",
        )
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(xlabel=textwrap.fill(xlabel, _LINE), ylabel="share of genes at or below", ylim=(0, 1))
    if axis.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center")
    save_figure(
        figure, path, pd.concat(drawn) if drawn else pd.DataFrame(columns=["predictor", "value"])
    )


@plotting.styled
def grouped_points(
    groups: Mapping[str, Mapping[str, NDArray[np.floating]]], path: str | Path, *, ylabel: str
) -> None:
    """Draw a number per gene as points, by group of genes and by predictor, medians as bars.

    Parameters
    ----------
    groups
        Name of each group, then of each predictor, and its numbers, (G,).
    path
        PNG file to write.
    ylabel
        Name of the number.

    Examples
    --------
    ::

        grouped_points({"null": {"model": r, "ridge": r_ridge}}, "by_kind.png", ylabel="r")
    """
    width = float(np.clip(1.0 + 1.4 * len(groups), plotting.ONE_COLUMN, plotting.TWO_COLUMNS))
    figure, axis = plotting.subplots(width=width, height=2.8)
    generator = np.random.default_rng(0)
    ticks = []
    for index, (group, predictors) in enumerate(groups.items()):
        width = 0.8 / max(len(predictors), 1)
        for column, (name, values) in enumerate(predictors.items()):
            finite = values[np.isfinite(values)]
            centre = index + (column + 0.5) * width - 0.4
            colour = COLOURS[column % len(COLOURS)]
            spread = centre + width * generator.uniform(-0.3, 0.3, finite.size)
            axis.plot(
                spread,
                finite,
                ".",
                color=colour,
                alpha=0.5,
                label=None if index else plain_text(name),
            )
            if finite.size:
                axis.hlines(
                    np.median(finite),
                    centre - 0.4 * width,
                    centre + 0.4 * width,
                    color=colour,
                    linewidth=2.5,
                )
        n = len(next(iter(predictors.values()))) if predictors else 0
        ticks.append(f"{figure_label(group)}\nn = {n:,} genes")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set(xticks=range(len(groups)), xticklabels=ticks, ylabel=ylabel)
    figure.legend(loc="outside lower center", ncols=3, title="dots: genes, bars: medians")
    save_figure(
        figure,
        path,
        pd.DataFrame(
            [
                (group, name, value)
                for group, predictors in groups.items()
                for name, values in predictors.items()
                for value in values
            ],
            columns=["group", "predictor", "value"],
        ),
    )


@plotting.styled
def gene_scatter(
    genes: Sequence[str],
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
    path: str | Path,
    *,
    unit: str,
    patients: Sequence[str],
    titles: Sequence[str] | None = None,
) -> None:
    """Draw measured against predicted expression of a few genes, one panel for each.

    Parameters
    ----------
    genes, titles
        Names of the genes, and titles of their panels (the names by default).
    truth, predicted
        (M, genes) values, one row per patient.
    path
        PNG file to write.
    unit
        Unit of both.
    patients
        (M,) names, for the CSV file.

    Examples
    --------
    ::

        gene_scatter(["CD3E"], truth, predicted, "scatter.png", unit="log2(TPM + 1)",
                     patients=names)
    """
    columns = min(4, max(len(genes), 1))
    rows = max(math.ceil(len(genes) / columns), 1)
    side = plotting.TWO_COLUMNS / 4
    figure, axes = plotting.subplots(
        rows, columns, width=side * columns + 0.2, height=(side + 0.15) * rows + 0.2, squeeze=False
    )
    for index, axis in enumerate(axes.flat):
        if index >= len(genes):
            axis.set_axis_off()
            continue
        axis.scatter(
            truth[:, index], predicted[:, index], s=7, color=COLOURS[0], alpha=0.7, linewidths=0
        )
        axis.set_title(plain_text(titles[index] if titles else genes[index]), fontsize=7)
        axis.locator_params(nbins=4)
    figure.supxlabel(
        plotting.counted_label(f"measured, {plain_text(unit)}", len(patients), "patients")
    )
    figure.supylabel(f"predicted, {plain_text(unit)}")
    save_figure(
        figure, path, measured_and_predicted(genes, {"patient": patients}, truth, predicted)
    )


def measured_and_predicted(
    genes: Sequence[str],
    rows: Mapping[str, Any],
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
) -> pd.DataFrame:
    """Return the values of a figure: one row per gene and observation.

    Parameters
    ----------
    genes
        Names of the genes.
    rows
        Columns that identify an observation.
    truth, predicted
        (M, genes) values.
    """
    parts = [
        pd.DataFrame(
            {"gene": gene, **rows, "measured": truth[:, index], "predicted": predicted[:, index]}
        )
        for index, gene in enumerate(genes)
    ]
    return (
        pd.concat(parts)
        if parts
        else pd.DataFrame(columns=["gene", *rows, "measured", "predicted"])
    )
