"""One small synthetic cohort, taken through every stage once for all tests of this folder.

The other fixtures are a cohort with planted truth, and results about it, that were made by hand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from tcgn_mil.experiments.demo.synthetic.config import REGIONS

MPP, TILE_PX = 0.5, 200


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished ``tcgn-mil demo --preset test``; tests do not change it.

    Where tests run in several processes, the first process that needs the demo makes it, and the
    others wait for it.
    """
    from tcgn_mil.experiments.demo.run import run_demo

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # the folder of the whole test run
    out = shared / "demo"
    with FileLock(shared / "demo.lock"):
        if not (out / "report.html").is_file():
            run_demo(out, preset_name="test")
    return out


@pytest.fixture
def planted_cohort(tmp_path: Path) -> Path:
    """Write two genes of each kind, and a slide of 400 x 200 µm whose left half is immune."""
    truth = tmp_path / "cohort" / "truth"
    (truth / "regions").mkdir(parents=True)
    kinds = ["colour", "colour", "morphology", "morphology", "null", "null"]
    pd.DataFrame({"gene": [f"G{i}" for i in range(6)], "kind": kinds}).to_csv(
        truth / "genes.csv", index=False
    )
    labels = np.zeros((25, 50), dtype=np.uint8)
    labels[:, :25] = REGIONS.index("immune") + 1
    np.savez(truth / "regions" / "S1.npz", labels=labels, mpp=8.0)
    pd.DataFrame({"slide_id": ["S1"], "mpp": [MPP]}).to_csv(
        tmp_path / "cohort" / "slides.csv", index=False
    )
    return tmp_path / "cohort"


@pytest.fixture
def planted_run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    pd.DataFrame(
        {
            "gene": [f"G{i}" for i in range(6)],
            "r_model": [0.9, 0.7, 0.5, 0.3, 0.1, -0.1],
            "r_ridge_colour": [0.8, 0.6, 0.0, 0.2, 0.0, 0.0],
            "predictable": [True, True, True, False, False, False],
        }
    ).to_csv(folder / "genes.csv", index=False)
    return folder


@pytest.fixture
def planted_maps(tmp_path: Path) -> Path:
    """Write a map of four tiles: a gene is highest on the left, attention on the right."""
    folder = tmp_path / "predictions" / "maps"
    folder.mkdir(parents=True)
    obs = pd.DataFrame(
        {"attention": [0.1, 0.2, 0.3, 0.4], "attention_relative": [0.4, 0.8, 1.2, 1.6]}
    ).set_index(pd.Index(list("abcd")))
    found = anndata.AnnData(
        X=np.array([[4.0], [3.0], [2.0], [1.0]]), obs=obs, var=pd.DataFrame(index=["G0"])
    )
    found.obsm["spatial"] = np.array([[100.0 + TILE_PX * i, 200.0] for i in range(4)])
    found.uns["tcgn_mil"] = json.dumps({"level0_px": TILE_PX})
    found.write_h5ad(folder / "S1.h5ad")
    return folder
