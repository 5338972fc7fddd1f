"""Draw the figure of the study of TCGA cohorts: genes, signatures and transfer between cancers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tcgn_mil import plotting
from tcgn_mil.experiments.benchmarks.tcga import measure
from tcgn_mil.experiments.benchmarks.tcga.commands import CohortFiles

_BLUE, _GREY = plotting.COLOURS[0], plotting.GREY


@plotting.styled
def draw_overview(
    found: Mapping[str, pd.DataFrame],
    cohorts: Sequence[CohortFiles],
    seed: int,
    path: Path,
) -> None:
    """Draw four panels: medians beside baselines, single genes, signatures, and transfer.

    Parameters
    ----------
    found
        Tables of :mod:`.measure` by name.
    cohorts
        Cohorts of the study.
    seed
        Seed of the run whose genes are drawn.
    path
        PNG file to write.
    """
    figure = plotting.new_figure(plotting.TWO_COLUMNS, 5.4)
    figure.set_layout_engine("constrained", w_pad=0.08)
    # In one grid, the long labels of a lower panel would make the panel above it narrow, too.
    axes = [
        axis for part in figure.subfigures(2, 1, squeeze=False).flat for axis in part.subplots(1, 2)
    ]
    source = [
        _medians(axes[0], found["genes"]),
        _single_genes(axes[1], cohorts, seed),
        _signatures(axes[2], found["signatures"], found["genes"]),
        _transfer(axes[3], found["transfer"], found["genes"]),
    ]
    for letter, axis in zip("abcd", axes, strict=True):
        axis.set_title(letter, loc="left", fontweight="bold")
    parts = [part.assign(panel=letter) for letter, part in zip("abcd", source, strict=True)]
    plotting.save_figure(figure, path, pd.concat(parts))


def _medians(axis: Axes, genes: pd.DataFrame) -> pd.DataFrame:
    """Draw the median r over genes of the model and of the stronger baseline."""
    labels = []
    for place, row in enumerate(genes.to_dict("records")):
        axis.plot([row["low"], row["high"]], [place, place], color=_BLUE, linewidth=2)
        axis.plot(row["model"], place, "o", color=_BLUE, label="model" if not place else None)
        axis.plot(
            row[row["best"]],
            place,
            "D",
            color=_GREY,
            markersize=3.5,
            label="simple baseline" if not place else None,
        )
        labels.append(f"{row['cohort']}, by {row['folds by']} (n = {row['patients']})")
    axis.set(
        yticks=range(len(labels)),
        # The dots are means over seeds; the intervals over patients are those of the first seed.
        xlabel="median r over genes, mean of seeds\n(line: 95 % interval of one seed)",
        xlim=(0, None),
    )
    axis.set_yticklabels(labels)
    axis.invert_yaxis()
    axis.legend(loc="center left")
    return genes


def _single_genes(axis: Axes, cohorts: Sequence[CohortFiles], seed: int) -> pd.DataFrame:
    """Draw for each r the share of genes with a higher one, of model and stronger baseline."""
    rows, counts = [], []
    for colour, files in zip(plotting.COLOURS, cohorts, strict=False):
        table = pd.read_csv(files.folder / "genes" / f"seed{seed}" / "genes.csv")
        best = max(measure.BASELINES, key=lambda name: table[f"r_{name}"].median())
        for name, style in ((measure.MODEL, "-"), (best, ":")):
            r = np.sort(table[f"r_{name}"].dropna())
            share = 1 - (np.arange(len(r)) + 0.5) / len(r)
            axis.plot(r, share, style, color=colour, linewidth=1.6)
            rows.append(pd.DataFrame({"cohort": files.name, "predictor": name, "x": r, "y": share}))
        counts.append(int(table["r_model"].notna().sum()))
        top = table["r_model"].median()
        axis.plot([], [], color=colour, label=f"{files.name} (median {top:.2f})")
    axis.plot([], [], ":", color="black", label="simple baseline")
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(
        xlabel="r, folds by tissue source site",
        ylabel=f"share of genes with a higher r\n(n = {min(counts):,} to {max(counts):,} genes)",
        xlim=(-0.25, 1.0),
    )
    axis.legend(loc="upper right", fontsize=6, handlelength=1.5, borderaxespad=0)
    return pd.concat(rows)


def _signatures(axis: Axes, table: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    """Draw r of each shipped signature with folds by site, ordered by the mean over cohorts."""
    by_site = table[table["split"] == "site"]
    wide = by_site.pivot(index="signature", columns="cohort", values="directly")
    wide = wide.loc[wide.mean(axis=1).sort_values().index]
    patients = genes.groupby("cohort")["patients"].first()
    for colour, cohort in zip(plotting.COLOURS, by_site["cohort"].unique(), strict=False):
        label = f"{cohort}\nn = {patients[cohort]}"
        axis.plot(wide[cohort], range(len(wide)), "o", color=colour, markersize=3.5, label=label)
    axis.set(yticks=range(len(wide)), xlabel="r of the signature score, folds by site")
    axis.set_yticklabels(wide.index, fontsize=6)
    axis.axvline(0, color="black", linewidth=0.6)
    # Without a frame, the dots of the legend would look like three more scores.
    axis.legend(
        loc="upper left", bbox_to_anchor=(0.03, 1), frameon=True, fontsize=6, handlelength=1
    )
    return by_site


def _transfer(axis: Axes, transfer: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    """Draw the median r over genes by training and target cohort as a matrix."""
    own = genes[genes["folds by"] == "site"].set_index("cohort")["model"]
    wide = transfer.pivot(index="trained on", columns="target", values="r own scale")
    targets = list(wide.columns)
    wide = wide.loc[sorted(wide.index, key=lambda name: ("+" in name, name))]
    same = pd.DataFrame([[own.get(name, np.nan) for name in targets]], columns=targets)
    shown = pd.concat([wide, same.set_axis(["the same, by site"])])
    image = axis.imshow(shown.to_numpy(float), cmap="viridis", vmin=0, aspect="auto")
    for (row, column), value in np.ndenumerate(shown.to_numpy(float)):
        if np.isfinite(value):
            dark = value < 0.6 * np.nanmax(shown.to_numpy(float))
            axis.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    axis.set(
        xticks=range(len(targets)),
        xticklabels=targets,
        xlabel="predicted cohort",
        yticks=range(len(shown)),
    )
    axis.set_yticklabels([f"trained on {name}" for name in shown.index])
    axis.figure.colorbar(image, ax=axis, label="median r over genes", shrink=0.85)
    return shown.reset_index(names="trained on")
