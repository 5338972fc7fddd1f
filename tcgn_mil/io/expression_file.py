"""Read and write expression of patients: predictions, and measured values of any tool."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.anndata_file import META_KEY, open_anndata, stored_meta, write_anndata
from tcgn_mil.io.atomic import without_nan
from tcgn_mil.io.cohort_file import KIND as COHORT
from tcgn_mil.io.cohort_file import specimens_of
from tcgn_mil.io.tables.patient_table import check_named, read_patient_table
from tcgn_mil.patient_rows import choose_rows
from tcgn_mil.provenance import provenance
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.genes import GenePanel

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class PatientExpression:
    """Expression of M patients and G genes, as a file states it.

    Attributes
    ----------
    path
        The file.
    patients
        M names, all different.
    genes
        G names, all different.
    values
        (M, G) float64; NaN is a missing value.
    unit
        Unit of `values`; empty if the file does not state it.
    folds
        (M,) int64. Number of the fold that predicted each patient, for out-of-fold predictions.
        None if the file has no folds.
    truth
        (M, G) float64. Measured values that are stored beside predictions; None if there are none.
    predictable
        (G,) bool. Genes that passed the criterion (docs/protocol.md, section Predictable genes).
        None if the file does not state it.
    r
        (G,) float64. Pearson correlation of each gene in cross-validation. None if the file does
        not state it.
    relation
        Relation of each patient to the models, ``out of fold`` or ``trained on``. Empty if the file
        does not state it.
    is_cohort
        True if the file is a cohort.h5ad, whose values are measured and not predicted.
    notes
        Sentences about rows that were left out, for the user.
    specimens
        Sample type and other facts about the tissue, indexed by patient. None if the file is no
        cohort.
    """

    path: Path
    patients: tuple[str, ...]
    genes: tuple[str, ...]
    values: NDArray[np.float64]
    unit: str = ""
    folds: NDArray[np.int64] | None = None
    truth: NDArray[np.float64] | None = None
    predictable: NDArray[np.bool_] | None = None
    r: NDArray[np.float64] | None = None
    relation: tuple[str, ...] = ()
    is_cohort: bool = False
    notes: tuple[str, ...] = ()
    specimens: pd.DataFrame | None = None


@reads("expression of patients", fix="make the file again, or check its values")
def read_expression(path: str | Path) -> PatientExpression:
    """Read expression of patients.

    Parameters
    ----------
    path
        An .h5ad file with patients as observations, or a table whose first column names the
        patients and whose other columns are genes: CSV or TSV (also .gz or .zip), or Parquet. Names
        of samples are read as in :func:`~tcgn_mil.patient_rows.one_row_per_patient`.

    Returns
    -------
    PatientExpression

    Raises
    ------
    InputError
        If the file is missing or unreadable, has rows of one patient that differ, repeats a gene,
        or has text or an infinite value among the numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file of expression", path=path, fix="check the path")
    return _from_anndata(path) if path.suffix == ".h5ad" else _from_table(path)


def _from_anndata(path: Path) -> PatientExpression:
    data = open_anndata(
        path,
        what="file of expression",
        missing_fix="check the path",
        broken_fix="make the file again",
    )
    genes = tuple(map(str, data.var_names))
    check_named(tuple(map(str, data.obs_names)), path)
    _check_genes(genes, path)
    values = _dense(data.X, path)
    chosen = choose_rows(
        list(map(str, data.obs_names)),
        lambda first, second: np.array_equal(values[first], values[second], equal_nan=True),
        path,
    )
    data, values, patients = data[chosen.rows], values[chosen.rows], tuple(chosen.patients)
    folds = None
    if "fold" in data.obs:
        folds = data.obs["fold"].astype("category").cat.codes.to_numpy(np.int64)
        if (folds < 0).any():  # the code of a missing value is -1
            raise InputError(
                f"obs: patient {patients[int(np.argmin(folds))]} has no fold",
                path=path,
                fix="write the number of this patient's fold in obs['fold']",
            )
    truth = _dense(data.layers["truth"], path) if "truth" in data.layers else None
    for matrix in (values, truth):
        if matrix is not None:
            _check_finite(matrix, patients, genes, path)
    meta = stored_meta(data)
    return PatientExpression(
        path,
        patients,
        genes,
        values,
        unit=str(meta.get("unit", "")),
        folds=folds,
        truth=truth,
        predictable=data.var["predictable"].to_numpy(bool) if "predictable" in data.var else None,
        r=data.var["r_model"].to_numpy(float) if "r_model" in data.var else None,
        relation=tuple(data.obs["relation"].astype(str)) if "relation" in data.obs else (),
        is_cohort=meta.get("kind") == COHORT,
        notes=chosen.notes,
        specimens=specimens_of(data.obs).set_axis(list(patients), axis=0)
        if meta.get("kind") == COHORT
        else None,
    )


