"""The study of TCGA cohorts: its commands, and the tables that it writes into its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.benchmarks.tcga import commands, page, tables


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record commands in place of running them."""
    seen: list[list[str]] = []
    monkeypatch.setattr(commands, "tcgn_mil", lambda *words: seen.append([*map(str, words)]))
    return seen


def test_a_cohort_is_found_by_its_name_alone(ran: list[list[str]], tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "tcga_hif").mkdir(parents=True)
    (data / "tcga_hif" / "panimmune_luad.csv.gz").touch()
    files = commands.CohortFiles("LUAD", data, tmp_path)
    commands.cross_validate(files, range(2))
    verbs = [words[0] for words in ran]
    assert verbs == ["slide-cv"] * 4
    assert "refits=0" not in ran[0]  # p-values for the first seed
    assert "refits=0" in ran[1]
    assert ran[3][ran[3].index("--targets") + 1] == str(files.immune_scores)
    genes_alone = commands.CohortFiles("COADREAD", data, tmp_path)
    commands.cross_validate(genes_alone, range(2))
    assert len(ran) == 6


def test_every_cohort_is_predicted_by_the_others(ran: list[list[str]], tmp_path: Path) -> None:
    brca, luad = (commands.CohortFiles(name, Path("d"), tmp_path) for name in ("BRCA", "LUAD"))
    features = Path("d") / "tcga_hif"
    table = tmp_path / "table.csv.gz"
    pd.DataFrame({"patient": ["P"], "HRD_Score": [1], "area": [2]}).to_csv(table, index=False)
    commands.import_features([table], tmp_path / "out")
    assert ran[-1][-4:-2] == ["--leave-out", "HRD_Score"]
    assert brca.features_table == features / "brca_hif.csv.gz"
    (tmp_path / "transfer" / "brca-to-luad").mkdir(parents=True)
    (tmp_path / "transfer" / "brca-to-luad" / "cohort.h5ad").touch()
    commands.transfer(luad, [brca])
    assert [words[0] for words in ran[-2:]] == ["finetune", "predict"]
    assert str(luad.features) in ran[-1]


def genes() -> pd.DataFrame:
    row: dict[str, Any] = {
        "cohort": "BRCA",
        "folds by": "site",
        "patients": 678,
        "genes": 1558,
        "model": 0.275,
        "ridge_mean_features": 0.248,
        "kernel_mean_features": 0.252,
        "low": 0.257,
        "high": 0.291,
        "best": "kernel_mean_features",
        "above": 0.0226,
        "above_low": 0.017,
        "above_high": 0.028,
        "lowest": 0.021,
        "highest": 0.024,
        "predictable": 1107,
        "coverage": 0.8997,
        "null_share": 0.0502,
        "null_hits": 0.06,
    }
    return pd.DataFrame([row])


def test_tables_replace_those_of_the_page_and_keep_its_text() -> None:
    text = "Before\n<!-- table genes -->\n| old |\n<!-- end -->\nAfter\n"
    rows = {"genes": tables.genes_table(genes())}
    written = page.replace_tables(text, rows, path=Path("page.md"))
    assert written.startswith("Before\n")
    assert written.endswith("<!-- end -->\nAfter\n")
    assert "| old |" not in written
    assert "| **0.275** (0.257 to 0.291) |" in written
    assert "+0.023 (+0.017 to +0.028; +0.021 to +0.024)" in written
    assert "1,107 of 1,558" in written
    assert page.replace_tables(written, rows, path=Path("page.md")) == written
    with pytest.raises(InputError, match="names the table genes, which is not one"):
        page.replace_tables(text, {"scores": []}, path=Path("page.md"))
    with pytest.raises(InputError, match="names no table"):
        page.replace_tables("nothing", rows, path=Path("page.md"))


def test_calibration_is_shown_in_percent() -> None:
    assert tables.calibration_table(genes())[1][2:] == ["90.0 %", "5.0 %", "6 %"]


def test_survival_names_events_and_what_expression_adds() -> None:
    table = pd.DataFrame(
        {
            "model": ["clinical", "predicted"],
            "c": [0.7, 0.55],
            "low": [0.6, 0.5],
            "high": [0.8, 0.6],
            "cohort": "LUAD",
            "endpoint": "OS",
            "patients": 412,
            "events": 146,
            "adds_p": 0.0314,
            "permuted": [0.69, 0.501],
            "permutations": 50,
        }
    )
    header, row = tables.survival_table(table)
    assert header[3:5] == ["clinical", "predicted"]
    assert row == [
        "LUAD",
        "OS",
        "412 (146)",
        "0.700 (0.600 to 0.800)",
        "0.550 (0.500 to 0.600)",
        "0.031",
        "0.501 (50)",
    ]
