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
import json
from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from tcgn_mil.experiments.demo.synthetic.config import REGIONS
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.slide_level.evaluate import MODEL
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.out_of_fold import combined_r

KINDS = ("colour", "morphology", "null")
# Share of a tile's area from which it counts as immune.
IMMUNE_SHARE = 0.5


def with_kind(run: Path, truth: Path) -> pd.DataFrame:
    """Return genes.csv of a run with the column ``kind``, which says what each gene follows."""
    # The kind "null" must not be read as a missing value.
    planted = pd.read_csv(truth / "genes.csv", keep_default_na=False)
    merged = pd.read_csv(run / "genes.csv").merge(
        planted[["gene", "kind"]], on="gene", validate="one_to_one"
    )
    return merged.assign(kind=pd.Categorical(merged["kind"], KINDS))


def by_kind(run: Path, truth: Path) -> pd.DataFrame:
    """Return number, share predictable and median r of each predictor, one row per kind of gene."""
    table = with_kind(run, truth)
    columns = _r_columns(table)
    groups = table.groupby("kind", observed=True)
    medians = groups[columns].median()
    medians.insert(0, "predictable", groups["predictable"].mean())
    medians.insert(0, "genes", groups.size())
    return medians.reset_index()


def _r_columns(table: pd.DataFrame) -> list[str]:
    return [name for name in map(str, table.columns) if name.startswith("r_")]


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
        for column in _r_columns(table):
            predictor = column.removeprefix("r_")
            if (predictor == MODEL or not number) and table[column].notna().any():
                name = run.name if predictor == MODEL else predictor
                for kind, rows in table.groupby("kind", observed=True):
                    shown[str(kind)][name] = rows[column].to_numpy()
    figures.grouped_points(shown, path, ylabel="r over patients, out of fold")


def immune_share(
    labels: NDArray[np.uint8], label_mpp: float, centres_um: NDArray[np.float64], side_um: float
) -> NDArray[np.float64]:
    """Return the share (N,) of each square tile that the immune region fills.

    Parameters
    ----------
    labels
        (H, W) regions at `label_mpp` µm per pixel.
    centres_um
        (N, 2) x and y of the centres of the tiles in µm.
    side_um
        Side of a tile in µm.
    """
    steps = np.arange(round(side_um / label_mpp)) + 0.5
    offsets = steps * label_mpp - len(steps) * label_mpp / 2
    at = ((centres_um[:, :, None] + offsets) / label_mpp).astype(int)
    x, y = (np.clip(at[:, axis], 0, size - 1) for axis, size in enumerate(labels.shape[::-1]))
    inside = labels[y[:, :, None], x[:, None, :]] == REGIONS.index("immune") + 1
    return np.asarray(inside.mean(axis=(1, 2)))


def tile_auc(maps: Path, cohort: Path) -> pd.DataFrame:
    """Return the AUC of attention and of each map for immune tiles, one row per slide.

    Slides on which all tiles are immune, or none, are left out.
    """
    slide_mpp = pd.read_csv(cohort / "slides.csv").set_index("slide_id")["mpp"]
    rows = []
    for path in tqdm(sorted(maps.glob("*.h5ad")), desc="maps", unit="slide"):
        adata = anndata.read_h5ad(path)
        mpp = float(slide_mpp[path.stem])
        with np.load(
            cohort / "truth" / "regions" / f"{path.stem}.npz", allow_pickle=False
        ) as regions:
            side = json.loads(adata.uns["tcgn_mil"])["level0_px"] * mpp
            centres = np.asarray(adata.obsm["spatial"]) * mpp
            immune = (
                immune_share(regions["labels"], float(regions["mpp"]), centres, side)
                >= IMMUNE_SHARE
            )
        if immune.any() and not immune.all():
            scores = adata.obs.drop(columns="attention_relative").join(adata.to_df())
            auc = {name: roc_auc_score(immune, values) for name, values in scores.items()}
            rows.append(
                {"slide": path.stem, "tiles": len(immune), "immune": int(immune.sum()), **auc}
            )
    return pd.DataFrame(rows)


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
