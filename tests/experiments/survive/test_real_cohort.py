"""The survival of TCGA breast cancer, compared with lifelines."""

from __future__ import annotations

import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from tcgn_mil.config import resolve_config
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.survive import run as survival
from tcgn_mil.experiments.survive.cohort import load_survival_cohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.regression_tables import screen_table
from tcgn_mil.regression.rank_normaliser import RankNormaliser


@pytest.fixture(scope="module")
def brca(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the clinical table of PORPOISE, checked against TCGA-CDR, and its z-scores."""
    folder = tmp_path_factory.mktemp("brca")
    source = real_data / "tcga_expression" / "tcga_brca_all_clean.csv.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys,
            "argv",
            [
                "tcgn-mil",
                "clinical",
                str(source),
                "--format",
                "porpoise",
                "--covariate",
                "age",
                str(real_data / "tcga_clinical" / "TCGA-CDR_outcome.xlsx"),
                "--format",
                "tcga-cdr",
                "--endpoint",
                "OS",
                "--out",
                str(folder / "clinical.csv"),
            ],
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code in (None, 0)
    with zipfile.ZipFile(source) as archive, archive.open(archive.namelist()[0]) as file:
        table = pd.read_csv(file, low_memory=False).drop_duplicates("case_id").set_index("case_id")
    genes = [name for name in table.columns if name.endswith("_rnaseq")]
    table[genes].rename(columns=lambda name: name.removesuffix("_rnaseq")).to_csv(
        folder / "measured.csv"
    )
    return {"clinical": folder / "clinical.csv", "measured": folder / "measured.csv"}


@pytest.mark.realdata
class TestBreastCancer:
    def test_months_are_those_of_the_clinical_data_resource(self, brca: dict[str, Path]) -> None:
        agreement = pd.read_csv(brca["clinical"].parent / "agreement.csv")
        assert len(agreement) == 956
        assert agreement["time_agrees"].all()
        assert agreement["event_agrees"].all()
        assert agreement["difference_days"].abs().max() < 0.16  # months of two decimals

    def test_cox_agrees_with_lifelines(self, brca: dict[str, Path]) -> None:
        config = resolve_config(
            SurviveConfig, overrides=[f"{k}={v}" for k, v in brca.items()] + ["covariates=[age]"]
        )
        cohort = load_survival_cohort(config)
        assert (len(cohort.table), int(cohort.table.event.sum())) == (956, 130)
        from tcgn_mil.survival.cox import fit_cox

        values = cohort.sources["measured"].values
        values = RankNormaliser(values)(values).astype(float)
        screen = screen_table(values, cohort.sources["measured"].genes, cohort.table, cohort.design)
        screen = screen.set_index("gene")
        age = cohort.design["age"].to_numpy()
        for index in range(0, 1558, 120):
            frame = pd.DataFrame(
                {"gene": values[:, index], "t": cohort.table.time_days, "e": cohort.table.event}
            )
            exact = {"precision": 1e-12}
            row = screen.loc[cohort.sources["measured"].genes[index]]
            alone = CoxPHFitter().fit(frame, "t", "e", fit_options=exact).summary.loc["gene"]
            with_age = CoxPHFitter().fit(frame.assign(age=age), "t", "e", fit_options=exact)
            assert row["coef"] == pytest.approx(alone["coef"], abs=1e-6)
            assert row["p"] == pytest.approx(alone["p"], abs=1e-6)
            assert row["adjusted_coef"] == pytest.approx(with_age.params_["gene"], abs=1e-6)
            design = cohort.design.assign(gene=values[:, index])
            both = fit_cox(cohort.table, design).params_
            direct = CoxPHFitter().fit(frame.assign(age=age), "t", "e").params_
            np.testing.assert_allclose(both[["age", "gene"]], direct[["age", "gene"]], atol=1e-6)

    @pytest.mark.slow
    def test_the_whole_verb_takes_under_three_minutes(
        self, brca: dict[str, Path], tmp_path: Path
    ) -> None:
        begun = time.perf_counter()
        config = resolve_config(
            SurviveConfig, overrides=[f"{k}={v}" for k, v in brca.items()] + ["covariates=[age]"]
        )
        summary = survival.run(config, tmp_path / "out")
        assert time.perf_counter() - begun < 180
        found = {row["model"]: row["c"] for row in summary["results"]}
        assert 0.6 < found["clinical"] < 0.68
        assert found["clinical + measured"] > found["clinical"]
