"""Write the predictions as a long table, in which each value stands beside its uncertainty.

``predicted.csv`` has the values alone, one column per gene. Whoever copies a value from there does
not see how uncertain it is, or that the patient was trained on. The long table has a row for each
patient and gene and holds all of this.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from anndata import AnnData

from tcgn_mil.io.atomic import atomic_path

NAME = "predicted_long.csv.gz"
_OF_PATIENT = ("relation", "n_models", "ood_score", "ood_p", "ood_state")


def long_rows(adata: AnnData) -> Iterator[pd.DataFrame]:
    """Yield the rows of each patient.

    Parameters
    ----------
    adata
        Predictions (patients x genes) with the layers sd, low and high, and a row for each patient
        in ``obs``.

    Yields
    ------
    pandas.DataFrame
        Columns patient_id, gene, predicted, sd, low and high in the unit of the predictions, and
        those of the patient: relation to the model, number of models, and out-of-distribution
        score, p-value and state. sd is empty where one model predicted.
    """
    names = [name for name in _OF_PATIENT if name in adata.obs]
    for row, patient in enumerate(adata.obs_names):
        values = {"predicted": adata.X[row]}
        values |= {name: adata.layers[name][row] for name in ("sd", "low", "high")}
        table = pd.DataFrame({"patient_id": patient, "gene": adata.var_names, **values})
        yield table.assign(**{name: adata.obs[name].iloc[row] for name in names})


def write_long_table(out_dir: Path, adata: AnnData) -> None:
    """Write ``predicted_long.csv.gz``, one patient after the other to keep memory small."""
    with (
        atomic_path(out_dir / NAME) as temporary,
        # The time of writing is left out of the file, so that equal results are equal files.
        temporary.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0, filename="") as packed,
    ):
        for number, rows in enumerate(long_rows(adata)):
            text = rows.to_csv(index=False, header=number == 0, float_format="%.6g")
            packed.write(text.encode("utf-8"))
