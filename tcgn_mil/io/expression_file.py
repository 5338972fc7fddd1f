"""Tables with a row a patient, of this package or anybody else's: expression (h5ad, CSV, Parquet) and covariates.

The first column names the patients, each once. Values are checked here, so that analyses need not.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.io.cohort_file import KIND as COHORT
from tcgn_mil.provenance import provenance
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.genes import GenePanel

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


_SEPARATORS = "\t;,"
_UNKNOWN = ("nan", "na", "n/a", "none", "null", "[not available]", "not reported")


@dataclass(frozen=True, eq=False)
class PatientExpression:
    """Expression of M patients.

    Attributes
    ----------
    path
        The file.
    patients, genes
        Names, each once.
    values
        (M, G) float64, NaN where missing.
    unit
        As the file states it; empty where it does not.
    folds
        (M,) number of each patient's fold, for predictions out of fold; None where there are none.
    truth
        (M, G) measured values that came with the predictions, or None.
    predictable
        (G,) bool, or None where the file does not say.
    r
        (G,) how well each gene was predicted in cross-validation, or None where the file does not say.
    relation
        Patients by their relation to the models (``out of fold``, ``trained on``); empty where the file does not say.
    is_cohort
        Whether the file is a cohort.h5ad: measured values, not predictions.
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


