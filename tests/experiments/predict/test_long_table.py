"""The long table of predictions: each value beside its uncertainty."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from tcgn_mil.experiments.predict.long_table import NAME, write_long_table


def predictions() -> anndata.AnnData:
    values = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    data = anndata.AnnData(
        values,
        obs=pd.DataFrame(
            {
                "n_slides": 1,
                "relation": ["new", "trained on"],
                "n_models": [5, 1],
                "ood_score": [0.5, np.nan],
                "ood_p": [0.04, np.nan],
                "ood_state": ["out", "unknown"],
            },
            index=["P1", "P2"],
        ),
        var=pd.DataFrame(index=["CD8A", "MKI67"]),
    )
    sd = np.array([[0.1, 0.2], [np.nan, np.nan]], dtype=np.float32)
    data.layers.update(sd=sd, low=values - 1, high=values + 1)
    return data


def test_each_patient_and_gene_has_a_row_with_all_that_is_known(tmp_path: Path) -> None:
    write_long_table(tmp_path, predictions())
    table = pd.read_csv(tmp_path / NAME)
    assert len(table) == 4
    row = table.set_index(["patient_id", "gene"]).loc[("P1", "MKI67")]
    assert (row["predicted"], row["sd"], row["low"], row["high"]) == (2, 0.2, 1, 3)
    assert (row["relation"], row["ood_state"], row["ood_p"]) == ("new", "out", 0.04)
    of_one_model = table[table["patient_id"] == "P2"]
    assert of_one_model["sd"].isna().all()
    assert (of_one_model["relation"] == "trained on").all()


def test_equal_predictions_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_long_table(tmp_path / name, predictions())
    assert (tmp_path / "a" / NAME).read_bytes() == (tmp_path / "b" / NAME).read_bytes()
