"""Draw the figures of a slide-level run: predictors, genes, training, p-values and intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from tcgn_mil import plotting
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.slide_level.evaluate import MODEL, SlideTables
from tcgn_mil.experiments.slide_level.fold_results import OutOfFold
from tcgn_mil.statistics.fold_combination import FOLD_NULL_SD

LABELS = {
    MODEL: "model",
    "ridge_mean_features": "ridge on mean features",
    "kernel_mean_features": "kernel ridge on mean features",
    "ridge_colour": "ridge on colour",
    "zero_shot": "zero-shot (spots only)",
    "untrained": "untrained network",
    "training_mean": "training mean",
}
_DRAWN_GENES = 8


def draw_run(
    tables: SlideTables, joined: OutOfFold, out_dir: Path, *, unit: str, stated_coverage: float
) -> None:
    """Draw all figures of a run.

    Parameters
    ----------
    tables
        Tables of genes and of predictors.
    joined
        Out-of-fold predictions and training curves.
    out_dir
        Folder of the run.
    unit
        Unit of the expression, for the axes.
    stated_coverage
        Share of patients, 0 to 1, that the prediction intervals should hold.
    """
    genes, headline = tables
    if any(joined.history.values()):  # a regression has no epochs
        figures.training_curves(
            joined.history, out_dir / "curves.png", score="score,\nminus mean squared error"
        )
    # In small cohorts no fold has more than three patients, so no gene has an r within folds.
    by_fold = genes[f"r_{MODEL}"].notna().any()
    prefix = "r" if by_fold else "pooled_r"
    figures.gene_distributions(
        {
            LABELS.get(name, name): genes[f"{prefix}_{name}"].to_numpy()
            for name in headline["predictor"]
            if genes[f"{prefix}_{name}"].notna().any()
        },
        out_dir / "genes.png",
        xlabel="r within test folds, combined" if by_fold else "r pooled over folds (biased)",
    )
    if by_fold:
        draw_headline(headline, out_dir / "headline.png")
        draw_null(genes["p_model"].to_numpy(), joined.null_z, out_dir / "null.png")
    if genes["interval_coverage"].notna().any():
        draw_coverage(
            genes["interval_coverage"].to_numpy(),
            out_dir / "coverage.png",
            stated_coverage=stated_coverage,
        )
    score = genes[f"{prefix}_{MODEL}"].fillna(-np.inf)
    best = score.sort_values(ascending=False, kind="stable").index[:_DRAWN_GENES]
    figures.gene_scatter(
        genes.loc[best, "gene"].tolist(),
        joined.truth[:, best],
        joined.predictions[MODEL][:, best],
        out_dir / "scatter.png",
        unit=unit,
        patients=joined.patients,
        titles=[
            f"{plotting.shortened(genes['gene'][i])}\nr by fold"
            f" {plotting.r_text(genes[f'r_{MODEL}'][i])}, pooled"
            f" {plotting.r_text(genes[f'pooled_r_{MODEL}'][i])}"
            for i in best
        ],
    )


@plotting.styled
def draw_headline(headline: pd.DataFrame, path: Path) -> None:
    """Draw the median r over genes of each predictor, with its 95 % interval."""
    shown = headline[headline["median_r"].notna()]
    figure, axis = plotting.subplots(width=4.6, height=0.7 + 0.24 * len(shown))
    for place, row in enumerate(shown.itertuples()):
        colour = plotting.COLOURS[0] if row.predictor == MODEL else plotting.GREY
        axis.plot([row.low, row.high], [place, place], color=colour, linewidth=1.5)
        axis.plot(row.median_r, place, "o", color=colour, markersize=4.5)
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(
        yticks=range(len(shown)),
        yticklabels=[LABELS.get(name, name) for name in shown["predictor"]],
        xlabel="median over genes of r within test folds\n(95 % interval over patients)",
    )
    axis.set_ylim(len(shown) - 0.5, -0.5)
    plotting.save_figure(figure, path, shown)


@plotting.styled
def draw_coverage(shares: NDArray[np.floating], path: Path, *, stated_coverage: float) -> None:
    """Draw how many genes have intervals that hold a given share of patients.

    Parameters
    ----------
    shares
        (G,) share of patients inside the interval of each gene, NaN where it is unknown.
    path
        Figure to write.
    stated_coverage
        Share that the intervals should hold.
    """
    shares = shares[np.isfinite(shares)]
    counts, edges = np.histogram(
        shares, bins=np.linspace(min(shares.min(), stated_coverage) - 0.01, 1, 31)
    )
    figure, axis = plotting.subplots(width=plotting.ONE_COLUMN, height=2.3)
    axis.stairs(counts, edges, fill=True, color=plotting.COLOURS[0], alpha=0.7)
    axis.axvline(
        stated_coverage,
        color="black",
        linewidth=1,
        linestyle="--",
        label=f"stated: {stated_coverage:.0%}",
    )
    axis.axvline(
        shares.mean(),
        color=plotting.COLOURS[1],
        linewidth=1.5,
        label=f"mean of genes: {shares.mean():.1%}",
    )
    axis.set(
        xlabel="share of patients inside the gene's interval",
        ylabel=f"number of genes (of {len(shares):,})",
    )
    axis.legend(loc="upper right")
    plotting.save_figure(
        figure, path, pd.DataFrame({"from": edges[:-1], "to": edges[1:], "genes": counts})
    )


@plotting.styled
def draw_null(p: NDArray[np.floating], null_z: NDArray[np.floating] | None, path: Path) -> None:
    """Draw ordered p-values against uniform ones, and the z of the refits, if there were any.

    Points below the diagonal are smaller p-values than chance gives. The histogram of z is drawn
    beside two normal curves: that of independent folds, and that which is assumed without refits.

    Parameters
    ----------
    p
        (G,) p-values of the genes.
    null_z
        (R, G) combined z of refits on permuted labels, or None.
    path
        Figure to write.
    """
    panels = 1 if null_z is None else 2
    figure, axes = plotting.subplots(
        1, panels, width=plotting.TWO_COLUMNS * panels / 2, height=2.6, squeeze=False
    )
    ordered = np.sort(p[np.isfinite(p)])
    even = (np.arange(len(ordered)) + 0.5) / max(len(ordered), 1)
    source = [pd.DataFrame({"panel": "p-values", "x": even, "y": ordered})]
    axes[0, 0].plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes[0, 0].plot(even, ordered, ".", color=plotting.COLOURS[0], markersize=3)
    axes[0, 0].set(
        xlabel=f"p if nothing were predictable (n = {len(ordered):,} genes)",
        ylabel="p of the gene, ordered" + ("" if null_z is not None else " (approximate)"),
    )
    if null_z is not None:
        drawn = null_z[np.isfinite(null_z)]
        edges = np.linspace(-5, 5, 61)
        axes[0, 1].hist(
            drawn, bins=edges, density=True, color="0.8", label=f"refits, sd {drawn.std():.2f}"
        )
        for sd, style, name in (
            (1.0, ":", "if folds were independent"),
            (FOLD_NULL_SD, "--", "as assumed without refits"),
        ):
            axes[0, 1].plot(
                edges, norm.pdf(edges, scale=sd), style, color="black", linewidth=1, label=name
            )
        axes[0, 1].set(xlabel="combined z, labels permuted", ylabel="density")
        axes[0, 1].set_ylim(top=1.35 * axes[0, 1].get_ylim()[1])  # room for the legend
        axes[0, 1].legend()
        density, _ = np.histogram(drawn, bins=edges, density=True)
        source.append(
            pd.DataFrame({"panel": "refits", "x": (edges[1:] + edges[:-1]) / 2, "y": density})
        )
    plotting.save_figure(figure, path, pd.concat(source))
