"""Small labelled tables as CSV, and predictions as AnnData."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path, provenance
from tcgn_mil.types.tiles import GenePanel


def write_csv(path: str | Path, table: pd.DataFrame, *, index: bool = False) -> None:
    """Write a table atomically; numbers with 6 significant digits."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=index, float_format="%.6g")


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


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts of plain values, None where there is no answer, for JSON."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]


def write_array(path: str | Path, values: np.ndarray) -> None:
    """Write an array as .npy, atomically."""
    with atomic_path(path) as temporary, Path(temporary).open("wb") as file:
        np.save(file, values, allow_pickle=False)


def read_array(path: str | Path) -> np.ndarray:
    """Read an array of :func:`write_array`.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"cannot be read ({error})", path=path, fix="remove it and run again"
        ) from error
