"""``tcgn-mil associate --spots``: predicted genes against deconvolved cell types, spot by spot within each section.

r is of values once sequencing depth is taken out, and p two-sided of the modified t-test that heeds spatial
autocorrelation (:class:`tcgn_mil.statistics.spatial.SpatialTest`). Sections of a patient are no independent samples, so
each section has its own test, and over sections there is a mean and a count, without a p.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from tcgn_mil import plotting
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate import figures as association_figures
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run
from tcgn_mil.io.atomic import plain_rows, write_csv
from tcgn_mil.statistics.gene_metrics import spearman
from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.statistics.sequencing_depth import DETECTION_FLOOR
from tcgn_mil.statistics.spatial import MIN_SPOTS, SpatialTest

KIND = "associate"
SIGNIFICANT = association_figures.SIGNIFICANT
_TOP_GENES = 4
_PREFIX, _NEEDED = "predicted_", ("total_counts", "spatial", "truth", "detection")


def run(config: AssociationConfig, out_dir: str | Path) -> dict[str, Any]:
    """Write ``cell_types.csv`` (section, cell type, gene), ``cell_type_summary.csv`` and ``cell_types.png``.

    Raises
    ------
    InputError
        If there are no predictions or cell types, or no section has enough spots in both.
    """
    assert config.spots is not None
    if config.cell_types is None:
        raise InputError("no cell types to associate spots with", fix="give --cell-types")
    sections = find_predictions(config.spots)
    types = read_cell_types(config.cell_types)
    shared = {name: path for name, path in sections.items() if name in types}
    if not shared:
        raise InputError(
            f"has no section of the predictions ({', '.join(sections)}), but {', '.join([*types][:8])}",
            path=config.cell_types,
            fix="name its files <section>-proportion.tsv",
        )
    out_dir = begin_run(out_dir, KIND, config)
    parts = [section_table(name, path, types[name]) for name, path in shared.items()]
    table = pd.concat(parts, ignore_index=True)
    summary = summarise_cell_types(table)
    write_csv(out_dir / "cell_types.csv", table)
    write_csv(out_dir / "cell_type_summary.csv", summary)
    _draw(table, out_dir / "cell_types.png")
    return finish_run(
        out_dir,
        {
            "sections": list(shared),
            "without_cell_types": [name for name in sections if name not in shared],
            "spots": {
                name: int(part["n"].iloc[0]) for name, part in zip(shared, parts, strict=True)
            },
            "cell_types": plain_rows(summary),
        },
    )


def find_predictions(path: str | Path) -> dict[str, Path]:
    """Section -> its predictions: of a run of ``spot-cv``, a folder of such files, or one file."""
    path = Path(path)
    files = (
        [path]
        if path.is_file()
        else sorted([*path.glob("fold_*/predicted_*.h5ad"), *path.glob("predicted_*.h5ad")])
    )
    if not files:
        raise InputError(
            "holds no predicted_<section>.h5ad",
            path=path,
            fix="give the folder of tcgn-mil spot-cv",
        )
    return {file.stem.removeprefix(_PREFIX): file for file in files}


def read_cell_types(path: str | Path) -> dict[str, pd.DataFrame]:
    """Section -> spots x cell types, from a ZIP or folder of ``<section>-proportion.tsv``, or one such file."""
    path = Path(path)
    if not path.exists():
        raise InputError("no such cell types", path=path, fix="check the path")
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                texts = {
                    name: archive.read(name) for name in archive.namelist() if name.endswith(".tsv")
                }
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(
                f"cannot be read as ZIP ({error})", path=path, fix="copy the file again"
            ) from error
    else:
        files = [path] if path.is_file() else sorted(path.glob("*.tsv"))
        texts = {file.name: file.read_bytes() for file in files}
    found = {
        Path(name).stem.removesuffix("-proportion"): _proportions(text, name, path)
        for name, text in texts.items()
    }
    if not found:
        raise InputError(
            "holds no .tsv of cell types", path=path, fix="name the files <section>-proportion.tsv"
        )
    return found


def _proportions(text: bytes, name: str, path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.BytesIO(text), sep="\t", index_col=0)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name} cannot be read as a table ({error})", path=path, fix="give TSV"
        ) from error
    numbers = table.apply(pd.to_numeric, errors="coerce")
    if numbers.isna().to_numpy().any() or not numbers.size or table.index.has_duplicates:
        raise InputError(
            f"{name} repeats a spot, or holds no or not only numbers",
            path=path,
            fix="give a row a spot and a column a cell type",
        )
    return numbers.set_axis(table.index.astype(str), axis=0)


def section_table(name: str, path: Path, types: pd.DataFrame) -> pd.DataFrame:
    """One row a cell type and gene seen in at least 20 % of the spots: r, p and q, predicted and measured."""
    spots = anndata.read_h5ad(path)
    missing = [
        key
        for key in _NEEDED
        if not any(key in part for part in (spots.obs, spots.obsm, spots.layers, spots.var))
    ]
    if missing:
        raise InputError(
            f"has no {', '.join(missing)}", path=path, fix="give predictions of tcgn-mil spot-cv"
        )
    known = np.isfinite(np.asarray(spots.layers["truth"])).all(axis=1) & spots.obs_names.isin(
        types.index
    )
    spots = spots[known, spots.var["detection"].to_numpy(float) >= DETECTION_FLOOR]
    if spots.n_obs < MIN_SPOTS or not spots.n_vars:
        raise InputError(
            f"section {name}: {spots.n_obs} spots with cell types, {spots.n_vars} genes seen in them",
            path=path,
            fix="give cell types of the same spots, named alike",
        )
    test = SpatialTest(
        np.asarray(spots.obsm["spatial"]), np.log(spots.obs["total_counts"].to_numpy(float))
    )
    shares = types.loc[spots.obs_names]
    rows = []
    for kind in shares.columns:
        share = np.broadcast_to(shares[kind].to_numpy(float)[:, None], spots.shape)
        row: dict[str, Any] = {
            "section": name,
            "cell_type": kind,
            "gene": list(spots.var_names),
            "n": spots.n_obs,
        }
        for source, values in (("predicted", spots.X), ("measured", spots.layers["truth"])):
            found = test(share, np.asarray(values))
            row |= {f"r_{source}": found.r, f"p_{source}": 2 * np.minimum(found.p, 1 - found.p)}
        rows.append(pd.DataFrame(row))
    table = pd.concat(rows, ignore_index=True)
    for source in ("predicted", "measured"):
        table[f"q_{source}"] = benjamini_hochberg(table[f"p_{source}"].to_numpy())
    return table


def summarise_cell_types(table: pd.DataFrame) -> pd.DataFrame:
    """One row a section and cell type: genes that follow it, and whether predicted ones are those of the measurement.

    ``agreement`` is Spearman r over genes of the predicted and the measured r.
    """
    rows = []
    for (section, kind), part in table.groupby(["section", "cell_type"], sort=False):
        sure = {source: part[f"q_{source}"] < SIGNIFICANT for source in ("predicted", "measured")}
        alike = np.sign(part["r_predicted"]) == np.sign(part["r_measured"])
        both = part[["r_predicted", "r_measured"]].dropna().to_numpy()
        rows.append(
            {
                "section": section,
                "cell_type": kind,
                "genes": len(part),
                "predicted": int(sure["predicted"].sum()),
                "measured": int(sure["measured"].sum()),
                "both": int((sure["predicted"] & sure["measured"] & alike).sum()),
                "agreement": _agreement(both),
                "top": ";".join(part.nlargest(_TOP_GENES, "r_predicted")["gene"]),
            }
        )
    return pd.DataFrame(rows)


def _agreement(both: NDArray[np.float64]) -> float:
    return float(spearman(both[:, :1], both[:, 1:])[0]) if len(both) else float("nan")


def _draw(table: pd.DataFrame, path: Path) -> None:
    """Mean r over sections of the genes that follow each cell type most, predicted beside measured."""
    columns = ["r_predicted", "r_measured"]
    mean = table.groupby(["gene", "cell_type"], sort=False)[columns].mean()
    wide: Mapping[str, pd.DataFrame] = {column: mean[column].unstack() for column in columns}
    first = wide["r_predicted"].dropna()
    genes = list(
        dict.fromkeys(gene for kind in first for gene in first[kind].nlargest(_TOP_GENES).index)
    )
    figure, axes = plt.subplots(
        1,
        2,
        figsize=(3.2 + 0.9 * first.shape[1], 1.8 + 0.2 * len(genes)),
        sharey=True,
        layout="constrained",
    )
    most = float(np.nanmax([np.abs(one.loc[genes]).to_numpy().max() for one in wide.values()]))
    for axis, (column, values) in zip(axes, wide.items(), strict=True):
        shown = values.loc[genes]
        association_figures.heatmap(figure, axis, shown, shown * np.nan, ("RdBu_r", -most, most))
        axis.set_title(column.removeprefix("r_"), fontsize=9)
    figure.suptitle(
        f"depth-adjusted r with cell types, mean of {table['section'].nunique()} sections;"
        f" the {_TOP_GENES} genes that predictions tie most to each",
        fontsize=8,
    )
    plotting.save_figure(
        figure, path, mean.loc[mean.index.get_level_values(0).isin(genes)].reset_index()
    )