def _dense(matrix: Any, path: Path) -> NDArray[np.float64]:
    if matrix is None:
        raise InputError("has no X", path=path, fix="store the expression in X")
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)


def _from_table(path: Path) -> PatientExpression:
    import pandas as pd

    table, notes = read_patient_table(path)
    patients, genes = tuple(table.index), tuple(map(str, table.columns))
    _check_genes(genes, path)
    text = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    for name in text:
        numbers = pd.to_numeric(table[name], errors="coerce")
        not_number = (numbers.isna() & table[name].notna()).to_numpy()
        if not_number.any():
            row = int(np.argmax(not_number))
            raise InputError(
                f"column {name}, patient {patients[row]}: {str(table[name].iloc[row])[:60]!r} is"
                " not a number",
                path=path,
                fix="remove the columns that are not genes; only the first column may hold text",
            )
        table[name] = numbers
    values = table.to_numpy(dtype=np.float64)
    _check_finite(values, patients, genes, path)
    return PatientExpression(path, patients, genes, values, notes=notes)


def _check_genes(genes: Sequence[str], path: Path) -> None:
    if repeated := duplicates(genes):
        raise InputError(
            f"gene {preview(repeated)} has several columns",
            path=path,
            fix="keep one column for each gene",
        )


def _check_finite(
    values: NDArray[np.float64], patients: Sequence[str], genes: Sequence[str], path: Path
) -> None:
    rows, columns = np.nonzero(np.isinf(values))
    if rows.size:
        raise InputError(
            f"gene {genes[columns[0]]} of patient {patients[rows[0]]} is infinite",
            path=path,
            fix="add an offset before the logarithm, or leave the value empty",
        )


def write_predictions(
    path: str | Path,
    predicted: np.ndarray,
    obs: pd.DataFrame,
    panel: GenePanel,
    *,
    unit: str,
    layers: dict[str, np.ndarray] | None = None,
    var: pd.DataFrame | None = None,
    obsm: dict[str, np.ndarray] | None = None,
    **made_by: Any,
) -> None:
    """Write predicted expression as .h5ad, which :func:`read_expression` reads.

    The parameters are those of :func:`prediction_data`, after the path of the file.
    """
    adata = prediction_data(
        predicted, obs, panel, unit=unit, layers=layers, var=var, obsm=obsm, **made_by
    )
    write_anndata(path, adata)


def prediction_data(
    predicted: np.ndarray,
    obs: pd.DataFrame,
    panel: GenePanel,
    *,
    unit: str,
    layers: dict[str, np.ndarray] | None = None,
    var: pd.DataFrame | None = None,
    obsm: dict[str, np.ndarray] | None = None,
    **made_by: Any,
) -> AnnData:
    """Collect predicted expression with what is known of its rows and genes.

    Parameters
    ----------
    predicted
        (M, G). Stored in ``X`` as float32.
    obs
        One row for each patient, or for each spot.
    panel
        The G genes. The hash of the panel is stored in the data.
    unit
        Unit of `predicted`.
    layers
        Further (M, G) arrays: ``truth`` (measured values) or ``sd`` (standard deviation).
    var
        One row for each gene. None for a table without columns.
    obsm
        Further arrays with M rows, for example ``spatial``.
    **made_by
        Values to add to the provenance, which is stored as JSON in ``uns["tcgn_mil"]``.
    """
    import anndata
    import pandas as pd

    gene_table = pd.DataFrame(index=pd.Index(panel.genes, name="gene")) if var is None else var
    adata = anndata.AnnData(X=predicted.astype(np.float32), obs=obs, var=gene_table)
    for name, values in (layers or {}).items():
        adata.layers[name] = values.astype(np.float32)
    for name, values in (obsm or {}).items():
        adata.obsm[name] = values
    adata.uns[META_KEY] = json.dumps(
        without_nan(provenance(unit=unit, panel_hash=panel.hash, **made_by)),
        default=str,
        allow_nan=False,
    )
    return adata
