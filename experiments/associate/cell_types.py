"""Relate predicted genes to deconvolved cell types, spot by spot within each section.

This is ``tcgn-mil associate --spots``. r is computed after sequencing depth has been regressed out.
p is two-sided and comes from the modified t-test, which allows for spatial autocorrelation
(:class:`tcgn_mil.statistics.spatial.SpatialTest`). Sections of one patient are not independent
samples. Each section therefore has a test of its own; over sections there are a mean and a count,
but no p-value.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil import plotting
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.config import FILES, KIND, AssociationConfig
from tcgn_mil.experiments.associate.figures import SIGNIFICANT, draw_heatmap
from tcgn_mil.experiments.runs.inputs import begin_again, existing
from tcgn_mil.experiments.runs.run_folder import finish_run
from tcgn_mil.file_formats.archive import check_archive
from tcgn_mil.file_formats.reading import describe_damage, reads
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.io.atomic import plain_rows, write_csv
from tcgn_mil.progress import tell
from tcgn_mil.statistics.gene_metrics import spearman
from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.statistics.sequencing_depth import DETECTION_FLOOR
from tcgn_mil.statistics.spatial import MIN_SPOTS, SpatialTest

_TOP_GENES = 4
_PREFIX, _NEEDED = "predicted_", ("total_counts", "spatial", "truth", "detection")


def associate_cell_types(config: AssociationConfig, out_dir: str | Path) -> dict[str, Any]:
    """Test every gene against every cell type, section by section.

    Writes ``cell_types.csv`` (one row for each section, cell type and gene),
    ``cell_type_summary.csv`` and ``cell_types.png``.

    Parameters
    ----------
    config
        Predictions (``spots``) and proportions of cell types (``cell_types``).
    out_dir
        Folder for the two tables and the figure.

    Returns
    -------
    dict
        Sections, numbers of spots, and the summary by cell type.

    Raises
    ------
    InputError
        If there are no predictions or cell types, or if no section has enough spots with both.
    """
    assert config.spots is not None
    if config.cell_types is None:
        raise InputError(
            "--spots is given without the cell types of the spots", fix="give --cell-types"
        )
    sections = find_predictions(config.spots)
    types = read_cell_types(config.cell_types)
    shared = {name: path for name, path in sections.items() if name in types}
    if not shared:
        raise InputError(
            f"has cell types of {', '.join([*types][:8])}, but of no section of the predictions"
            f" ({', '.join(sections)})",
            path=config.cell_types,
            fix="name the files <section>-proportion.tsv after these sections",
        )
    out_dir, notes = begin_again(out_dir, KIND, config, existing(config, FILES))
    for note in notes:
        tell(note)
    parts = [section_table(name, path, types[name]) for name, path in shared.items()]
    table = pd.concat(parts, ignore_index=True)
    summary = summarise_cell_types(table)
    write_csv(out_dir / "cell_types.csv", table)
    write_csv(out_dir / "cell_type_summary.csv", summary)
    draw_cell_types(table, out_dir / "cell_types.png")
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
    """Return the file of predictions of each section.

    Parameters
    ----------
    path
        Folder of a run of ``spot-cv``, folder of such files, or one file.
    """
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


@reads("cell types", fix="check the file, and copy it again")
def read_cell_types(path: str | Path) -> dict[str, pd.DataFrame]:
    """Read cell-type proportions.

    Parameters
    ----------
    path
        ZIP file or folder of ``<section>-proportion.tsv``, or one such file.

    Returns
    -------
    dict
        Table of spots by cell types for each section.

    Raises
    ------
    InputError
        If there is no such file, or if a table repeats a spot or holds anything but numbers.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            "no such file or folder of cell types",
            path=path,
            fix="check the path given with --cell-types",
        )
    if path.suffix == ".zip":
        with (
            describe_damage(path, what="ZIP", fix="copy the file again"),
            zipfile.ZipFile(path) as archive,
        ):
            check_archive(archive, path)
            texts = {
                name: archive.read(name) for name in archive.namelist() if name.endswith(".tsv")
            }
    else:
        files = [path] if path.is_file() else sorted(path.glob("*.tsv"))
        texts = {file.name: file.read_bytes() for file in files}
    tables = {
        Path(name).stem.removesuffix("-proportion"): _proportions(text, name, path)
        for name, text in texts.items()
    }
    if not tables:
        raise InputError(
            "holds no .tsv file of cell types",
            path=path,
            fix="name the files <section>-proportion.tsv",
        )
    return tables


def _proportions(text: bytes, name: str, path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.BytesIO(text), sep="\t", index_col=0)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name} cannot be read as a table ({error})",
            path=path,
            fix="save it as text with tabs between the columns",
        ) from error
    # Text becomes NaN here, and NaN is refused below.
    numbers = table.apply(pd.to_numeric, errors="coerce")
    if numbers.isna().to_numpy().any() or not numbers.size or table.index.has_duplicates:
        raise InputError(
            f"{name} repeats a spot, is empty, or holds something else than numbers",
            path=path,
            fix="give the table one row for each spot and one column for each cell type",
        )
    return numbers.set_axis(table.index.astype(str), axis=0)