def read_expression(path: str | Path) -> PatientExpression:
    """Read a patients x genes file: ``.h5ad``, ``.parquet``, or CSV or TSV (also ``.gz``, ``.zip``).

    Raises
    ------
    InputError
        If it is missing or unreadable, repeats a patient or a gene, or holds text or infinities among the values,
        naming the cell.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file of expression", path=path, fix="check the path")
    return _from_anndata(path) if path.suffix == ".h5ad" else _from_table(path)


def _from_anndata(path: Path) -> PatientExpression:
    import anndata

    try:
        data = anndata.read_h5ad(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"cannot be read as AnnData ({error})", path=path, fix="make it again"
        ) from error
    patients, genes = tuple(map(str, data.obs_names)), tuple(map(str, data.var_names))
    _check_names(patients, genes, path)
    folds = (
        data.obs["fold"].astype("category").cat.codes.to_numpy(np.int64)
        if "fold" in data.obs
        else None
    )
    if folds is not None and (folds < 0).any():
        raise InputError(
            f"obs: patient {patients[int(np.argmin(folds))]} has no fold",
            path=path,
            fix="name its fold",
        )
    predictable = data.var["predictable"].to_numpy(bool) if "predictable" in data.var else None
    truth = _dense(data.layers["truth"], path) if "truth" in data.layers else None
    r = data.var["r_model"].to_numpy(float) if "r_model" in data.var else None
    relation = tuple(data.obs["relation"].astype(str)) if "relation" in data.obs else ()
    values = _dense(data.X, path)
    for part in (values, truth):
        if part is not None:
            _check_finite(part, patients, genes, path)
    meta = _meta(data)
    return PatientExpression(
        path,
        patients,
        genes,
        values,
        str(meta.get("unit", "")),
        folds,
        truth,
        predictable,
        r,
        relation,
        meta.get("kind") == COHORT,
    )


def _meta(data: AnnData) -> dict[str, Any]:
    try:
        found = json.loads(str(data.uns.get("tcgn_mil", "{}")))
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _dense(matrix: Any, path: Path) -> NDArray[np.float64]:
    if matrix is None:
        raise InputError("has no X", path=path, fix="store expression in X")
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)


def _from_table(path: Path) -> PatientExpression:
    import pandas as pd

    table = _read_table(path)
    patients, genes = tuple(table.index), tuple(map(str, table.columns))
    _check_names(patients, genes, path)
    text = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    for name in text:
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = (numbers.isna() & table[name].notna()).to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"column {name}, patient {patients[row]}: {str(table[name].iloc[row])[:60]!r} is no number",
                path=path,
                fix="all columns but the first are genes; remove those that are not",
            )
        table[name] = numbers
    values = table.to_numpy(dtype=np.float64)
    _check_finite(values, patients, genes, path)
    return PatientExpression(path, patients, genes, values)


def _read_table(path: Path) -> pd.DataFrame:
    """Any table, its first column as text for index; patients checked."""
    import pandas as pd

    if not path.is_file():
        raise InputError("no such table", path=path, fix="check the path")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            table = table.reset_index() if table.index.name is not None else table
        else:
            table = _read_text(path)
    except InputError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"cannot be read as a table ({str(error).splitlines()[0][:200]})",
            path=path,
            fix="give CSV, TSV or Parquet",
        ) from error
    if table.shape[1] < 2 or not len(table):
        raise InputError(
            "holds no values", path=path, fix="give a row a patient: name first, then values"
        )
    names = table.iloc[:, 0]
    table = table.iloc[:, 1:].set_axis(
        names.where(names.notna(), "").astype(str).str.strip(), axis=0
    )
    _check_patients(tuple(table.index), path)
    return table


def _read_text(path: Path) -> pd.DataFrame:
    """A delimited table; repeated column names, which pandas renames, are refused."""
    import pandas as pd

    first = pd.read_csv(
        path,
        sep="\x01",
        header=None,
        nrows=1,
        quoting=csv.QUOTE_NONE,
        encoding="utf-8-sig",
        dtype=str,
    )
    line = str(first.iloc[0, 0])
    separator = max(_SEPARATORS, key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    if repeated := duplicates(names):
        raise InputError(
            f"column {preview(repeated)} stands twice", path=path, fix="rename or remove one"
        )
    names[0] = names[0] or "patient"
    return pd.read_csv(
        path,
        sep=separator,
        encoding="utf-8-sig",
        header=0,
        names=names,
        dtype={names[0]: str},
        low_memory=False,
    )


def _check_patients(patients: Sequence[str], path: Path) -> None:
    if "" in patients:
        raise InputError(
            f"row {patients.index('') + 2} names no patient", path=path, fix="name it, or remove it"
        )
    if repeated := duplicates(patients):
        raise InputError(
            f"patient {preview(repeated)} stands in several rows",
            path=path,
            fix="the first column names the patient; keep one row each, or average them",
        )


def _check_names(patients: Sequence[str], genes: Sequence[str], path: Path) -> None:
    _check_patients(patients, path)
    if repeated := duplicates(genes):
        raise InputError(
            f"gene {preview(repeated)} stands in several columns", path=path, fix="keep one of each"
        )


def _check_finite(
    values: NDArray[np.float64], patients: Sequence[str], genes: Sequence[str], path: Path
) -> None:
    rows, columns = np.nonzero(np.isinf(values))
    if rows.size:
        raise InputError(
            f"patient {patients[rows[0]]}, gene {genes[columns[0]]}: infinite",
            path=path,
            fix="add an offset before the logarithm, or leave it empty",
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
    """Write predictions (M, G) with their unit, panel hash and provenance.

    ``X`` predicted, ``layers`` truth or sd (M, G), ``obs`` one row a patient (or spot), ``var`` one row a gene;
    ``uns["tcgn_mil"]`` is JSON.
    """
    table = pd.DataFrame(index=pd.Index(panel.genes, name="gene")) if var is None else var
    adata = anndata.AnnData(X=predicted.astype(np.float32), obs=obs, var=table)
    for name, values in (layers or {}).items():
        adata.layers[name] = values.astype(np.float32)
    for name, values in (obsm or {}).items():
        adata.obsm[name] = values
    adata.uns["tcgn_mil"] = json.dumps(
        provenance(unit=unit, panel_hash=panel.hash, **made_by), default=str
    )
    with atomic_path(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip")


def read_gene_list(path: str | Path) -> GenePanel:
    """One gene id a line; blank lines and lines that start with # are skipped."""
    path = Path(path)
    if not path.is_file():
        raise InputError("no such gene list", path=path, fix="check the path")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError("is not a text file", path=path, fix="give one gene id a line") from error
    return GenePanel(tuple(line for line in lines if line and not line.startswith("#")))


def read_gene_table(path: str | Path) -> pd.DataFrame:
    """A table with a column ``gene``, as its index; names stay text, be they numbers or NA."""
    return pd.read_csv(path, converters={"gene": str}).set_index("gene")
