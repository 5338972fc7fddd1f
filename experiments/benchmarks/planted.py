"""Measure how well slide-level runs find what was planted in a synthetic cohort.

    python -m tcgn_mil.experiments.benchmarks.planted COHORT --runs RUN [RUN ...] \\
        [--maps MAPS ...] --out planted

COHORT is the folder ``cohort`` of ``tcgn-mil demo``, and RUN a run of ``tcgn-mil slide-cv`` on it.
MAPS is the folder ``maps`` of ``tcgn-mil predict --map-signatures`` from such a run, which draws
every patient by the model that did not see it. Genes are grouped by what they follow (colour,
morphology or nothing), and maps are compared with the planted immune regions. Writes genes.csv,
tiles.csv and planted.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.experiments.demo.planted_truth import (
    KINDS,
    by_kind,
    r_columns,
    tile_auc,
    with_kind,
)
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.slide_level.evaluate import MODEL
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.out_of_fold import combined_r


def zero_shot_p(run: Path, *, permutations: int = 999, seed: int = 0) -> tuple[float, float]:
    """Return the median r of the zero-shot prediction, and p from labels permuted within folds.

    Zero-shot predictions use no label of the cohort. Labels can therefore be permuted after
    prediction, which is not valid for trained models.
    """
    adata = anndata.read_h5ad(run / "out_of_fold.h5ad")
    guess = np.asarray(adata.obsm["baseline_zero_shot"])
    known = np.isfinite(guess).all(axis=0)
    truth, guess = np.asarray(adata.layers["truth"])[:, known], guess[:, known]
    fold_of = adata.obs["fold"].to_numpy()
    rng = np.random.default_rng(seed)
    folds = [np.flatnonzero(fold_of == fold) for fold in np.unique(fold_of)]
    observed = median_over_genes(combined_r(truth, guess, fold_of).r)
    reached = 0
    for _ in range(permutations):
        order = np.empty(len(truth), dtype=np.int64)
        for rows in folds:
            order[rows] = rng.permutation(rows)
        reached += median_over_genes(combined_r(truth[order], guess, fold_of).r) >= observed
    return observed, (reached + 1) / (permutations + 1)


def draw_kinds(runs: Sequence[Path], truth: Path, path: Path) -> None:
    """Draw r of every gene by kind, for the models of all runs and the baselines of the first."""
    shown: dict[str, dict[str, NDArray[np.floating]]] = {kind: {} for kind in KINDS}
    for number, run in enumerate(runs):
        table = with_kind(run, truth)
        for column in r_columns(table):
            predictor = column.removeprefix("r_")
            if (predictor == MODEL or not number) and table[column].notna().any():
                name = run.name if predictor == MODEL else predictor
                for kind, rows in table.groupby("kind", observed=True):
                    shown[str(kind)][name] = rows[column].to_numpy()
    figures.grouped_points(shown, path, ylabel="r over patients, out of fold")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--maps", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    genes = pd.concat(
        [by_kind(run, given.cohort / "truth").assign(run=run.name) for run in given.runs]
    )
    write_csv(given.out / "genes.csv", genes)
    print(genes.round(3).to_string(index=False))
    for run in given.runs:
        if "r_zero_shot" in pd.read_csv(run / "genes.csv", nrows=0):
            r, p = zero_shot_p(run)
            print(f"{run.name}: zero-shot median r {r:.3f}, permutation p {p:.3f}")
    draw_kinds(given.runs, given.cohort / "truth", given.out / "planted.png")
    if given.maps:
        tiles = pd.concat(
            [tile_auc(maps, given.cohort).assign(run=maps.parent.name) for maps in given.maps]
        )
        write_csv(given.out / "tiles.csv", tiles)
        print(tiles.drop(columns="slide").groupby("run").mean().round(3).T.to_string())


if __name__ == "__main__":
    main()
