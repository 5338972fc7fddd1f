"""Measure how often intervals over patients include the true r, and how wide they are.

    python -m tcgn_mil.experiments.benchmarks.interval_coverage --out measured

Cohorts are simulated with folds of several sizes. Three questions are asked: do intervals of single
genes include the true r; do those of the median over correlated genes, and of the difference of two
predictors' medians, include the true ones; and do they still, if the predictions are those of
models that were fitted on the other folds. Methods that were not chosen stand beside the jackknife
of :mod:`tcgn_mil.statistics.jackknife`. Writes genes.csv, medians.csv, fitted.csv, tables.md and
intervals.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from tcgn_mil import plotting
from tcgn_mil.experiments.benchmarks.interval_data import (
    KINDS,
    CorrelatedGenes,
    bias_corrected,
    independent_genes,
    percentiles,
    resampling_weights,
    reweighted_z,
)
from tcgn_mil.io.atomic import atomic_path, write_csv
from tcgn_mil.statistics.jackknife import (
    Interval,
    gene_interval,
    jackknife,
    median_difference_interval,
    median_interval,
)
from tcgn_mil.statistics.out_of_fold import combined_r

SIZES = ("4x6", "5x6", "5x12", "5x25", "5x60", "5x180")  # folds x patients; the first is the demo's
RHO = (0.0, 0.3, 0.6, 0.85)
JACKKNIFE, RESAMPLED = "jackknife", "resampled patients"
# True r of the genes in the simulations of medians. The high ones are those of the demo.
SPREADS = {
    "high": lambda genes: np.tanh(np.linspace(0.5, 1.05, genes)),
    "even": lambda genes: np.tanh(np.linspace(0.05, 0.75, genes)),
    "mostly low": lambda genes: 0.75 * np.linspace(0, 1, genes) ** 2.5,
}
FEATURES, PENALTY = 40, 0.3  # of the ridge regressions; the penalty is per patient


def folds_of(size: str) -> NDArray[np.int64]:
    """Return the fold of each patient for a size such as ``5x12``, five folds of twelve."""
    folds, patients = map(int, size.split("x"))
    return np.repeat(np.arange(folds), patients)


def gene_rows(size: str, genes: int, replicates: int, seed: int) -> Iterable[dict[str, object]]:
    """Yield the coverage of single genes' intervals, by kind of values, true r and method."""
    fold_of = folds_of(size)
    for kind in KINDS:
        for rho in RHO:
            rng = np.random.default_rng(seed)
            pair = independent_genes(kind, rho, (len(fold_of), genes), rng)
            for method, interval in gene_methods(
                pair.truth, pair.predicted, fold_of, replicates, rng
            ).items():
                r = combined_r(pair.truth, pair.predicted, fold_of).r
                yield {
                    "size": size,
                    "values": kind,
                    "true_r": round(pair.r, 3),
                    "method": method,
                    **measured(interval, pair.r, r),
                }


def measured(interval: Interval, truth: float, estimate: NDArray[np.float64]) -> dict[str, float]:
    """Return coverage, mean width, and how often the estimate is outside of its interval."""
    low, high = interval
    return {
        "coverage": float(np.mean((low <= truth) & (truth <= high))),
        "width": float(np.mean(high - low)),
        "estimate_outside": float(np.mean((estimate < low - 1e-9) | (estimate > high + 1e-9))),
    }


def gene_methods(
    truth: NDArray[np.float64],
    predicted: NDArray[np.float64],
    fold_of: NDArray[np.int64],
    replicates: int,
    rng: np.random.Generator,
) -> Mapping[str, Interval]:
    """Return the intervals of single genes by each method."""
    values = jackknife(truth, predicted, fold_of)
    z = np.arctanh(values.r)
    counts = np.unique(fold_of, return_counts=True)[1]
    normal = stats.norm.ppf(0.975) / np.sqrt((counts - 3).sum())
    # Without the factor (n - 3) / (n - 1), without the bias, and with the normal quantile.
    factor = np.repeat((counts - 1) / (counts - 3), counts)[:, None]
    plain = 1.96 * np.sqrt((factor * np.square(values.deviations)).sum(axis=0))
    drawn, smooth = (
        reweighted_z(
            truth,
            predicted,
            fold_of,
            resampling_weights(fold_of, replicates, rng, dirichlet=dirichlet),
        )
        for dirichlet in (False, True)
    )
    in_z = {
        RESAMPLED: percentiles(drawn),
        "the same, BCa": bias_corrected(drawn, values),
        "Dirichlet weights": percentiles(smooth),
        "1 / sqrt(sum(n - 3))": Interval(z - normal, z + normal),
        "jackknife, not scaled": Interval(z - plain, z + plain),
    }
    return {name: Interval(np.tanh(low), np.tanh(high)) for name, (low, high) in in_z.items()} | {
        JACKKNIFE: gene_interval(values)
    }


