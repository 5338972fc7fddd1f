"""Draw the figures of ``tcgn-mil associate``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tcgn_mil import plotting
from tcgn_mil.experiments.associate.associations import KRUSKAL, SPEARMAN

SIGNIFICANT = 0.05
_LONGEST_NAME = 32
_MAX_ROWS, _MAX_SETS = 40, 20
_MIN_P_DRAWN = 1e-300  # a p of 0 has no logarithm
_MIN_SCALE_END = 0.1  # end of the scale of epsilon squared at least, so that weak effects look weak
_EFFECTS = {SPEARMAN: "Spearman r", KRUSKAL: "Kruskal-\nWallis ε²"}
_MEASURES = {"pearson": "Pearson", "spearman": "Spearman", "partial": "Spearman, partial"}


def figure_label(name: str) -> str:
    """Shorten a name for a figure.

    Examples
    --------
    >>> figure_label("T cells")
    'T cells'
    >>> len(figure_label("x" * 40))
    32
    """
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def draw_agreement(table: pd.DataFrame, path: str | Path, *, title: str) -> None:
    """Draw r of predicted and measured score for each signature with its interval, best on top."""
    measures = [name for name in _MEASURES if f"{name}_r" in table]
    table = table.sort_values("spearman_r", kind="stable", na_position="first").tail(_MAX_ROWS)
    figure, axis = plt.subplots(figsize=(6.4, 1.4 + 0.34 * len(table)), layout="constrained")
    for index, name in enumerate(measures):
        # The marks of the measures are spread around the row of the signature.
        y = np.arange(len(table)) + 0.22 * (len(measures) - 1 - 2 * index) / max(
            len(measures) - 1, 1
        )
        colour = plotting.COLOURS[index]
        axis.hlines(y, table[f"{name}_low"], table[f"{name}_high"], color=colour, linewidth=1.4)
        axis.plot(table[f"{name}_r"], y, "o", color=colour, markersize=4, label=_MEASURES[name])
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(
        yticks=range(len(table)),
        yticklabels=map(figure_label, table["signature"]),
        xlabel="r of predicted and measured score, 95 % interval",
        ylim=(-0.7, len(table) - 0.3),
    )
    axis.set_title(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axis.get_legend_handles_labels(),
        frameon=False,
        fontsize=8,
        loc="outside lower center",
        ncols=3,
    )
    plotting.save_figure(figure, path, table)


def draw_covariates(table: pd.DataFrame, path: str | Path) -> None:
    """Draw signatures against covariates as heatmaps, one panel for each source and test.

    Numbers show Spearman r, and categories epsilon squared of the test of Kruskal & Wallis.
    """
    table = table[table["kind"] == "signature"]
    panels = [
        (source, test, part)
        for test in (SPEARMAN, KRUSKAL)
        for source, part in table[table["test"] == test].groupby("source", sort=False)
    ]
    wide = [
        part.pivot(index="name", columns="covariate", values=["effect", "q"]) for *_, part in panels
    ]
    # pivot sorts names and covariates; reindex brings back the order of the table.
    wide = [
        pivoted.reindex(
            index=part["name"].unique(),
            columns=pd.MultiIndex.from_product([["effect", "q"], part["covariate"].unique()]),
        )
        for pivoted, (*_, part) in zip(wide, panels, strict=True)
    ]
    widths = [len(panel["effect"].columns) for panel in wide]
    rows = max(len(panel) for panel in wide)  # of the tallest panel
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(
            3.4 + sum(0.42 * width + 0.4 for width in widths),
            2.2 + 0.28 * min(rows, _MAX_ROWS),
        ),
        gridspec_kw={"width_ratios": widths},
        squeeze=False,
        layout="constrained",
    )
    shares = [
        panel["effect"].to_numpy(dtype=float)
        for panel, (_, test, _) in zip(wide, panels, strict=True)
        if test == KRUSKAL
    ]
    most = max(
        [_MIN_SCALE_END, *(float(np.nanmax(share)) for share in shares if np.isfinite(share).any())]
    )
    # The scale of colours is drawn once for each test, beside its last panel.
    tests = [test for _, test, _ in panels]
    for place, (axis, panel, (source, test, _)) in enumerate(
        zip(axes.flat, wide, panels, strict=True)
    ):
        shown, colours = (
            panel.head(_MAX_ROWS),
            ("RdBu_r", -1, 1) if test == SPEARMAN else ("Purples", 0, most),
        )
        draw_heatmap(
            figure, axis, shown["effect"], shown["q"], colours, bar=test not in tests[place + 1 :]
        )
        if place and list(panel.index) == list(wide[place - 1].index):
            axis.set_yticklabels([])
        axis.set_title(f"{source}\n{_EFFECTS[test]}", fontsize=8)
    figure.suptitle(
        f"*: q < {SIGNIFICANT} (BH over a source's signatures and covariates)", fontsize=8
    )
    plotting.save_figure(figure, path, table)


def draw_enrichment(over: pd.DataFrame, ranked: pd.DataFrame, path: str | Path) -> None:
    """Draw over-representation among the predictable genes, and the enrichment score of GSEA.

    Bars are dark where q < 0.05.
    """
    parts = [
        (table.sort_values("p", kind="stable").head(_MAX_SETS).iloc[::-1], column, label)
        for table, column, label in (
            (over, "fold", "found / expected among predictable genes"),
            (ranked, "nes", "normalised enrichment score of GSEA on r"),
        )
        if len(table)
    ]
    tallest = max(len(table) for table, *_ in parts)
    figure, axes = plt.subplots(
        1,
        len(parts),
        figsize=(5.6 * len(parts), 1.2 + 0.3 * tallest),
        squeeze=False,
        layout="constrained",
    )
    for axis, (table, column, label) in zip(axes.flat, parts, strict=True):
        sure = table["q"] < SIGNIFICANT
        axis.barh(
            range(len(table)),
            table[column],
            color=[plotting.COLOURS[0] if yes else "#c9d6e3" for yes in sure],
        )
        axis.axvline(1 if column == "fold" else 0, color="black", linewidth=0.6)
        names = [
            f"{figure_label(name)} ({there})"
            for name, there in zip(table["set"], table["in_panel"], strict=True)
        ]
        axis.set(
            yticks=range(len(table)),
            yticklabels=names,
            ylim=(len(table) - tallest - 0.6, len(table) - 0.4),
        )
        axis.set_xlabel(label, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"dark: q < {SIGNIFICANT}; in brackets: the set's genes in the panel", fontsize=8
    )
    plotting.save_figure(
        figure, path, pd.concat([table.assign(panel=label) for table, _, label in parts])
    )


def draw_volcano(
    table: pd.DataFrame, path: str | Path, *, score: str, title: str, labelled: int = 12
) -> None:
    """Draw r of each gene with the score against -log10 p.

    Parameters
    ----------
    table
        Genes with the columns gene, r, p, q and part_of_score.
    path
        File to write.
    score
        Name of the score.
    title
        Title of the figure.
    labelled
        Number of genes that are named. Dots are dark where q < 0.05, and genes of the score itself
        have a ring.
    """
    tested = table[np.isfinite(table["r"]) & np.isfinite(table["p"])]
    height = -np.log10(tested["p"].clip(lower=_MIN_P_DRAWN))
    sure = tested["q"] < SIGNIFICANT
    figure, axis = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    axis.scatter(
        tested["r"],
        height,
        s=9,
        linewidths=0,
        alpha=0.7,
        c=np.where(sure, plotting.COLOURS[0], "#b5b5b5").tolist(),
    )
    own = tested["part_of_score"].to_numpy(bool)
    if own.any():
        axis.scatter(
            tested["r"][own],
            height[own],
            s=34,
            facecolors="none",
            edgecolors=plotting.COLOURS[1],
            label="genes of the score itself",
        )
        axis.legend(frameon=False, fontsize=8, loc="lower right")
    # The line lies at the largest p that still has q below 0.05.
    if sure.any():
        axis.axhline(height[sure].min(), color="black", linewidth=0.6, linestyle="--")
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(
        xlabel=f"Spearman r of the gene with {score}",
        ylabel=f"-log10 p (dark: q < {SIGNIFICANT}, BH)",
    )
    axis.margins(x=0.26, y=0.06)
    # Names of each side are written on its own margin, and the most certain genes are named.
    for side in (tested[tested["r"] > 0], tested[tested["r"] < 0]):
        _name_dots(axis, side[side["q"] < SIGNIFICANT].head(labelled // 2))
    axis.set_title(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    plotting.save_figure(figure, path, tested)


def _name_dots(axis: Axes, genes: pd.DataFrame) -> None:
    """Write the names of the dots of one side, moved downwards where they would overlap."""
    # Genes come in descending height. Each name is placed at the height of its dot, or one line
    # below the name before if that is lower.
    last, gap = np.inf, 0.035 * axis.get_ylim()[1]
    heights = -np.log10(genes["p"].clip(lower=_MIN_P_DRAWN))
    away = 0.06 * float(np.sign(genes["r"].sum())) * (axis.get_xlim()[1] - axis.get_xlim()[0])
    outermost = genes["r"].abs().max() * np.sign(away) + away
    for gene, r, height in zip(genes["gene"], genes["r"], heights, strict=True):
        last = min(height, last - gap)
        axis.annotate(
            figure_label(gene),
            (r, height),
            (outermost, last),
            fontsize=7,
            va="center",
            ha="left" if away > 0 else "right",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#888888"},
        )


def draw_heatmap(
    figure: plt.Figure,
    axis: Axes,
    effect: pd.DataFrame,
    q: pd.DataFrame,
    colours: tuple[str, float, float],
    *,
    bar: bool = True,
) -> None:
    """Draw values as a heatmap, and write the value into each cell with q < 0.05.

    Parameters
    ----------
    figure, axis
        Figure, and the axis in it to draw on.
    effect, q
        Values and their q, with the same rows and columns.
    colours
        Colour map, and the values at its two ends.
    bar
        Whether to draw the scale of colours.
    """
    cmap, low, high = colours
    values = effect.to_numpy(dtype=float)
    shown = axis.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    axis.set(xticks=range(values.shape[1]), yticks=range(len(values)))
    axis.set_xticklabels(
        [figure_label(str(name)) for name in effect.columns], rotation=60, ha="right", fontsize=8
    )
    axis.set_yticklabels([figure_label(str(name)) for name in effect.index], fontsize=8)
    # Numbers are white on dark cells and black on pale ones.
    limits = shown.get_clim()
    for row, column in np.argwhere(q.to_numpy(dtype=float) < SIGNIFICANT):
        value = values[row, column]
        dark = abs(value) > 0.6 * max(abs(limits[0]), abs(limits[1]))
        axis.text(
            column,
            row,
            f"{value:.2f}*",
            ha="center",
            va="center",
            fontsize=6,
            color="white" if dark else "black",
        )
    if bar:
        figure.colorbar(shown, ax=axis, shrink=0.6).ax.tick_params(labelsize=7)
