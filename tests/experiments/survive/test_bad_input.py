"""Input that ``tcgn-mil survive`` refuses, with file and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from survival_cohorts import PATIENTS, configured

from tcgn_mil.config import resolve_config
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.survive import run as survival
from tcgn_mil.experiments.survive.cohort import load_survival_cohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.io.clinical_file import read_survival


class TestBadInput:
    def refused(self, files: dict[str, Path], tmp_path: Path, *overrides: str) -> str:
        with pytest.raises(InputError) as caught:
            survival.run(configured(files, *overrides), tmp_path / "out")
        assert caught.value.fix
        assert not (tmp_path / "out" / "summary.json").exists()
        return str(caught.value)

    def rewritten(
        self, files: dict[str, Path], tmp_path: Path, kind: str, change
    ) -> dict[str, Path]:
        table = change(pd.read_csv(files[kind], dtype=str, keep_default_na=False))
        table.to_csv(tmp_path / f"{kind}.csv", index=False)
        return {**files, kind: tmp_path / f"{kind}.csv"}

    def test_fewer_than_ten_events(self, files: dict[str, Path], tmp_path: Path) -> None:
        assert "OS: 160 patients have" in self.refused(files, tmp_path, "horizon_days=30")

    def test_no_event_in_a_fold(self, files: dict[str, Path], tmp_path: Path) -> None:
        outcome = read_survival(files["clinical"])
        quiet = [
            name for name, event in zip(outcome.patient_id, outcome.event, strict=True) if not event
        ]
        rest = [name for name in PATIENTS if name not in set(quiet[:20])]
        rows = [(0, "test", name) for name in quiet[:20]] + [
            (0, "train", name) for name in rest[1:]
        ]
        rows += [
            (0, "val", rest[0]),
            (1, "val", quiet[1]),
            *((1, "test", name) for name in rest),
            (1, "train", quiet[0]),
        ]
        pd.DataFrame(rows, columns=["fold", "part", "id"]).to_csv(
            tmp_path / "folds.csv", index=False
        )
        message = self.refused(files, tmp_path, f"folds={tmp_path / 'folds.csv'}")
        assert "fold 0: none of its 20 test patients has an event (OS)" in message

    def test_covariates_that_cannot_be_estimated(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        assert "covariate one has one value (x)" in self.refused(
            files, tmp_path, "covariates=[age, one]"
        )
        assert "no covariate grade. Fix: choose from the columns age, stage, one" in self.refused(
            files, tmp_path, "covariates=[grade]"
        )

        def separate(table: pd.DataFrame) -> pd.DataFrame:
            quiet = (table["OS_event"] == "0") & (np.arange(len(table)) % 3 == 0)
            return table.assign(stage=np.where(quiet, "IV", table["stage"]))

        message = self.refused(
            self.rewritten(files, tmp_path, "clinical", separate),
            tmp_path,
            "covariates=[age, stage]",
        )
        assert "covariate stage[IV] separates patients with an event" in message

    def test_times_of_zero_and_repeated_patients(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        def zero(table: pd.DataFrame) -> pd.DataFrame:
            return table.assign(OS_time_days=["0", *table["OS_time_days"][1:]])

        assert "has a time of 0" in self.refused(
            self.rewritten(files, tmp_path, "clinical", zero), tmp_path
        )
        columns = {"clinical": "age", "predicted": "G1"}
        for kind, column in columns.items():
            twice = self.rewritten(
                files,
                tmp_path,
                kind,
                lambda table, name=column: pd.concat([table, table.iloc[:1].assign(**{name: 99})]),
            )
            message = self.refused(twice, tmp_path)
            assert "several rows" in message
            assert f"{kind}.csv" in message

    def test_no_patient_in_common(self, files: dict[str, Path], tmp_path: Path) -> None:
        other = self.rewritten(
            files,
            tmp_path,
            "predicted",
            lambda table: table.assign(patient="person " + table["patient"]),
        )
        message = self.refused(other, tmp_path)
        assert "predicted.csv: has no patient in common with" in message
        assert "person " in message

    def test_samples_with_dots_in_lower_case_join_and_normals_do_not(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        def as_samples(table: pd.DataFrame) -> pd.DataFrame:
            names = table["patient"].str.replace("-", ".").str.lower()
            tumours = table.assign(patient=names + ".01a.11r")
            return pd.concat([tumours, table.iloc[:7].assign(patient=names[:7] + ".11a", G1=0)])

        other = self.rewritten(files, tmp_path, "predicted", as_samples)
        cohort = load_survival_cohort(configured(other))
        plain = load_survival_cohort(configured(files))
        assert cohort.table.patient_id == plain.table.patient_id
        assert cohort.sources["predicted"].values.tolist() == (
            plain.sources["predicted"].values.tolist()
        )
        assert any("7 rows of normal tissue" in note for note in cohort.notes)

    def test_sample_type_of_the_cohort_is_a_covariate(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        table = pd.read_csv(files["measured"], index_col=0)
        cohort = anndata.AnnData(table.astype("float32"))
        cohort.obs["sample_type"] = ["primary tumour", "metastasis"] * (len(table) // 2)
        cohort.uns["tcgn_mil"] = json.dumps({"kind": "cohort", "unit": "log2(tpm+1)"})
        path = tmp_path / "cohort.h5ad"
        cohort.write_h5ad(path)
        given = {**files, "measured": path}
        plain = load_survival_cohort(configured(given))
        assert any("mixes sample types" in note for note in plain.notes)
        adjusted = load_survival_cohort(configured(given, "covariates=[sample_type]"))
        assert not any("mixes sample types" in note for note in adjusted.notes)
        (column,) = adjusted.design.columns
        assert column.startswith("sample_type[")
        expected = cohort.obs["sample_type"].reindex(list(adjusted.table.patient_id))
        level = column.removeprefix("sample_type[").removesuffix("]")
        assert (adjusted.design[column] == 1).tolist() == (expected == level).tolist()

    def test_missing_covariates_and_genes_are_listed(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        part = self.rewritten(
            files, tmp_path, "clinical", lambda table: table.assign(age=["", "", *table["age"][2:]])
        )
        part = self.rewritten(
            part, tmp_path, "predicted", lambda table: table.assign(G1=["", *table["G1"][1:]])
        )
        cohort = load_survival_cohort(configured(part, "covariates=[age]"))
        assert len(cohort.table) == 158
        assert cohort.dropped["reason"].tolist() == ["no value of covariate age"] * 2
        assert "G1" not in cohort.sources["predicted"].genes
        assert cohort.notes == ("predicted: 1 genes left out, because a patient has no value",)

    def test_nothing_to_predict_from(self, files: dict[str, Path], tmp_path: Path) -> None:
        message = self.refused({"clinical": files["clinical"]}, tmp_path)
        assert "nothing to predict survival from" in message

    @pytest.mark.parametrize(
        "wrong", ["n_folds=2", "seeds=[]", "seeds=[1, 1]", "times_days=[0]", "replicates=-1"]
    )
    def test_settings_that_cannot_be(self, wrong: str) -> None:
        with pytest.raises(InputError):
            resolve_config(SurviveConfig, overrides=[wrong])