def median_rows(
    size: str, genes: int, cohorts: int, replicates: int, seed: int
) -> Iterable[dict[str, object]]:
    """Yield the coverage of the intervals of medians and of the paired difference."""
    fold_of = folds_of(size)
    for spread, true_r in SPREADS.items():
        design = CorrelatedGenes(true_r(genes))
        true = np.array([design.better, design.better - design.worse])
        for heavy_tails in (False, True):
            rng = np.random.default_rng(seed)
            estimates: list[list[float]] = []
            bounds: list[list[object]] = []
            for _ in range(cohorts):
                cohort = design.draw(len(fold_of), rng, heavy_tails=heavy_tails)
                a, b = (jackknife(cohort.truth, p, fold_of) for p in cohort[1:])
                medians = np.median(a.r), np.median(b.r)
                estimates.append([medians[0], medians[0] - medians[1]])
                weights = resampling_weights(fold_of, replicates, rng, dirichlet=False)
                drawn = [
                    np.tanh(np.median(reweighted_z(cohort.truth, p, fold_of, weights), axis=1))
                    for p in cohort[1:]
                ]
                old = percentiles(np.stack([drawn[0], drawn[0] - drawn[1]], axis=1))
                new = (
                    median_interval(a, replicates=replicates),
                    median_difference_interval(a, b, replicates=replicates),
                )
                bounds.append([[old.low, old.high], np.transpose(new)])
            estimate, interval = np.array(estimates), np.array(bounds)  # (S, 2), (S, 2, 2, 2)
            for column, quantity in enumerate(("median", "difference")):
                for row, method in enumerate((RESAMPLED, JACKKNIFE)):
                    low, high = interval[:, row, :, column].T
                    found = measured(Interval(low, high), true[column], estimate[:, column])
                    mean = estimate[:, column].mean()
                    yield {
                        "size": size,
                        "true_r_of_genes": spread,
                        "heavy_tails": heavy_tails,
                        "quantity": quantity,
                        "method": method,
                        "truth": true[column],
                        "mean_estimate": mean,
                        "coverage_of_mean_estimate": float(np.mean((low <= mean) & (mean <= high))),
                        **found,
                    }


def fitted_rows(size: str, genes: int, cohorts: int, seed: int) -> Iterable[dict[str, object]]:
    """Yield the coverage where ridge regressions on the other folds made the predictions.

    The true r of a gene is that of these models on unlimited new patients, combined over folds.
    """
    fold_of = folds_of(size)
    patients = len(fold_of)
    for share in (0.0, 0.1, 0.4, 0.8):  # of the variance of expression that the features carry
        rng = np.random.default_rng(seed)
        inside, medians, spread = [], [], []
        for _ in range(cohorts):
            effects = rng.standard_normal((FEATURES, genes))
            effects *= rng.random((FEATURES, 1)) < 0.25
            effects *= np.sqrt(share) / np.maximum(np.linalg.norm(effects, axis=0), 1e-9)
            features = rng.standard_normal((patients, FEATURES))
            truth = features @ effects
            truth += np.sqrt(1 - share) * rng.standard_normal((patients, genes))
            predicted, z = np.empty_like(truth), np.zeros(genes)
            for fold in np.unique(fold_of):
                test = fold_of == fold
                fitted = _ridge(features[~test], truth[~test])
                predicted[test] = features[test] @ fitted
                r = (fitted * effects).sum(axis=0) / np.linalg.norm(fitted, axis=0)
                z += np.arctanh(r) * test.mean()
            values = jackknife(truth, predicted, fold_of)
            low, high = gene_interval(values)
            inside.append(np.mean((low <= np.tanh(z)) & (np.tanh(z) <= high)))
            low_median, high_median = median_interval(values, replicates=200)
            medians.append(low_median <= np.median(np.tanh(z)) <= high_median)
            spread.append(np.median(np.tanh(z)))
        yield {
            "size": size,
            "share": share,
            "true_median_r": float(np.mean(spread)),
            "coverage_of_genes": float(np.mean(inside)),
            "coverage_of_median": float(np.mean(medians)),
        }


