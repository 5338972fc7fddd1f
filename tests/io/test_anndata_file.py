"""Files of AnnData are those that AnnData itself writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from tcgn_mil.io.anndata_file import write_anndata


def content(path: Path) -> dict[str, Any]:
    """Return the attributes and values of everything in an HDF5 file."""
    found: dict[str, Any] = {}

    def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
        values = (item.dtype, item.compression, item[()]) if isinstance(item, h5py.Dataset) else ()
        found[name] = str((dict(item.attrs), values))

    with h5py.File(path) as file:
        found["/"] = str(dict(file.attrs))
        file.visititems(note)
    return found


def test_the_file_is_the_one_that_anndata_writes(tmp_path: Path) -> None:
    obs = pd.DataFrame({"site": ["A", "B", "A"], "n": [1, 2, 3]}, index=["P1", "P2", "P3"])
    data = anndata.AnnData(sparse.eye(3, 4, format="csr", dtype=np.float32), obs=obs)
    data.layers["sd"] = np.ones((3, 4))
    data.obsm["spatial"] = np.zeros((3, 2))
    data.uns["slides"] = pd.DataFrame({"slide_id": ["S1"]})
    data.uns["spatial"] = {"S1": {"scalefactors": {"a": 1.0}}}
    ours, theirs = tmp_path / "ours.h5ad", tmp_path / "theirs.h5ad"
    write_anndata(ours, data.copy())
    data.write_h5ad(theirs, compression="gzip")
    assert content(ours) == content(theirs)
    assert anndata.read_h5ad(ours).obs["site"].dtype == "category"
