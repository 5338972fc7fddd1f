"""Measured against predicted expression of a gene that the reader chooses, as data inside the page.

The page needs no network, so that it carries the values of every gene that it can draw: those of the shipped immune
sets first, then the others by r, as many as fit into a budget. Values are 16-bit steps over the gene's own range, which
no screen can tell from the stored ones.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.page import Scatter
from tcgn_mil.experiments.slide_level.evaluate import MODEL
from tcgn_mil.io.gene_list import read_gene_table
from tcgn_mil.signatures.gene_sets import load_gene_sets
from tcgn_mil.types.genes import canonical_gene

BUDGET_BYTES = 5 * 2**20  # of all scatters of a page
_STEPS, _UNKNOWN = 65534, 65535
_FACTS_BYTES = 260  # of a gene beside its points, at most
_BYTES_A_VALUE = 2 * 4 / 3  # 16 bits in base64


def read_scatter(
    run: Path, *, unit: str, stated: float, budget: float = BUDGET_BYTES
) -> Scatter | None:
    """Scatter data of a run of slide-cv, None where it kept no predictions or no gene has a measured value.

    Parameters
    ----------
    unit
        Of the values.
    stated
        What share of values the intervals should hold.
    budget
        Bytes that the data may take.

    Raises
    ------
    InputError
        If the predictions are damaged.
    """
    path, table = run / "out_of_fold.h5ad", run / "genes.csv"
    if not (path.is_file() and table.is_file()):
        return None
    try:
        with h5py.File(path) as file:
            predicted, truth = file["X"][:], file["layers/truth"][:]
            genes, patients = list(read_elem(file["var"]).index), list(read_elem(file["obs"]).index)
    except (OSError, KeyError) as error:
        raise InputError(
            f"cannot be read ({error})", path=path, fix="run slide-cv again into a new folder"
        ) from error
    facts = read_gene_table(table).reindex(genes)
    drawn = _chosen(facts, np.isfinite(predicted) & np.isfinite(truth), budget)
    if not drawn:
        return None
    rows = [
        _gene(genes[column], facts.iloc[column], truth[:, column], predicted[:, column])
        for column in drawn
    ]
    best = max(rows, key=lambda row: -np.inf if row["r"] is None else row["r"])
    data = {
        "unit": unit,
        "stated": stated,
        "patients": patients,
        "genes": rows,
        "first": best["gene"],
    }
    return Scatter(len(rows), len(genes), data)


def _chosen(facts: pd.DataFrame, known: NDArray[np.bool_], budget: float) -> Sequence[int]:
    """Columns to keep, in the order of the genes' names."""
    immune = {canonical_gene(gene) for one in load_gene_sets().values() for gene in one.genes}
    r = facts[f"r_{MODEL}"].fillna(facts[f"pooled_r_{MODEL}"]).fillna(-1).to_numpy(float)
    first = np.array([canonical_gene(str(gene)) in immune for gene in facts.index])
    order = [column for column in np.lexsort((-r, ~first)) if known[:, column].any()]
    most = int(budget / (2 * _BYTES_A_VALUE * len(known) + _FACTS_BYTES))
    return sorted(order[:most], key=lambda column: str(facts.index[column]))


def _gene(
    name: str, facts: pd.Series, measured: NDArray[np.floating], predicted: NDArray[np.floating]
) -> dict:
    columns = {
        "r": f"r_{MODEL}",
        "low": f"low_{MODEL}",
        "high": f"high_{MODEL}",
        "q": f"q_{MODEL}",
        "pooled": f"pooled_r_{MODEL}",
        "half": "interval_half_width",
        "inside": "interval_coverage",
    }
    said = {key: _rounded(facts.get(column)) for key, column in columns.items()}
    return {
        "gene": name,
        **said,
        "predictable": bool(facts.get("predictable", False)),
        "x": _packed(measured),
        "y": _packed(predicted),
    }


def _rounded(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.3g}")


def _packed(values: NDArray[np.floating]) -> list[Any]:
    """Least and largest value, and all values as steps between them: little-endian 16-bit numbers in base64."""
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    low, high = float(values[known].min()), float(values[known].max())
    steps = np.full(len(values), _UNKNOWN, dtype="<u2")
    steps[known] = np.round((values[known] - low) / max(high - low, 1e-12) * _STEPS)
    return [
        float(f"{low:.6g}"),
        float(f"{high:.6g}"),
        base64.b64encode(steps.tobytes()).decode("ascii"),
    ]
