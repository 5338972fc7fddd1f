"""Draw the figures that several kinds of runs share: curves, distributions, scatter plots, maps.

A figure of a run is a PNG for the screen, a PDF for print, and a CSV file of the values drawn. Maps
of slides are PNG alone, since their values are in files of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from tcgn_mil.plotting import COLOURS, save_figure


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
    """
    scored = any(
        np.isfinite([epoch["score"] for epoch in epochs]).any() for epochs in history.values()
    )
    figure, axes = plt.subplots(
        1, 1 + scored, figsize=(4.5 + 4.5 * scored, 3.4), squeeze=False, layout="constrained"
    )
    for index, (name, epochs) in enumerate(history.items()):
        number = np.arange(1, len(epochs) + 1)
        colour, style = COLOURS[index % len(COLOURS)], ("-", "--", ":")[index // len(COLOURS) % 3]
        axes[0, 0].plot(
            number, [epoch["loss"] for epoch in epochs], style, color=colour, label=name
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
        axis.spines[["top", "right"]].set_visible(False)
    if len(history) > 1:
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
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
    """
    figure, axis = plt.subplots(figsize=(5.4, 3.6))
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
            where="post",
            color=COLOURS[index % len(COLOURS)],
            label=f"{name}: median {np.median(finite):.3f} ({finite.size} genes)",
        )
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(xlabel=xlabel, ylabel="share of genes at or below", ylim=(0, 1))
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    save_figure(
        figure, path, pd.concat(drawn) if drawn else pd.DataFrame(columns=["predictor", "value"])
    )


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
    """
    figure, axis = plt.subplots(figsize=(1.2 + 2.2 * len(groups), 3.8))
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
                markersize=5,
                label=None if index else name,
            )
            if finite.size:
                axis.hlines(
                    np.median(finite),
                    centre - 0.4 * width,
                    centre + 0.4 * width,
                    color=colour,
                    linewidth=2.5,
                )
        ticks.append(f"{group}\n{len(next(iter(predictors.values())))} genes")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set(xticks=range(len(groups)), xticklabels=ticks, ylabel=ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
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
    """
    columns = min(4, len(genes))
    rows = math.ceil(len(genes) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.6 * rows), squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index >= len(genes):
            axis.set_axis_off()
            continue
        axis.scatter(
            truth[:, index], predicted[:, index], s=12, color=COLOURS[0], alpha=0.7, linewidths=0
        )
        axis.set_title(titles[index] if titles else genes[index], fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"measured, {unit}", fontsize=8)
    figure.supylabel(f"predicted, {unit}", fontsize=8)
    figure.tight_layout()
    save_figure(figure, path, _long(genes, {"patient": patients}, truth, predicted))


def spot_maps(
    genes: Sequence[str],
    spatial: NDArray[np.floating],
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
    path: str | Path,
    *,
    title: str,
    titles: Sequence[str] | None = None,
) -> None:
    """Draw measured (top) and predicted (bottom) expression on a tissue section.

    Parameters
    ----------
    genes, titles
        Names of the genes, and titles of their columns (the names by default).
    spatial
        (S, 2) positions of the spots, x and y.
    truth, predicted
        (S, genes) values.
    path
        PNG file to write.
    title
        Title of the figure.
    """
    figure, axes = plt.subplots(
        2, len(genes), figsize=(2.9 * len(genes), 5.4), squeeze=False, layout="constrained"
    )
    for column, gene in enumerate(genes):
        for row, values in enumerate((truth, predicted)):
            axis = axes[row, column]
            low, high = np.nanpercentile(values[:, column], (2, 98))
            shown = axis.scatter(
                *spatial.T,
                c=values[:, column],
                s=10,
                cmap="magma",
                vmin=low,
                vmax=max(high, low + 1e-6),
            )
            axis.set(aspect="equal", xticks=[], yticks=[])
            axis.invert_yaxis()
            figure.colorbar(shown, ax=axis, shrink=0.7).ax.tick_params(labelsize=6)
            if row == 0:
                axis.set_title(titles[column] if titles else gene, fontsize=9)
    axes[0, 0].set_ylabel("measured")
    axes[1, 0].set_ylabel("predicted")
    figure.suptitle(title, fontsize=9)
    save_figure(
        figure, path, _long(genes, {"x": spatial[:, 0], "y": spatial[:, 1]}, truth, predicted)
    )


def _long(
    genes: Sequence[str],
    rows: Mapping[str, Any],
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
) -> pd.DataFrame:
    """Return one row per gene and observation; `rows` holds what identifies an observation."""
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
