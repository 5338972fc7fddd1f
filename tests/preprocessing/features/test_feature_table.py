"""import-features of tables: bags of one tile, what is missing, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.io.feature_files import read_feature_info, read_feature_names, read_features
from tcgn_mil.preprocessing.features.feature_table import (
    ImportedTable,
    import_table,
    table_identity,
)
from tcgn_mil.preprocessing.features.settings import TableSettings
from tcgn_mil.preprocessing.slides.names import slide_facts
from tcgn_mil.types.features import UNKNOWN

NAMES = [f"TCGA-AA-000{i}-01Z-00-DX1" for i in range(3)]
PATIENTS = [name[:12] for name in NAMES]


def save(path: Path, columns: dict[str, object]) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def columns_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "columns.csv", keep_default_na=False).set_index("column")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "features"


def test_a_row_becomes_a_bag_of_one_tile_with_named_features(tmp_path: Path, out: Path) -> None:
    table = {"slide": [f"{name}.svs" for name in NAMES], "b": [1.5, 3, 2], "a": [2, 4, np.nan]}
    done, failures, _ = import_table(save(tmp_path / "nuclei.csv", table), " nuclei ", out)
    assert not failures
    assert [info.slide_id for info in done] == NAMES
    features, coords, info = read_features(out / f"{NAMES[2]}.h5")
    np.testing.assert_array_equal(features, [[np.nan, 2]])  # sorted by name: a, b
    np.testing.assert_array_equal(coords, [[-1, -1]])
    assert (info.patient_id, info.positions) == ("TCGA-AA-0002", UNKNOWN)
    assert info.encoder == table_identity("nuclei", ["a", "b"])
    assert read_feature_names(out / f"{NAMES[2]}.h5") == ("a", "b")
    slides = pd.read_csv(out / "slides.csv")
    assert slides.to_dict("list") == {"slide_id": NAMES, "patient_id": PATIENTS}


def test_the_identity_depends_on_the_names_of_the_columns_and_not_on_their_order(
    tmp_path: Path, out: Path
) -> None:
    def identity(name: str, **columns: float) -> str:
        source = save(tmp_path / "t.csv", {"slide": ["s"], **{k: [v] for k, v in columns.items()}})
        return import_table(source, name, out / "-".join([name, *columns])).done[0].encoder

    ab = identity("hif", a=1, b=2)
    assert ab.startswith("table:hif@")
    assert len(ab) == len("table:hif@") + 8
    assert identity("hif", b=7, a=3) == ab
    assert len({ab, identity("hif", a=1, c=2), identity("hif", a=1), identity("x", a=1, b=2)}) == 4


def test_bad_rows_fail_and_missing_values_do_not(tmp_path: Path, out: Path) -> None:
    nan, inf = np.nan, np.inf
    table = {
        "slide": ["good", "holes", "nothing", "infinite", "large", "a/b"],
        "x": [1, nan, nan, inf, 1e39, 1],
        "y": [1, 2, nan, 2, 2, 2],
    }
    source = save(tmp_path / "t.csv", table)
    done, failures, _ = import_table(source, "x", out)
    assert [info.slide_id for info in done] == ["good", "holes"]
    reasons = {failure.slide: failure.reason for failure in failures}
    assert reasons["nothing"] == "has no value"
    assert "infinite or too large" in reasons["infinite"]
    assert "infinite or too large" in reasons["large"]
    assert "cannot be a file name" in reasons["a/b"]
    assert all(failure.likely_fix for failure in failures)
    assert list(pd.read_csv(out / "failures.csv")["slide"]) == list(reasons)
    # Imported again without the fault: the failure is gone, and so is a file that became bad.
    save(source, {**table, "x": [inf, nan, 3, 1, 1, 1]})
    import_table(source, "x", out)
    assert list(pd.read_csv(out / "failures.csv")["slide"]) == ["good", "a/b"]
    assert not (out / "good.h5").exists()


def test_constant_duplicate_and_missing_columns_are_kept_and_reported(
    tmp_path: Path, out: Path
) -> None:
    nan = np.nan
    table = {
        "slide": ["s", "t", "u"],
        "one": [1.0, 1, nan],
        "never": [nan] * 3,
        "nothing": [nan] * 3,
        "x": [0.0, 2, nan],
        "again": [-0.0, 2, nan],
        "stage": ["I", "II", "I"],
        "typo": ["1.5", "2,5", "3"],
        "site_id": [4, 4, 5],
        "mpp": [0.25, 0.25, 0.5],
        "age": [60, 61, 62],
    }
    settings = TableSettings(leave_out=("age",))
    done, failures, notes = import_table(
        save(tmp_path / "t.csv", table), "x", out, settings=settings
    )
    assert read_feature_names(out / "s.h5") == ("again", "never", "nothing", "one", "x")
    np.testing.assert_array_equal(read_features(out / "t.h5").features, [[2, nan, nan, 1, 2]])
    report = columns_of(out)
    assert list(report.index) == list(table)
    assert report["role"].to_dict() == {
        "slide": "slide",
        **dict.fromkeys(("one", "never", "nothing", "x", "again"), "feature"),
        **dict.fromkeys(("stage", "typo", "site_id", "mpp", "age"), "left out"),
    }
    assert report.loc[["one", "never", "x", "age"], "missing"].tolist() == [1, 3, 1, 0]
    assert report.index[report["constant"]].tolist() == ["one"]
    assert report.loc[report["duplicate_of"] != "", "duplicate_of"].to_dict() == {"x": "again"}
    assert report.loc["stage", "reason"] == "text, for example 'I'"
    assert report.loc["typo", "reason"] == "text in 1 of 3 cells, for example '2,5'"
    assert report.loc["age", "reason"] == "by --leave-out"
    said = "\n".join(notes)
    for line in (
        "slides: column 'slide' (the first column",
        "patients: from the names of the slides",
        "left out: column 'stage' (text, for example 'I')",
        "features: 5 columns",
        "kept although with missing values: 5 columns, 9 cells (one, never and 3 more)",
        "kept although constant: 1 column (one)",
        "kept although equal to another: 1 column (x)",
    ):
        assert line in said
    assert [info.slide_id for info in done] == ["s", "t"]
    assert [failure.reason for failure in failures] == ["has no value"]


def test_equal_rows_are_one_and_different_rows_of_a_slide_are_refused(
    tmp_path: Path, out: Path
) -> None:
    table = {"slide": ["s", "t", "s"], "x": [1, np.nan, 1], "y": [np.nan, 3, np.nan]}
    done, _, notes = import_table(save(tmp_path / "t.csv", table), "x", out)
    assert [info.slide_id for info in done] == ["s", "t"]
    assert "1 row left out as repeated: s" in notes
    table["x"] = [1, 2, np.nan]
    with pytest.raises(InputError, match="slide s has several rows with different values"):
        import_table(save(tmp_path / "t.csv", table), "x", out)
    table |= {"x": [1, 2, 1], "patient_id": ["p", "q", "r"]}  # equal values of two patients
    settings = TableSettings(slide_column="slide")
    with pytest.raises(InputError, match="slide s has several rows"):
        import_table(save(tmp_path / "t.csv", table), "x", out, settings=settings)


def test_a_patient_named_twice_needs_a_column_of_slides(tmp_path: Path, out: Path) -> None:
    table = {"patient": [*PATIENTS, PATIENTS[0]], "x": [1.0, 2, 3, 1], "block": [1, 2, 3, 4]}
    source = save(tmp_path / "t.csv", table)
    settings = TableSettings(leave_out=("block",))
    done, _, notes = import_table(source, "x", out / "equal", settings=settings)
    assert [(info.slide_id, info.patient_id) for info in done] == [(p, p) for p in PATIENTS]
    assert f"1 row left out as repeated: {PATIENTS[0]}" in notes
    with pytest.raises(InputError, match=f"patient {PATIENTS[0]} has several rows") as told:
        import_table(source, "x", out)
    assert "--slide-column" in str(told.value.fix)
    done, _, _ = import_table(source, "x", out, settings=TableSettings(slide_column="block"))
    assert [info.slide_id for info in done] == ["1", "2", "3", "4"]
    assert [info.patient_id for info in done] == [*PATIENTS, PATIENTS[0]]


def test_tables_of_several_cohorts_share_a_folder(tmp_path: Path, out: Path) -> None:
    first = save(tmp_path / "luad.csv", {"slide": ["007", "8"], "x": [1.0, 2], "y": [1.0, 2]})
    facts = tmp_path / "p.csv"
    facts.write_text("slide_id,patient_id\n007,P1\n8,P1\n9,P2\n")
    look_up = slide_facts(facts)
    import_table(first, "hif", out, facts_of=look_up)
    second = save(
        tmp_path / "lusc.csv", {"slide": ["9", "10"], "y": [3.0, 3], "x": [np.nan, 4], "k": "text"}
    )
    _, failures, _ = import_table(second, "hif", out, facts_of=look_up)
    assert [failure.slide for failure in failures] == ["10"]  # not in p.csv
    slides = pd.read_csv(out / "slides.csv", dtype=str)
    assert slides.to_numpy().tolist() == [["007", "P1"], ["8", "P1"], ["9", "P2"]]
    report = pd.read_csv(out / "columns.csv", keep_default_na=False)
    assert report["table"].tolist() == ["luad.csv"] * 3 + ["lusc.csv"] * 4
    import_table(first, "hif", out, facts_of=look_up)  # again: the other table stays
    assert len(pd.read_csv(out / "slides.csv")) == 3
    assert list(pd.read_csv(out / "failures.csv", dtype=str)["slide"]) == ["10"]

    def refused(columns: dict[str, object], encoder: str = "hif") -> InputError:
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        with pytest.raises(InputError) as told:
            import_table(save(tmp_path / "other.csv", columns), encoder, out)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        return told.value

    error = refused({"slide": ["11"], "x": [1.0], "y": [1.0], "HRD": [3.0]})
    assert "only this table has HRD" in error.reason
    assert error.fix == "give --leave-out 'HRD'"
    assert "it lacks y" in refused({"slide": ["11"], "x": [1.0]}).reason
    assert "gives table:x@" in refused({"slide": ["11"], "x": [1.0], "y": [1.0]}, "x").reason
    same = {"slide": ["8"], "x": [2.0], "y": [2.0]}
    assert "slide 8 is of patient P1 in this folder, but of 8" in refused(same).reason
    with pytest.raises(InputError, match="slide 8 has other features in this folder, from luad"):
        import_table(
            save(tmp_path / "other.csv", {**same, "x": [9.0]}), "hif", out, facts_of=look_up
        )
    import_table(save(tmp_path / "other.csv", same), "hif", out, facts_of=look_up)  # equal values


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv", "T.TSV.GZ", "t.csv.zip", "t.parquet"])
def test_tables_in_every_form(tmp_path: Path, out: Path, name: str) -> None:
    frame = pd.DataFrame(
        {"slide_id": ["1", "02"], "case": [PATIENTS[0].lower()] * 2, "x": [1, None]}
    )
    frame["y"] = [True, False]
    if name.endswith("parquet"):
        frame.astype({"case": "category"}).to_parquet(tmp_path / name)
    else:
        frame.to_csv(tmp_path / name, index=False, sep="\t" if "tsv" in name.lower() else ",")
    done, _, _ = import_table(tmp_path / name, "x", out)
    assert [(info.slide_id, info.patient_id) for info in done] == [
        ("1", PATIENTS[0]),
        ("02", PATIENTS[0]),
    ]
    np.testing.assert_array_equal(read_features(out / "02.h5").features, [[np.nan, 0]])


@pytest.mark.parametrize(
    ("text", "encoder", "message"),
    [
        ("slide,x\ns,1\n", None, "does not name what made"),
        ("slide,x\ns,1\n", " ", "does not name what made"),
        ("slide,x\n", "x", "no rows"),
        ("slide,x,x\ns,1,2\n", "x", "has column x more than once"),
        ("slide,x\ns,big\n", "x", "has no column of features"),
        ("slide,x\ns,1\n,1\n", "x", "row 3 has no id"),
        ("slide,x\ns,1\nt,1,2\n", "x", "line 3 has 3 cells"),
    ],
)
def test_tables_that_are_none_are_refused(
    tmp_path: Path, out: Path, text: str, encoder: str | None, message: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message) as told:
        import_table(tmp_path / "t.csv", encoder, out)
    assert told.value.fix
    assert not out.exists()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", "import-features", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def test_the_command_imports_several_tables_and_reports_on_stderr(run, tmp_path: Path) -> None:
    for name, slide in (("a.csv", "11"), ("b.csv", "12")):
        save(tmp_path / name, {"slide": [slide], "patient": [PATIENTS[0]], "x": [1.0]})
    tables = (tmp_path / "a.csv", tmp_path / "b.csv")
    only_here = {"slide": ["12"], "patient": [PATIENTS[0]], "x": [1.0], "HRD_Score": [2.0]}
    save(tables[1], only_here)  # a column of one of the tables can be left out
    options = ("--encoder", "hif", "--leave-out", "HRD_Score", "--out", tmp_path / "out")
    code, said, err = run(*tables, *options)
    assert code == 0, err
    assert "2 slides imported" in said
    assert "a.csv: patients: column 'patient' (every value is a TCGA barcode)" in err
    assert "b.csv: left out: column 'HRD_Score' (by --leave-out)" in err
    assert len(pd.read_csv(tmp_path / "out" / "slides.csv")) == 2
    for given, message in (
        (("--leave-out", "HRDScore"), "did you mean HRD_Score?"),
        (("--leave-out", "nothing"), "choose from its columns: slide, patient, x, HRD_Score"),
        (("--slide-column", "x", "--leave-out", "x"), "column 'x' is to name slides or patients"),
        (("--mpp", 0.5), "--mpp: has no effect on a table"),
        (("--patients", "p.csv", "--patient-column", "x"), "both say which patient"),
    ):
        code, _, err = run(tables[1], "--encoder", "hif", *given, "--out", tmp_path / "no")
        assert code == 2
        assert message in err
    code, _, err = run(*tables, "--encoder", "hif", "--leave-out", "no", "--out", tmp_path / "no")
    assert code == 2
    assert "a.csv: has no column 'no'" in err
    (tmp_path / "clam").mkdir()
    code, _, err = run(tmp_path / "clam", "--leave-out", "x", "--out", tmp_path / "no")
    assert code == 2
    assert "--leave-out: has no effect on a folder" in err
    code, _, err = run(tmp_path / "clam", tables[0], "--out", tmp_path / "no")
    assert code == 2
    assert "several sources are given, which only tables can be" in err


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("cohort", "slides", "patients", "missing"),
    [("brca", 696, 696, 0), ("luad", 501, 444, 144), ("lusc", 443, 412, 0)],
)
def test_published_tables_import_as_they_come(
    real_data: Path, out: Path, cohort: str, slides: int, patients: int, missing: int
) -> None:
    result: ImportedTable = import_table(
        real_data / "tcga_hif" / f"{cohort}_hif.csv.gz",
        "hif",
        out,
        settings=TableSettings(leave_out=("HRD_Score",) if cohort == "brca" else ()),
    )
    assert not result.failures
    # The three tables have the same columns in different orders.
    assert {(info.width, info.encoder) for info in result.done} == {(607, "table:hif@5e6b372f")}
    table = pd.read_csv(out / "slides.csv", dtype=str)
    assert (len(table), table["patient_id"].nunique()) == (slides, patients)
    values = np.concatenate([read_features(path).features for path in out.glob("*.h5")])
    assert len(values) == slides
    assert np.isnan(values).sum() == missing
    # In LUAD, two slides lack the 72 features of one region.
    assert np.isnan(values).any(axis=0).sum() == missing / 2
    report = columns_of(out)
    assert report["missing"].sum() == missing
    assert not report["constant"].drop(["cohort", "pathai_split"], errors="ignore").any()


@pytest.mark.realdata
def test_published_tables_of_nuclei_import_as_they_come(real_data: Path, out: Path) -> None:
    result = import_table(real_data / "tcga_hif" / "luad_nuclei.csv.gz", "abel", out / "abel")
    assert len(result.done) == 426
    assert {info.width for info in result.done} == {768}
    report = columns_of(out / "abel")
    assert report.index[report["role"] == "left out"].tolist() == ["caseName", "H & E_ID", "mpp"]
    crc = real_data / "tcga_slide_features" / "CRC_nucleus_morphology.csv"
    result = import_table(crc, "nuclei", out / "crc")
    assert len(result.done) == 315
    info = read_feature_info(out / "crc" / "TCGA-3L-AA1B-01Z-00-DX2.h5")
    assert (info.patient_id, info.width) == ("TCGA-3L-AA1B", 30)
