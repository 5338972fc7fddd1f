"""Searches of the API: pages, filters, and answers that are not to be trusted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from download_server import RELEASE, Store, fill_cohort, identifier

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.download import gdc_api
from tcgn_mil.preprocessing.download.config import TransferConfig
from tcgn_mil.preprocessing.download.gdc_api import (
    Case,
    GdcApi,
    GdcFile,
    Project,
    all_of,
    fields_of,
    is_in,
)
from tcgn_mil.preprocessing.download.session import open_session


@pytest.fixture
def api(server: Store, quick: TransferConfig) -> Iterator[GdcApi]:
    with open_session(quick) as session:
        yield GdcApi(session, server.address + "/", quick, by_hand="fetch it by hand")


def test_the_release_is_read(api: GdcApi) -> None:
    assert api.status().data_release == RELEASE


def test_pages_make_up_one_list(
    server: Store, api: GdcApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        server.add_project(f"P-{number}")
    monkeypatch.setattr(gdc_api, "PAGE", 3)
    found = api.search("projects", Project, None, key="project_id")
    assert [hit.project_id for hit in found] == [f"P-{number}" for number in range(7)]
    asked = [(question["from"], question["size"]) for question in server.questions]
    assert asked == [(0, 3), (3, 3), (6, 3)]


def test_a_list_that_changes_between_pages_is_refused(
    server: Store, api: GdcApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        server.add_project(f"P-{number}")
    monkeypatch.setattr(gdc_api, "PAGE", 3)
    server.faults["/projects"] = ["", "shuffled"]
    with pytest.raises(InputError, match="do not make up one list"):
        api.search("projects", Project, None, key="project_id")


def test_filters_and_fields_reach_nested_values(server: Store, api: GdcApi) -> None:
    fill_cohort(server)
    filters = all_of(
        [
            is_in("cases.project.project_id", ["TCGA-COAD"]),
            is_in("access", ["open"]),
            is_in("analysis.workflow_type", ["STAR - Counts"]),
        ]
    )
    found = api.search("files", GdcFile, filters, key="file_id")
    samples = sorted(hit.cases[0].samples[0].submitter_id for hit in found)
    assert samples == ["TCGA-AA-0001-01A", "TCGA-AA-0001-11A", "TCGA-AA-0002-01A"]
    assert "cases.samples.tissue_type" in fields_of(GdcFile)
    assert "demographic.vital_status" in fields_of(Case)


def test_a_busy_api_is_asked_again(server: Store, api: GdcApi) -> None:
    server.faults["/status"] = ["busy"]
    assert api.status().status == "OK"
    assert [path for _, path, _ in server.requests] == ["/status", "/status"]


def test_an_answer_that_is_not_json_is_refused(server: Store, api: GdcApi) -> None:
    server.faults["/projects"] = ["not-json"]
    with pytest.raises(InputError, match="cannot be used: it is not JSON"):
        api.search("projects", Project, None, key="project_id")


def test_an_answer_that_is_too_long_is_refused(
    server: Store, api: GdcApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_project("P" * 150)
    monkeypatch.setattr(gdc_api, "MAX_ANSWER_BYTES", 100)
    with pytest.raises(InputError, match="more than 0 MiB"):
        api.search("projects", Project, None, key="project_id")


@pytest.mark.parametrize(
    ("key", "value"),
    [("md5sum", "no"), ("file_size", -1), ("file_id", "../x"), ("cases", []), ("file_name", 3)],
)
def test_a_hit_of_another_form_is_refused(
    server: Store, api: GdcApi, key: str, value: object
) -> None:
    server.add_slide("S-DX1.svs", b"x", "TCGA-AA-0001", "TCGA-COAD")
    server.files[0][key] = value
    with pytest.raises(InputError, match=rf"answer of the API cannot be used: {key}"):
        api.search("files", GdcFile, None, key="file_name")


def test_an_endpoint_that_is_not_there_is_named(server: Store, quick: TransferConfig) -> None:
    with open_session(quick) as session:
        api = GdcApi(session, f"{server.address}/v9", quick, by_hand="")
        with pytest.raises(InputError, match=r"/v9/status: the API answers with HTTP 404.*--api"):
            api.status()


def test_an_id_is_a_uuid() -> None:
    case = Case(case_id=identifier("x"), submitter_id="x")
    assert case.diagnoses == []
