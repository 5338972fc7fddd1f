"""Compare two finished slide-level runs gene by gene, on the patients that both have tested.

``tcgn-mil slide-cv --compare A B``. The interval of the difference of the medians is over the same
patients for both runs, because their errors are correlated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from tcgn_mil import plotting
from tcgn_mil.config import differing_keys
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import finished_summary, read_run
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.io.atomic import plain_rows, write_csv, write_json
from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.jackknife import jackknife, median_difference_interval


def compare_runs(
    first: str | Path, second: str | Path, out_dir: str | Path
) -> list[dict[str, Any]]:
    """Compare two runs of ``finetune`` or ``slide-cv``.

    The folder gets ``comparison.csv`` (both r of each gene and their difference),
    ``comparison_summary.csv``, ``comparison.png``, and ``comparison.json`` with the config keys
    that differ.

    Parameters
    ----------
    first, second
        Folders of the runs, called a and b in the tables.
    out_dir
        Folder to write.

    Returns
    -------
    The one row of ``comparison_summary.csv``, in a list.

    Raises
    ------
    InputError
        If a folder holds no finished run; if the runs share no gene; or if they were not tested on
        the same patients, folds and expression. r is taken within folds, so that other folds would
        change it by themselves.
    """
    folders, out_dir = (Path(first), Path(second)), Path(out_dir)
    runs = [
        read_run(folder, kinds=("finetune",), verbs="finetune or slide-cv") for folder in folders
    ]
    a, b = _shared_part(folders)
    truth, fold_of = np.asarray(a.layers["truth"]), a.obs["fold"].to_numpy(np.int64)
    cohort_of, donor_of = (
        a.obs[name].astype("category").cat.codes.to_numpy(np.int64) if name in a.obs else None
        for name in ("cohort", "donor")
    )
    values = [
        jackknife(truth, np.asarray(part.X), fold_of, cohort_of, donor_of=donor_of)
        for part in (a, b)
    ]
    r = [run.r for run in values]
    has_r = np.isfinite(r[0]) & np.isfinite(r[1])
    if not has_r.any():
        raise InputError(
            "no gene has an r within the test folds of both runs",
            path=folders[1],
            fix="compare runs with larger test folds",
        )
    table = pd.DataFrame({"gene": a.var_names, "r_a": r[0], "r_b": r[1], "difference": r[0] - r[1]})
    # All numbers of the summary are taken over the same genes.
    counted = table["difference"][has_r]
    medians = [median_over_genes(of_run[has_r]) for of_run in r]
    interval = median_difference_interval(*values)
    row = {
        "patients": a.n_obs,
        "genes": int(has_r.sum()),
        "median_r_a": medians[0],
        "median_r_b": medians[1],
        "difference": medians[0] - medians[1],
        "low": interval.low,
        "high": interval.high,
        "better_in_a": int((counted > 0).sum()),
        "better_in_b": int((counted < 0).sum()),
    }
    summary = pd.DataFrame([row])
    write_csv(out_dir / "comparison.csv", table)
    write_csv(out_dir / "comparison_summary.csv", summary)
    draw_comparison(table, (folders[0].name, folders[1].name), out_dir / "comparison.png")
    labels = [(finished_summary(folder) or {}).get("labels", []) for folder in folders]
    write_json(
        out_dir / "comparison.json",
        {
            "a": str(first),
            "b": str(second),
            "labels": {"a": labels[0], "b": labels[1]},
            "differing_keys": differing_keys(runs[0]["config"], runs[1]["config"]),
            "summary": plain_rows(summary),
        },
    )
    return plain_rows(summary)


def _shared_part(folders: tuple[Path, Path]) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Read the out-of-fold predictions of both runs, for the same patients and genes."""
    first, second = (
        open_anndata(
            folder / "out_of_fold.h5ad",
            what="out-of-fold predictions",
            missing_fix="run tcgn-mil slide-cv again",
            broken_fix="run tcgn-mil slide-cv again",
        )
        for folder in folders
    )
    if dict(first.obs["fold"]) != dict(second.obs["fold"]):
        raise InputError(
            f"its test folds are not those of {folders[0]}",
            path=folders[1],
            fix="give both runs the same --folds, such as folds.csv of one of them",
        )
    genes = [gene for gene in first.var_names if gene in set(second.var_names)]
    if not genes:
        raise InputError(
            f"shares no gene with {folders[0]}",
            path=folders[1],
            fix="compare runs that predict the same genes",
        )
    a, b = (part[first.obs_names, genes] for part in (first, second))
    truth = [np.asarray(part.layers["truth"]) for part in (a, b)]
    if not np.allclose(truth[0], truth[1], atol=1e-4, equal_nan=True):
        raise InputError(
            f"its expression is not that of {folders[0]}",
            path=folders[1],
            fix="compare runs on one cohort.h5ad, both with cohorts=within or both with"
            " cohorts=pooled",
        )
    return a, b


@plotting.styled
def draw_comparison(table: pd.DataFrame, names: tuple[str, str], path: Path) -> None:
    figure, axis = plotting.subplots(width=plotting.ONE_COLUMN, height=3.3)
    shown = table[["r_b", "r_a"]].dropna()
    axis.plot(shown["r_b"], shown["r_a"], ".", color=plotting.COLOURS[0], markersize=3, alpha=0.6)
    low, high = (
        (float(shown.to_numpy().min()), float(shown.to_numpy().max())) if len(shown) else (0.0, 1.0)
    )
    axis.plot([low, high], [low, high], color="0.6", linewidth=1)
    first, second = (plotting.figure_label(name) for name in names)
    axis.set(
        xlabel=plotting.counted_label(f"r of {second}", len(shown), "genes"),
        ylabel=f"r of {first}",
        aspect="equal",
    )
    plotting.save_figure(figure, path, table[["gene", "r_b", "r_a"]])
