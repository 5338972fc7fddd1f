"""Prepare the scatter plot of measured against predicted expression of a gene the reader chooses.

The page needs no network, so that it holds the values of every gene that it can draw: first the
genes of the shipped immune sets, then the others by r, as many as fit into a budget. Each value is
stored as one of 65,535 steps over the range of its gene, which is finer than a screen can show.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray

from tcgn_mil.experiments.runs.page import Scatter
from tcgn_mil.experiments.slide_level.evaluate import MODEL
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.io.gene_list import read_gene_table
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.signatures.gene_sets import load_gene_sets
from tcgn_mil.types.genes import canonical_gene

# Room for the data of all scatter plots of a page.
BUDGET_BYTES = 5 * 2**20
_STEPS, _UNKNOWN = 65534, 65535
# The most that a gene takes beside its points, and what a value of 16 bits takes in base64.
_FACTS_BYTES = 260
_BYTES_PER_VALUE = 2 * 4 / 3


def read_scatter(
    run: Path, *, unit: str, stated_coverage: float, budget: float = BUDGET_BYTES
) -> Scatter | None:
    """Read the data of the scatter plot of a slide-level run.

    Parameters
    ----------
    run
        Folder of the run.
    unit
        Unit of the values.
    stated_coverage
        Share of patients, 0 to 1, that the prediction intervals should hold.
    budget
        Largest number of bytes that the data may take.

    Returns
    -------
    The data, or None if the run has no predictions or no gene has a measured value.

    Raises
    ------
    InputError
        If the file of the predictions is damaged.
    """
    path, table = run / "out_of_fold.h5ad", run / "genes.csv"
    if not (path.is_file() and table.is_file()):
        return None
    fix = "run tcgn-mil slide-cv again into a new folder"
    with (
        describe_damage(path, what="out-of-fold predictions", fix=fix),
        open_hdf5(path, kind="AnnData", needs=("X", "layers/truth")) as file,
    ):
        predicted, truth = file["X"][:], file["layers/truth"][:]
        genes, patients = list(read_elem(file["var"]).index), list(read_elem(file["obs"]).index)
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
        "stated": stated_coverage,
        "patients": patients,
        "genes": rows,
        "first": best["gene"],
    }
    return Scatter(len(rows), len(genes), data)


def _chosen(facts: pd.DataFrame, drawable: NDArray[np.bool_], budget: float) -> Sequence[int]:
    """Return the columns to keep, in the order of the names of the genes.

    `drawable` (M, G) marks the values that can be drawn.
    """
    immune = {
        canonical_gene(gene) for gene_set in load_gene_sets().values() for gene in gene_set.genes
    }
    r = facts[f"r_{MODEL}"].fillna(facts[f"pooled_r_{MODEL}"]).fillna(-1).to_numpy(float)
    first = np.array([canonical_gene(str(gene)) in immune for gene in facts.index])
    order = [column for column in np.lexsort((-r, ~first)) if drawable[:, column].any()]
    most = int(budget / (2 * _BYTES_PER_VALUE * len(drawable) + _FACTS_BYTES))
    return sorted(order[:most], key=lambda column: str(facts.index[column]))


def _gene(
    name: str, facts: pd.Series, measured: NDArray[np.floating], predicted: NDArray[np.floating]
) -> dict[str, Any]:
    columns = {
        "r": f"r_{MODEL}",
        "low": f"low_{MODEL}",
        "high": f"high_{MODEL}",
        "q": f"q_{MODEL}",
        "pooled": f"pooled_r_{MODEL}",
        "half": "interval_half_width",
        "inside": "interval_coverage",
    }
    stated = {key: _rounded(facts.get(column)) for key, column in columns.items()}
    return {
        "gene": name,
        **stated,
        "predictable": bool(facts.get("predictable", False)),
        "x": _packed(measured),
        "y": _packed(predicted),
    }


def _rounded(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.3g}")


def _packed(values: NDArray[np.floating]) -> list[Any]:
    """Return the least and the largest value, and all values as steps between them.

    The steps are little-endian 16-bit numbers in base64, as the script of the page reads them.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    low, high = float(values[finite].min()), float(values[finite].max())
    steps = np.full(len(values), _UNKNOWN, dtype="<u2")
    steps[finite] = np.round((values[finite] - low) / max(high - low, 1e-12) * _STEPS)
    return [
        float(f"{low:.6g}"),
        float(f"{high:.6g}"),
        base64.b64encode(steps.tobytes()).decode("ascii"),
    ]
