"""Test the benchmark on planted truth with tables and maps that were made by hand."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.experiments.benchmarks.planted import main, zero_shot_p


def test_writes_tables_and_a_figure(
    planted_run: Path,
    planted_maps: Path,
    planted_cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "planted"
    main(
        [
            str(planted_cohort),
            "--runs",
            str(planted_run),
            "--maps",
            str(planted_maps),
            "--out",
            str(out),
        ]
    )
    assert "morphology" in capsys.readouterr().out
    assert pd.read_csv(out / "genes.csv")["run"].unique().tolist() == ["run"]
    assert pd.read_csv(out / "tiles.csv")["run"].unique().tolist() == ["predictions"]
    assert (out / "planted.png").stat().st_size > 1000


@pytest.mark.parametrize(("knows", "low", "high"), [(1.0, 0.0, 0.02), (0.0, 0.05, 1.0)])
def test_zero_shot_is_judged_by_permuted_labels(
    tmp_path: Path, knows: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((30, 5))
    found = anndata.AnnData(
        X=np.zeros((30, 5)),
        obs=pd.DataFrame({"fold": np.arange(30) % 3}, index=map(str, range(30))),
    )
    found.layers["truth"] = truth
    found.obsm["baseline_zero_shot"] = knows * truth + rng.standard_normal((30, 5))
    found.write_h5ad(tmp_path / "out_of_fold.h5ad")
    r, p = zero_shot_p(tmp_path, permutations=99)
    assert low <= p <= high
    assert (r > 0.5) == (knows > 0)
