"""Read raw counts and gene names from AnnData files (.h5ad) of spatial transcriptomics."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.preprocessing.sections.genes import (
    SectionGenes,
    are_counts,
    check_counts,
    name_counts,
)

_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl")
_SYMBOL_COLUMNS = (
    "symbol",
    "gene_symbol",
    "gene_symbols",
    "gene_name",
    "gene_names",
    "feature_name",
)
_COUNT_LAYERS = frozenset({"counts", "count", "raw", "raw_counts", "counts_raw", "umi", "umis"})
# A name that AnnData's var_names_make_unique made from a repeated one.
_REPEAT_MARK = re.compile(r"(.+)-\d+")


@contextmanager
def open_table(path: Path) -> Iterator[anndata.AnnData]:
    """Open an AnnData file, and leave its matrices on disk.

    Raises
    ------
    InputError
        If the file cannot be read, or turns out to be damaged while it is open.
    """
    again = "copy the file again"
    with warnings.catch_warnings():
        # Repeated names are an error of their own, where they matter.
        warnings.filterwarnings("ignore", message=".*names are not unique")
        table = open_anndata(
            path, what="AnnData file", missing_fix=again, broken_fix=again, backed=True
        )
    try:
        yield table
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(
            f"is damaged ({str(error)[:100]})", path=path, fix="copy the file again"
        ) from error
    finally:
        table.file.close()


def read_raw_counts(
    table: anndata.AnnData, rows: NDArray[np.int64], gene_ids: str, path: Path
) -> tuple[sparse.csr_matrix, SectionGenes, str | None]:
    """Read the raw counts of some spots.

    Analyses often overwrite X with normalised values and keep the counts in a layer or in raw. The
    first of X, a layer that is named as counts, and ``raw`` that holds whole numbers only is read.
    Other layers are not: spliced and unspliced counts, for example, are whole numbers of a part.

    Parameters
    ----------
    table
        AnnData with its matrices on disk.
    rows
        Rows of the S spots.
    gene_ids
        Name genes by ``symbol`` or by ``ensembl`` id.
    path
        The file, for messages.

    Returns
    -------
    counts : scipy.sparse.csr_matrix
        (S, G) raw counts.
    genes : SectionGenes
        Names of the G genes.
    note : str or None
        Message that is printed for the user, if the counts are not X.

    Raises
    ------
    InputError
        If none of the three holds counts.
    """
    spots = [str(name) for name in table.obs_names[rows]]
    places: dict[str, tuple[Callable[[], Any], pd.DataFrame]] = {"X": (lambda: table.X, table.var)}
    for name in sorted(table.layers, key=lambda name: (name != "counts", name)):
        if name.lower() in _COUNT_LAYERS:
            places[f"layers[{name!r}]"] = (partial(table.layers.__getitem__, name), table.var)
    if table.raw is not None:
        places["raw"] = (lambda: table.raw.X, table.raw.var)
    place, (values, var) = _first_counts(places, rows)
    genes = [str(name) for name in var.index]
    matrix = check_counts(values, spots, genes, path=path)
    ids, symbols = _gene_names(var)
    types = var["feature_types"].astype(str).tolist() if "feature_types" in var else None
    counts, named = name_counts(matrix, ids, symbols, types=types, by=gene_ids, path=path)
    note = None if place == "X" else f"X holds no counts: they were taken from {place}"
    return counts, named, note


def _first_counts(
    places: Mapping[str, tuple[Callable[[], Any], pd.DataFrame]], rows: NDArray[np.int64]
) -> tuple[str, tuple[sparse.csr_matrix, pd.DataFrame]]:
    """Return the first place that holds whole numbers only.

    If there is none, X is returned, and the check of counts then names its first wrong value.
    """
    first = None
    for place, (stored, var) in places.items():
        values = _take_rows(stored(), rows)
        if are_counts(values.data).all():
            return place, (values, var)
        first = first or (place, (values, var))
    assert first is not None
    return first


def _take_rows(stored: Any, rows: NDArray[np.int64]) -> sparse.csr_matrix:
    """Read rows of a matrix on disk; only those rows, unless it is stored by columns."""
    chosen = stored[:] if getattr(stored, "format", "csr") == "csc" else stored[rows]
    chosen = chosen[rows] if len(rows) != chosen.shape[0] else chosen
    return sparse.csr_matrix(chosen)


def _gene_names(var: pd.DataFrame) -> tuple[list[str], list[str] | None]:
    """Return ids and symbols of the genes; symbols are None if the file has one kind of name.

    The names of var are ids if most of them are Ensembl ids. Otherwise they are symbols, and ids
    may be in a column. AnnData makes repeated symbols unique, so marks are removed.
    """
    own = [str(name) for name in var.index]
    if sum(map(is_ensembl, own)) > len(own) / 2:
        column = next((name for name in _SYMBOL_COLUMNS if name in var), None)
        if column is None:
            return own, None
        return own, var[column].astype(object).where(var[column].notna(), "").tolist()
    column = next((name for name in _ID_COLUMNS if name in var), None)
    if column is None:
        return own, None
    return var[column].astype(str).tolist(), _without_marks(own)


def _without_marks(names: list[str]) -> list[str]:
    """Return symbols without the number that AnnData adds to a repeated one.

    GENE and GENE-1 are GENE twice, if there is a GENE. HLA-1 alone stays as it is.
    """
    present = set(names)
    marks = ((name, _REPEAT_MARK.fullmatch(name)) for name in names)
    return [mark[1] if mark is not None and mark[1] in present else name for name, mark in marks]