def _ridge(features: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients (F, G) of a ridge regression."""
    centred = features - features.mean(axis=0)
    penalty = PENALTY * len(features) * np.eye(features.shape[1])
    return np.linalg.solve(
        centred.T @ centred + penalty, centred.T @ (values - values.mean(axis=0))
    )


def gene_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, by size and method, the range of coverage over r, and the mean width."""
    grouped = rows.groupby(["size", "method", "values"], sort=False)
    table = grouped["coverage"].agg(["min", "max"])
    cells = (100 * table).round(1)
    text = cells["min"].map("{:.1f}".format) + " to " + cells["max"].map("{:.1f}".format)
    wide = text.unstack("values")[list(KINDS)].reindex(table.index.droplevel("values").unique())
    normal = rows[rows["values"] == KINDS[0]].groupby(["size", "method"], sort=False)
    every = rows.groupby(["size", "method"], sort=False)
    wide["mean width, normal"] = normal["width"].mean().map("{:.3f}".format)
    wide["estimate outside"] = (100 * every["estimate_outside"].max()).map("{:.1f} %".format)
    return wide.reset_index()


def median_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return coverage by size (columns), and how often the estimate is outside, for each method."""
    rows = rows.assign(tails=np.where(rows["heavy_tails"], "heavy", "normal"))
    keys = ["quantity", "true_r_of_genes", "tails", "method"]
    coverage = (100 * rows.set_index([*keys, "size"])["coverage"]).map("{:.1f}".format)
    wide = coverage.unstack("size")[list(rows["size"].unique())]
    outside = 100 * rows.groupby(keys)["estimate_outside"].max()
    wide["estimate outside"] = outside.map("up to {:.1f} %".format)
    wide = wide.reset_index().sort_values(keys, ascending=False)
    return wide.rename(columns={"quantity": "interval of", "true_r_of_genes": "true r of genes"})


def fitted_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the coverage of genes and of medians by size (columns) and share of variance."""
    cells = {
        name: (100 * rows.set_index(["share", "size"])[f"coverage_of_{name}"]).map("{:.1f}".format)
        for name in ("genes", "median")
    }
    wide = (cells["genes"] + " / " + cells["median"]).unstack("size")
    return wide[list(rows["size"].unique())].reset_index()


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


@plotting.styled
def draw(genes: pd.DataFrame, medians: pd.DataFrame, path: Path) -> None:
    """Draw coverage against the size of folds: for genes the lowest, for medians the mean."""
    sizes = list(genes["size"].unique())
    others = iter(plotting.COLOURS[2:])
    colours = {JACKKNIFE: plotting.COLOURS[0], RESAMPLED: plotting.COLOURS[1]}
    figure, axes = plotting.subplots(1, 3, width=plotting.TWO_COLUMNS, height=3.6)
    lowest = genes.groupby(["method", "size"], sort=False)["coverage"].min()
    for method in genes["method"].unique():
        colour = colours[method] if method in colours else next(others)
        axes[0].plot(sizes, lowest[method][sizes], "o-", color=colour, label=method, markersize=4)
    axes[0].set(title="single genes (worst case)", ylabel="coverage of the true r")
    for axis, quantity in zip(axes[1:], ("median", "difference"), strict=True):
        chosen = medians[medians["quantity"] == quantity]
        mean = chosen.groupby(["method", "true_r_of_genes", "size"])["coverage"].mean()
        for method, colour in colours.items():
            for spread, line in zip(SPREADS, ("o-", "s--", "^:"), strict=True):
                axis.plot(
                    sizes,
                    mean[method, spread][sizes],
                    line,
                    color=colour,
                    label=f"{method}, r {spread}",
                    markersize=4,
                )
    axes[1].set(title="median over genes")
    axes[2].set(title="difference of two medians")
    for axis, least in zip(axes, (0.5, 0, 0.5), strict=True):
        axis.axhline(0.95, color="black", linewidth=0.7, linestyle=":")
        axis.set(xlabel="folds x patients in a fold", ylim=(least, 1.02))
    # Below the axes, since lines cross every corner of the first panel.
    for axis, title in zip(axes[[0, 2]], (None, "middle and right"), strict=True):
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), title=title)
    plotting.save(figure, path)


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", nargs="+", default=list(SIZES), help="folds x patients")
    parser.add_argument("--genes", type=int, default=1000, help="genes with one true r")
    parser.add_argument("--correlated-genes", type=int, default=200)
    parser.add_argument("--cohorts", type=int, default=400, help="simulated cohorts for medians")
    parser.add_argument("--replicates", type=int, default=400, help="draws of an interval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("intervals"))
    asked = parser.parse_args()
    genes, medians, fitted = (
        pd.DataFrame([row for size in asked.size for row in rows(size)])
        for rows in (
            lambda size: gene_rows(size, asked.genes, asked.replicates, asked.seed),
            lambda size: median_rows(
                size, asked.correlated_genes, asked.cohorts, asked.replicates, asked.seed
            ),
            lambda size: fitted_rows(size, asked.correlated_genes, asked.cohorts, asked.seed),
        )
    )
    for name, table in (("genes", genes), ("medians", medians), ("fitted", fitted)):
        write_csv(asked.out / f"{name}.csv", table)
    text = "\n".join(
        markdown(table)
        for table in (gene_table(genes), median_table(medians), fitted_table(fitted))
    )
    with atomic_path(asked.out / "tables.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    draw(genes, medians, asked.out / "intervals.png")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
