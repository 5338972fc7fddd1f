"""Draw the figures of a spot-level run: headlines, detection, genes and training curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil import plotting
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.spot_level.combine import RunResults
from tcgn_mil.experiments.spot_level.evaluate import (
    DETECTION_LABELS,
    PREDICTOR_NAMES,
    SectionResults,
)
from tcgn_mil.statistics.sequencing_depth import DETECTION_FLOOR


def draw_cross_validation(
    combined: RunResults,
    results: Mapping[str, SectionResults],
    curves: Mapping[str, Mapping[str, pd.DataFrame]],
    out_dir: Path,
) -> None:
    """Draw the figures over all sections of a cross-validation.

    Parameters
    ----------
    combined
        Results over all test sections.
    results
        Results by section.
    curves
        Epochs by fold and network.
    out_dir
        Folder to write.
    """
    summary = pd.concat([part.summary for part in results.values()])
    draw_headlines(summary, out_dir / "headline.png")
    draw_detection(
        pd.concat([part.detection for part in results.values()]), out_dir / "detection.png"
    )
    # The distribution is over the same genes as the headline.
    seen = combined.genes["detection"] >= DETECTION_FLOOR
    figures.gene_distributions(
        {
            PREDICTOR_NAMES.get(name, name): combined.genes.loc[
                seen, f"depth_adjusted_r_{name}"
            ].to_numpy()
            for name in combined.summary["predictor"]
            if combined.genes[f"depth_adjusted_r_{name}"].notna().any()
        },
        out_dir / "genes.png",
        xlabel="depth-adjusted r, mean of sections, genes in >= 20 % of spots",
    )
    history = {
        f"fold {fold}: {name}": epoch_rows(table)
        for fold, part in curves.items()
        for name, table in part.items()
    }
    if history:
        figures.training_curves(history, out_dir / "curves.png", score="depth-adjusted r")


def epoch_rows(epochs: pd.DataFrame) -> list[dict[str, float]]:
    """Return one dictionary for each epoch of a network, as the figure of curves reads them."""
    return [{str(key): value for key, value in row.items()} for row in epochs.to_dict("records")]


@plotting.styled
def draw_headlines(summary: pd.DataFrame, path: Path) -> None:
    """Draw the headline of each section and predictor with its 95 % interval."""
    # A predictor whose predictions are constant, such as the training mean, has no headline.
    shown = summary[summary["headline"].notna()]
    names = [name for name in PREDICTOR_NAMES if name in set(shown["predictor"])]
    sections = list(dict.fromkeys(shown["section"]))
    figure, axis = plotting.subplots(
        width=plotting.TWO_COLUMNS * 0.8, height=0.8 + 0.14 * len(sections) * (len(names) + 1)
    )
    ticks = []
    for place, section in enumerate(sections):
        rows = shown[shown["section"] == section].set_index("predictor")
        # Predictors of a section lie on adjacent rows, and an empty row divides sections.
        for step, name in enumerate(name for name in names if name in rows.index):
            y = place * (len(names) + 1) + step
            row, colour = (
                rows.loc[name],
                plotting.COLOURS[names.index(name) % len(plotting.COLOURS)],
            )
            axis.plot(
                [row["headline_low"], row["headline_high"]], [y, y], color=colour, linewidth=1.3
            )
            axis.plot(
                row["headline"],
                y,
                "o",
                color=colour,
                markersize=4,
                label=None if place else PREDICTOR_NAMES[name],
            )
        ticks.append((place * (len(names) + 1) + (len(names) - 1) / 2, section))
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(
        yticks=[y for y, _ in ticks],
        yticklabels=[plotting.figure_label(name) for _, name in ticks],
        xlabel="median depth-adjusted r of genes in >= 20 % of spots, 95 % interval",
    )
    axis.invert_yaxis()
    figure.legend(loc="outside right upper")
    plotting.save_figure(figure, path, shown)


@plotting.styled
def draw_detection(table: pd.DataFrame, path: Path) -> None:
    """Draw the median r of each predictor by the share of spots in which a gene is seen.

    Plain r is on the left and depth-adjusted r on the right; both are means over sections.
    """
    figure, axes = plotting.subplots(1, 2, width=plotting.TWO_COLUMNS, height=2.5, sharex=True)
    shown = ["median_r", "median_depth_adjusted_r"]
    sections = table["section"].nunique()
    means = table.groupby(["predictor", "seen_in"], observed=True)[shown].mean()
    for axis, column in zip(axes, shown, strict=True):
        wide = means[column].unstack("seen_in").reindex(columns=list(DETECTION_LABELS))
        medians = dict(zip(wide.index, wide.to_numpy(float), strict=True))
        for index, name in enumerate(name for name in PREDICTOR_NAMES if name in medians):
            values = medians[name]
            if np.isfinite(values).any():
                axis.plot(
                    DETECTION_LABELS,
                    values,
                    "o-",
                    color=plotting.COLOURS[index % len(plotting.COLOURS)],
                    label=PREDICTOR_NAMES[name],
                    markersize=4,
                )
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set(
            xlabel=f"share of spots in which a gene is seen\n(mean of n = {sections} sections)",
            ylabel=column.replace("_", " ").replace("depth adjusted", "depth-adjusted"),
        )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    plotting.save_figure(figure, path, means.reset_index())