def section_table(name: str, path: Path, types: pd.DataFrame) -> pd.DataFrame:
    """Test the genes of one section against its cell types.

    Returns
    -------
    DataFrame
        One row for each cell type and each gene that is seen in at least 20 % of the spots, with r,
        p and q of the predicted and of the measured values.
    """
    again = "run tcgn-mil spot-cv again"
    spots = open_anndata(path, what="predicted spots", missing_fix=again, broken_fix=again)
    missing = [
        key
        for key in _NEEDED
        if not any(key in part for part in (spots.obs, spots.obsm, spots.layers, spots.var))
    ]
    if missing:
        raise InputError(
            f"has no {', '.join(missing)}",
            path=path,
            fix="give --spots the folder that tcgn-mil spot-cv wrote",
        )
    # Spots need a value and cell types. Genes that are seen in few spots are not tested.
    usable = np.isfinite(np.asarray(spots.layers["truth"])).all(axis=1) & spots.obs_names.isin(
        types.index
    )
    spots = spots[usable, spots.var["detection"].to_numpy(float) >= DETECTION_FLOOR]
    if spots.n_obs < MIN_SPOTS or not spots.n_vars:
        raise InputError(
            f"section {name}: {spots.n_obs} spots have cell types and {spots.n_vars} genes are seen"
            f" in enough of them, but at least {MIN_SPOTS} spots and a gene are needed",
            path=path,
            fix="give cell types of the same spots, with the same names",
        )
    test = SpatialTest(
        np.asarray(spots.obsm["spatial"]), np.log(spots.obs["total_counts"].to_numpy(float))
    )
    # The covariance of the test depends on positions and depth only, so that one SpatialTest serves
    # all genes and cell types of a section.
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
            result = test(share, np.asarray(values))
            # The test is one-sided (r > 0); the smaller tail is doubled.
            p = 2 * np.minimum(result.p, 1 - result.p)
            row |= {f"r_{source}": result.r, f"p_{source}": p}
        rows.append(pd.DataFrame(row))
    table = pd.concat(rows, ignore_index=True)
    for source in ("predicted", "measured"):
        table[f"q_{source}"] = benjamini_hochberg(table[f"p_{source}"].to_numpy())
    return table


def summarise_cell_types(table: pd.DataFrame) -> pd.DataFrame:
    """Count the genes that follow each cell type, and compare predicted with measured values.

    Returns
    -------
    DataFrame
        One row for each section and cell type. ``both`` counts genes that follow the cell type with
        the same sign in predicted and measured values. ``agreement`` is the Spearman correlation,
        over genes, of the predicted with the measured r.
    """
    rows = []
    for (section, kind), part in table.groupby(["section", "cell_type"], sort=False):
        significant = {
            source: part[f"q_{source}"] < SIGNIFICANT for source in ("predicted", "measured")
        }
        # A gene that follows a cell type with opposite signs in the two is not an agreement.
        alike = np.sign(part["r_predicted"]) == np.sign(part["r_measured"])
        both = part[["r_predicted", "r_measured"]].dropna().to_numpy()
        rows.append(
            {
                "section": section,
                "cell_type": kind,
                "genes": len(part),
                "predicted": int(significant["predicted"].sum()),
                "measured": int(significant["measured"].sum()),
                "both": int((significant["predicted"] & significant["measured"] & alike).sum()),
                "agreement": _agreement(both),
                "top": ";".join(part.nlargest(_TOP_GENES, "r_predicted")["gene"]),
            }
        )
    return pd.DataFrame(rows)


def _agreement(both: NDArray[np.float64]) -> float:
    return float(spearman(both[:, :1], both[:, 1:])[0]) if len(both) else float("nan")


@plotting.styled
def draw_cell_types(table: pd.DataFrame, path: Path) -> None:
    """Draw mean r over sections of the genes that follow each cell type most.

    Predicted values are on the left and measured values on the right.
    """
    columns = ["r_predicted", "r_measured"]
    # Over sections there is a mean and no p-value: sections of a patient are not independent.
    mean = table.groupby(["gene", "cell_type"], sort=False)[columns].mean()
    wide: Mapping[str, pd.DataFrame] = {column: mean[column].unstack() for column in columns}
    # Only genes that have an r for every cell type can be compared across the columns.
    first = wide["r_predicted"].dropna()
    genes = list(
        dict.fromkeys(gene for kind in first for gene in first[kind].nlargest(_TOP_GENES).index)
    )
    wanted = 2.4 + 0.7 * first.shape[1]
    figure, axes = plotting.subplots(
        1,
        2,
        width=float(np.clip(wanted, plotting.ONE_COLUMN, plotting.TWO_COLUMNS)),
        height=1.6 + 0.17 * len(genes),
        sharey=True,
    )
    most = float(np.nanmax([np.abs(r.loc[genes]).to_numpy().max() for r in wide.values()]))
    for axis, (column, values) in zip(axes, wide.items(), strict=True):
        shown = values.loc[genes]
        label = "depth-adjusted r" if column == "r_measured" else ""
        draw_heatmap(figure, axis, shown, shown * np.nan, ("RdBu_r", -most, most), label=label)
        axis.set_title(column.removeprefix("r_"))
    figure.suptitle(
        f"r with cell types, mean of n = {table['section'].nunique()} sections;\n"
        f"the {_TOP_GENES} genes that predictions tie most to each"
    )
    plotting.save_figure(
        figure, path, mean.loc[mean.index.get_level_values(0).isin(genes)].reset_index()
    )
