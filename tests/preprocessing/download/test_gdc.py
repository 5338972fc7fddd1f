"""Downloads of a project: what is asked for, what is written, and who reads it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from download_server import RELEASE, Store, fill_cohort, identifier

from tcgn_mil.errors import InputError
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.io.cohort_file import read_cohort
from tcgn_mil.io.failures import read_failures
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.run import write_clinical
from tcgn_mil.preprocessing.download import gdc
from tcgn_mil.preprocessing.download.config import GdcConfig, TransferConfig
from tcgn_mil.preprocessing.download.fetch_all import Fetched
from tcgn_mil.preprocessing.download.gdc import GdcPlan, download_gdc, list_gdc, plan_gdc
from tcgn_mil.preprocessing.slides.names import list_slides
from tcgn_mil.preprocessing.slides.table import find_slides

A, B, C = "TCGA-AA-0001", "TCGA-AA-0002", "TCGA-BB-0003"


def plan(server: Store, out: Path, quick: TransferConfig, **settings: object) -> GdcPlan:
    config = GdcConfig(**{"project": "TCGA-COAD", "api": server.address, **settings})
    return plan_gdc(config, out, quick)


def download(server: Store, out: Path, quick: TransferConfig, **settings: object) -> Fetched:
    return download_gdc(plan(server, out, quick, **settings), out, quick)


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def painted(tmp_path: Path) -> bytes:
    """A slide of 600 x 400 px that states its resolution."""
    pixels = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    write_pyramid(tmp_path / "painted.tiff", pixels, mpp=0.5, quality=80)
    return (tmp_path / "painted.tiff").read_bytes()


def test_the_folder_is_read_by_tile_bulk_and_clinical(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    slide = painted(tmp_path)
    paths = fill_cohort(server, slide)
    server.faults[paths["dx1"]] = ["cut"]
    server.faults[paths["star2"]] = ["busy"]
    out = tmp_path / "coad"
    done = download(server, out, quick)
    assert done.failures == []
    assert len(done.fetched) == 5
    dx1 = f"{A}-01Z-00-DX1.{identifier(A)}"
    dx2 = f"{B}-01Z-00-DX1.{identifier(B)}"
    assert (out / "slides" / f"{dx1}.svs").read_bytes() == slide
    assert (out / "slides" / f"{dx2}.svs").read_bytes() == slide[::-1]

    for source in (out / "slides", out / "slides.csv"):
        entries = find_slides(source)
        assert [(entry.slide_id, entry.patient_id) for entry in entries] == [(dx1, A), (dx2, B)]
    with entries[0].open() as opened:
        assert (opened.size, opened.mpp) == ((600, 400), pytest.approx(0.5))
    assert [entry.site for entry in entries] == ["AA", "AA"]

    config = BulkConfig(unit="counts")
    summary = write_cohort(
        [out / "expression"], list_slides(out / "slides"), tmp_path / "c.h5ad", config
    )
    assert summary.failures == ()
    cohort = read_cohort(tmp_path / "c.h5ad")
    values = cohort.to_df()
    # The normal sample of the first patient is not joined.
    assert values.loc[A].tolist() == [10, 20, 5, 30]
    assert values.loc[B].tolist() == [50, 5, 15, 9]

    options = ClinicalOptions(covariates=("sex", "ajcc_pathologic_stage"))
    table = out / "clinical" / "gdc_clinical.csv"
    told = write_clinical([table], tmp_path / "clinical.csv", options)
    assert told.patients == 2  # nothing is known of the third
    survival = read_survival(tmp_path / "clinical.csv", endpoint="OS")
    assert dict(zip(survival.patient_id, survival.time_days, strict=True)) == {A: 700, B: 1200}
    assert survival.event.tolist() == [True, False]
    assert survival.covariates.loc[A].to_dict() == {
        "sex": "female",
        "ajcc_pathologic_stage": "Stage IIA",
    }
    dropped = pd.read_csv(tmp_path / "dropped_patients.csv")
    assert dropped["patient_id"].unique().tolist() == [C]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"dx1", "dx2", "star1", "star2", "normal"}),
        ({"slides": "frozen"}, {"ts1", "star1", "star2", "normal"}),
        ({"slides": "all", "expression": "none"}, {"dx1", "dx2", "ts1"}),
        ({"slides": "none", "clinical": False}, {"star1", "star2", "normal"}),
    ],
)
def test_options_choose_the_files(
    server: Store,
    quick: TransferConfig,
    tmp_path: Path,
    settings: dict[str, object],
    expected: set[str],
) -> None:
    paths = fill_cohort(server)
    planned = plan(server, tmp_path, quick, **settings)
    assert {file.url for file in planned.files} == {
        server.address + paths[name] for name in expected
    }
    assert bool(planned.cases) == settings.get("clinical", True)
    assert planned.failures == ()


def test_a_list_of_patients_limits_files_and_clinical_data(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    fill_cohort(server)
    listed = tmp_path / "cases.csv"
    listed.write_text(f"patient_id,age\n{B}-01A,60\n{C},70\n")
    out = tmp_path / "out"
    done = download(server, out, quick, cases=str(listed))
    assert {name.split("/")[0] for name in done.fetched} == {"slides", "expression"}
    assert len(done.fetched) == 2
    clinical = pd.read_csv(out / "clinical" / "gdc_clinical.csv")
    assert clinical["case_submitter_id"].tolist() == [B, C]


def test_unknown_patients_are_named(server: Store, quick: TransferConfig, tmp_path: Path) -> None:
    fill_cohort(server)
    listed = tmp_path / "cases.txt"
    listed.write_text(f"{A}\nTCGA-CC-0004\nTCGA-ZZ-9999\n")
    with pytest.raises(InputError, match="TCGA-CC-0004, TCGA-ZZ-9999: not in project TCGA-COAD"):
        plan(server, tmp_path, quick, cases=str(listed))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "names no patient"), (b"\xff\xfe\x00", "is not text")],
)
def test_a_list_that_cannot_be_read(
    server: Store, quick: TransferConfig, tmp_path: Path, content: bytes | None, message: str
) -> None:
    listed = tmp_path / "cases.txt"
    if content is not None:
        listed.write_bytes(content)
    with pytest.raises(InputError, match=message):
        plan(server, tmp_path, quick, cases=str(listed))
    assert server.requests == []


@pytest.mark.parametrize(
    ("project", "hint"),
    [
        ("TCGA-COADD", "did you mean TCGA-COAD"),
        ("coad", "TCGA-COAD"),
        ("nothing-like-it", "choose a project of https://portal.gdc.cancer.gov/projects"),
    ],
)
def test_an_unknown_project_is_named_with_close_names(
    server: Store, quick: TransferConfig, tmp_path: Path, project: str, hint: str
) -> None:
    fill_cohort(server)
    with pytest.raises(InputError, match=f"the GDC has no project {project}") as caught:
        plan(server, tmp_path, quick, project=project)
    assert hint in str(caught.value.fix)


def test_a_project_without_such_files_is_noted(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    fill_cohort(server)
    noted = plan(server, tmp_path, quick, project="TCGA-READ")
    assert noted.notes == ("TCGA-READ has no open STAR counts of these patients",)
    with pytest.raises(InputError, match="has no open STAR counts"):
        plan(server, tmp_path, quick, project="TCGA-READ", slides="none", clinical=False)
    with pytest.raises(InputError, match="all switched off"):
        plan(server, tmp_path, quick, slides="none", expression="none", clinical=False)


def test_no_network_says_what_to_fetch_and_where_to_put_it(
    quick: TransferConfig, tmp_path: Path
) -> None:
    config = GdcConfig(project="TCGA-COAD", api="http://127.0.0.1:9")
    with pytest.raises(InputError, match="cannot be reached") as caught:
        plan_gdc(config, tmp_path, quick)
    fix = str(caught.value.fix)
    assert "https://portal.gdc.cancer.gov/projects/TCGA-COAD" in fix
    assert str(tmp_path / "slides") in fix
    assert str(tmp_path / "expression") in fix
    assert "\n" not in str(caught.value)


def test_names_that_would_leave_the_folder_are_rows(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    fill_cohort(server)
    server.add_slide("../../escaped-DX1.svs", b"bad", A, "TCGA-COAD")
    server.add_slide("/etc/absolute-DX1.svs", b"bad", A, "TCGA-COAD")
    server.files[0]["file_name"] = server.files[1]["file_name"]  # two files of one name
    out = tmp_path / "deep" / "out"
    done = download(server, out, quick)
    reasons = sorted(row.reason for row in read_failures(out))
    assert len(reasons) == 3
    assert sum("cannot be a file name" in reason for reason in reasons) == 2
    assert sum("another file is called" in reason for reason in reasons) == 1
    assert len(done.fetched) == 4
    assert not list(tmp_path.rglob("*escaped*"))
    assert not list(tmp_path.rglob("*absolute*"))


def test_a_broken_file_costs_a_row_and_the_next_run_fetches_it(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    paths = fill_cohort(server)
    server.faults[paths["dx2"]] = ["wrong", "wrong"]
    server.faults[paths["star1"]] = ["gone"]
    done = download(server, tmp_path, quick)
    rows = {row.slide.split("/")[0]: row for row in read_failures(tmp_path)}
    assert set(rows) == {"slides", "expression"}
    assert "md5 checksum" in rows["slides"].reason
    assert "HTTP 404" in rows["expression"].reason
    assert len(done.fetched) == 3
    record = json.loads((tmp_path / "download.json").read_text())
    assert (record["counts"]["arrived"], record["counts"]["failed"]) == (3, 2)
    # slides.csv names only slides that are there.
    assert [entry.patient_id for entry in find_slides(tmp_path / "slides.csv")] == [A]

    again = download(server, tmp_path, quick)
    assert (len(again.fetched), len(again.kept), again.failures) == (2, 3, [])
    assert not (tmp_path / "failures.csv").exists()
    assert len(find_slides(tmp_path / "slides.csv")) == 2
    assert len(server.fetched(paths["dx1"])) == 1


def test_a_dry_run_writes_the_lists_alone(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    paths = fill_cohort(server)
    list_gdc(plan(server, tmp_path, quick), tmp_path)
    assert names_in(tmp_path) == [
        "clinical/gdc_cases.json",
        "clinical/gdc_clinical.csv",
        "download.json",
        "expression/gdc_sample_sheet.tsv",
        "gdc_manifest.txt",
        "slides.csv",
    ]
    assert not any(server.fetched(path) for path in paths.values())
    assert json.loads((tmp_path / "download.json").read_text())["state"] == "listed"
    manifest = pd.read_csv(tmp_path / "gdc_manifest.txt", sep="\t")
    assert list(manifest) == ["id", "filename", "md5", "size", "state"]
    asked = {file["file_id"]: file for file in server.files}
    for row in manifest.itertuples():
        file = asked[row.id]
        told = (file["file_name"], file["md5sum"], file["file_size"], "released")
        assert (row.filename, row.md5, row.size, row.state) == told
    sheet = pd.read_csv(tmp_path / "expression" / "gdc_sample_sheet.tsv", sep="\t")
    assert sheet["Tissue Type"].value_counts().to_dict() == {"Tumor": 2, "Normal": 1}
    assert set(sheet["Project ID"]) == {"TCGA-COAD"}


def test_the_record_says_what_made_the_folder(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    fill_cohort(server)
    download(server, tmp_path, quick, clinical=False)
    record = json.loads((tmp_path / "download.json").read_text())
    assert (record["source"], record["name"], record["data_release"]) == (
        "gdc",
        "TCGA-COAD",
        RELEASE,
    )
    assert record["address"] == server.address
    assert record["settings"]["slides"] == "diagnostic"
    assert {"cases", "slides", "expression"} == set(record["filters"])
    sizes = {file["file_id"]: file["file_size"] for file in server.files}
    manifest = pd.read_csv(tmp_path / "gdc_manifest.txt", sep="\t")
    assert record["counts"]["bytes"] == sum(sizes[name] for name in manifest["id"])
    assert record["state"] == "finished"
    assert {"tcgn_mil", "python", "date", "requests"} <= set(record)


def test_a_run_that_was_stopped_has_left_its_record_and_its_lists(
    server: Store, quick: TransferConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_cohort(server)

    def stop(*arguments: object) -> Fetched:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gdc, "fetch_all", stop)
        with pytest.raises(KeyboardInterrupt):
            download(server, tmp_path, quick)
    assert json.loads((tmp_path / "download.json").read_text())["state"] == "started"
    assert (tmp_path / "gdc_manifest.txt").is_file()
    assert not (tmp_path / "slides.csv").exists()
    with pytest.raises(InputError, match="holds gdc TCGA-COAD"):
        download(server, tmp_path, quick, project="TCGA-READ")
    assert len(download(server, tmp_path, quick).fetched) == 5


def test_two_projects_do_not_share_a_folder(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    fill_cohort(server)
    download(server, tmp_path, quick)
    with pytest.raises(InputError, match="holds gdc TCGA-COAD, not gdc TCGA-READ"):
        download(server, tmp_path, quick, project="TCGA-READ")
    (tmp_path / "download.json").write_text("[]")
    with pytest.raises(InputError, match="is not a record of tcgn-mil download"):
        download(server, tmp_path, quick)


@pytest.mark.parametrize(
    ("key", "value"),
    [("project", ""), ("slides", "dx"), ("expression", "htseq"), ("api", "ftp://x")],
)
def test_wrong_settings_are_refused(key: str, value: str) -> None:
    with pytest.raises(InputError, match=key):
        GdcConfig(**{"project": "TCGA-COAD", key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("workers", 0), ("attempts", 0), ("backoff_s", -1), ("timeout_s", 0)]
)
def test_wrong_settings_of_the_transport_are_refused(key: str, value: int) -> None:
    with pytest.raises(InputError, match=key):
        TransferConfig(**{key: value})
