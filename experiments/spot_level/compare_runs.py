"""Compare two finished runs of ``tcgn-mil spot-cv`` gene by gene on the sections that both tested.

The interval of the difference of two headlines is a bootstrap over blocks of spots. Both runs are
resampled with the same blocks, since the same spots judge both. Noise that the runs share then
cancels in the difference.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil import plotting
from tcgn_mil.config import differing_keys
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import finished_summary, read_run
from tcgn_mil.experiments.spot_level.cross_validate import KIND
from tcgn_mil.experiments.spot_level.evaluate import MODEL, REPLICATES
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.io.atomic import plain_rows, write_csv, write_json
from tcgn_mil.statistics.bootstrap import block_bootstrap, percentile_interval
from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.sequencing_depth import (
    DETECTION_FLOOR,
    depth_adjusted_pearson,
    depth_projection,
)
from tcgn_mil.statistics.spatial import MIN_SPOTS, spatial_blocks

_MAX_COLUMNS = 3  # panels in a row of the figure


def compare_runs(
    first: str | Path, second: str | Path, out_dir: str | Path
) -> list[dict[str, Any]]:
    """Compare two runs on their common sections, spots and genes.

    Writes ``comparison.csv`` (section, gene, r of both runs and their difference),
    ``comparison_sections.csv``, ``comparison.png``, and ``comparison.json`` with the config keys in
    which the runs differ.

    Parameters
    ----------
    first, second
        Folders of the runs, called A and B in the tables.
    out_dir
        Folder to write.

    Returns
    -------
    list of dict
        One row for each section and, with several sections, one for their mean.

    Raises
    ------
    InputError
        If a folder holds no finished run of ``spot-cv``, or if the two runs share no tested
        section, too few spots or no gene, or were judged against different values.
    """
    first, second, out_dir = Path(first), Path(second), Path(out_dir)
    runs = [read_run(folder, kinds=(KIND,), verbs=KIND) for folder in (first, second)]
    predicted = [_predictions(folder) for folder in (first, second)]
    shared = [name for name in predicted[0] if name in predicted[1]]
    if not shared:
        raise InputError(
            f"no section was tested in both runs: {', '.join(predicted[0])} in A,"
            f" {', '.join(predicted[1])} in B",
            path=second,
            fix="compare runs that tested the same sections",
        )
    tables, rows, drawn = [], [], []
    for name in shared:
        table, row, difference = _section(
            name,
            *(
                open_anndata(
                    files[name],
                    what="predicted spots",
                    missing_fix="run tcgn-mil spot-cv again",
                    broken_fix="run tcgn-mil spot-cv again",
                )
                for files in predicted
            ),
        )
        tables.append(table)
        rows.append(row)
        drawn.append(difference)
    genes, summary = pd.concat(tables), pd.DataFrame(rows)
    if len(shared) > 1:
        # The mean over sections has an interval of its own, from the mean of their replicates.
        low, high = percentile_interval(np.mean(drawn, axis=0)[:, None])
        means = summary[["headline_a", "headline_b", "difference"]].mean()
        mean = {"section": "mean of sections", **means, "low": low[0], "high": high[0]}
        counts = summary[["genes", "better_in_a", "better_in_b"]].sum()
        summary = pd.concat([summary, pd.DataFrame([mean | counts.to_dict()])], ignore_index=True)
    write_csv(out_dir / "comparison.csv", genes)
    write_csv(out_dir / "comparison_sections.csv", summary)
    draw_comparison(genes, (first.name, second.name), out_dir / "comparison.png")
    write_json(
        out_dir / "comparison.json",
        {
            "a": str(first),
            "b": str(second),
            "labels": {"a": _labels(first), "b": _labels(second)},
            "differing_keys": differing_keys(runs[0]["config"], runs[1]["config"]),
            "sections": plain_rows(summary),
        },
    )
    return plain_rows(summary)


def _labels(folder: Path) -> list[str]:
    return list((finished_summary(folder) or {}).get("labels", []))


def _predictions(folder: Path) -> dict[str, Path]:
    """Return the file of predictions of each section."""
    files = sorted(folder.glob("fold_*/predicted_*.h5ad"))
    return {path.stem.removeprefix("predicted_"): path for path in files}


def _section(
    name: str, left: anndata.AnnData, right: anndata.AnnData
) -> tuple[pd.DataFrame, dict[str, Any], NDArray[np.float64]]:
    """Compare one section.

    Returns
    -------
    table
        One row for each gene.
    row
        Row of the section for the summary.
    difference
        Resampled differences (R,) of the headlines, B less A.
    """
    spots = [spot for spot in left.obs_names if spot in set(right.obs_names)]
    names = [gene for gene in left.var_names if gene in set(right.var_names)]
    if len(spots) < MIN_SPOTS or not names:
        raise InputError(
            f"section {name}: the runs share {len(spots)} spots and {len(names)} genes",
            fix="compare runs that share spots and genes",
        )
    left, right = left[spots, names], right[spots, names]
    # Both files hold the measured values. If these differ, the two r answer different questions.
    if not np.allclose(left.layers["truth"], right.layers["truth"], rtol=1e-4, atol=1e-5):
        raise InputError(
            f"section {name}: the measured values of the two runs differ, so their r cannot be"
            " compared (another normalisation, or other counts)",
            fix="compare runs of one normalisation on the same spots",
        )
    log_depth = np.log(left.obs["total_counts"].to_numpy(float))
    basis = depth_projection(log_depth)
    blocks = spatial_blocks(np.asarray(left.obsm["spatial"]))
    r, drawn = [], []
    for part in (left, right):
        truth, predicted = (
            _residuals(np.asarray(values, dtype=np.float64), basis)
            for values in (part.layers["truth"], part.X)
        )
        r.append(
            depth_adjusted_pearson(np.asarray(part.layers["truth"]), np.asarray(part.X), log_depth)
        )
        # The seed depends on the section only, so both runs are resampled with the same blocks.
        drawn.append(
            block_bootstrap(
                truth, predicted, blocks, replicates=REPLICATES, seed=zlib.crc32(name.encode())
            )
        )
    # A gene without an r in one run, for example because it was predicted as a constant, is
    # compared in neither.
    seen = (
        (left.var["detection"].to_numpy() >= DETECTION_FLOOR)
        & np.isfinite(r[0])
        & np.isfinite(r[1])
    )
    difference = np.nanmedian(drawn[1][:, seen], axis=1) - np.nanmedian(drawn[0][:, seen], axis=1)
    low, high = percentile_interval(difference[:, None])
    table = pd.DataFrame(
        {
            "section": name,
            "gene": names,
            "detection": left.var["detection"].to_numpy(),
            "r_a": r[0],
            "r_b": r[1],
            "difference": r[1] - r[0],
        }
    )
    row = {
        "section": name,
        "headline_a": median_over_genes(r[0][seen]),
        "headline_b": median_over_genes(r[1][seen]),
        "difference": median_over_genes(r[1][seen]) - median_over_genes(r[0][seen]),
        "low": low[0],
        "high": high[0],
        "genes": int(seen.sum()),
        "better_in_a": int((r[0] > r[1])[seen].sum()),
        "better_in_b": int((r[1] > r[0])[seen].sum()),
    }
    return table, row, difference


def _residuals(values: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values less their projection on the depth spline."""
    return values - basis @ (basis.T @ values)


@plotting.styled
def draw_comparison(genes: pd.DataFrame, names: tuple[str, str], path: Path) -> None:
    """Draw the depth-adjusted r of each gene in B against A, one panel for each section."""
    parts: Mapping[Any, pd.DataFrame] = dict(iter(genes.groupby("section", sort=False)))
    columns = min(len(parts), _MAX_COLUMNS)
    rows = math.ceil(len(parts) / columns)
    side = plotting.TWO_COLUMNS / max(columns, 2)
    figure, axes = plotting.subplots(
        rows,
        columns,
        width=side * columns,
        height=(side + 0.1) * rows + 0.2,
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    for axis in axes.flat[len(parts) :]:
        axis.set_axis_off()
    for axis, (section, part) in zip(axes.flat, parts.items(), strict=False):
        seen = part[part["detection"] >= DETECTION_FLOOR]
        axis.plot(
            seen["r_a"], seen["r_b"], ".", markersize=2.5, alpha=0.6, color=plotting.COLOURS[0]
        )
        axis.axline((0, 0), slope=1, color="black", linewidth=0.6)
        name = plotting.figure_label(section)
        axis.set(title=f"{name} (n = {len(seen):,} genes)", aspect="equal")
    figure.supxlabel(f"A: {plotting.figure_label(names[0])}")
    figure.supylabel(f"B: {plotting.figure_label(names[1])}")
    figure.suptitle(f"depth-adjusted r of the {MODEL}, genes in >= 20 % of spots")
    plotting.save_figure(figure, path, genes)
