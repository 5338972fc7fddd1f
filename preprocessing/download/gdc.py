"""Plan and run a download of a project of the GDC (Genomic Data Commons).

The folder has ``slides/`` with the slides, ``expression/`` with STAR counts and their sample sheet,
``clinical/gdc_clinical.csv``, ``slides.csv`` and ``gdc_manifest.txt``. Only files of open access
are asked for. The list of files comes from the API's answer, whose checksums and sizes the manifest
repeats, so that ``gdc-client`` can fetch the same files.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name, write_json
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.preprocessing.download.case_list import read_case_list
from tcgn_mil.preprocessing.download.config import GdcConfig, TransferConfig
from tcgn_mil.preprocessing.download.fetch_all import STAGE, Fetched, check_space, fetch_all
from tcgn_mil.preprocessing.download.gdc_api import (
    Case,
    GdcApi,
    GdcFile,
    Project,
    all_of,
    is_in,
)
from tcgn_mil.preprocessing.download.gdc_tables import (
    write_clinical_table,
    write_manifest,
    write_sample_sheet,
    write_slides_table,
)
from tcgn_mil.preprocessing.download.record import Origin, check_folder, write_record
from tcgn_mil.preprocessing.download.remote_file import Checksum, RemoteFile
from tcgn_mil.preprocessing.download.session import open_session
from tcgn_mil.text import preview

PORTAL = "https://portal.gdc.cancer.gov"
SLIDES, EXPRESSION, CLINICAL = "slides", "expression", "clinical"
MANIFEST, SLIDES_TABLE = "gdc_manifest.txt", "slides.csv"
SAMPLE_SHEET, CLINICAL_TABLE, CASES_FILE = (
    "gdc_sample_sheet.tsv",
    "gdc_clinical.csv",
    "gdc_cases.json",
)
_STRATEGIES = {
    "diagnostic": ("Diagnostic Slide",),
    "frozen": ("Tissue Slide",),
    "all": ("Diagnostic Slide", "Tissue Slide"),
}
_OPEN = is_in("access", ["open"])


@dataclass(frozen=True)
class GdcPlan:
    """Files and tables of a download, before the first file is fetched.

    Attributes
    ----------
    origin
        What is downloaded, for download.json.
    files
        Files to fetch.
    hits
        What the GDC says about each file, by its name in the folder.
    cases
        Patients with their clinical data; empty if none are asked for.
    failures
        Files that cannot be fetched, such as those whose name would leave the folder.
    notes
        Messages that are printed for the user.
    """

    origin: Origin
    files: tuple[RemoteFile, ...]
    hits: Mapping[str, GdcFile]
    cases: tuple[Case, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]

    def of(self, folder: str) -> list[RemoteFile]:
        """Return the files of one folder."""
        return [file for file in self.files if file.name.startswith(f"{folder}/")]


def plan_gdc(config: GdcConfig, out: Path, transfer: TransferConfig) -> GdcPlan:
    """Ask the GDC which files and patients a download has.

    Parameters
    ----------
    config
        Project and kinds of files.
    out
        Output folder, for messages; nothing is written.
    transfer
        Settings of the transport.

    Raises
    ------
    InputError
        If the API cannot be reached, the project or a patient is unknown, or there is no file.
    """
    wanted = None if config.cases is None else read_case_list(Path(config.cases))
    if (config.slides, config.expression, config.clinical) == ("none", "none", False):
        raise InputError(
            "slides, expression and clinical data are all switched off",
            fix="remove one of --slides none, --expression none and --no-clinical",
        )
    with open_session(transfer, connects=1) as session:
        return _plan(session, config, out, transfer, wanted)


def _plan(
    session: requests.Session,
    config: GdcConfig,
    out: Path,
    transfer: TransferConfig,
    wanted: Sequence[str] | None,
) -> GdcPlan:
    api = GdcApi(session, config.api, transfer, by_hand=_by_hand(config, out))
    release = api.status().data_release
    filters: dict[str, Any] = {"cases": is_in("project.project_id", [config.project])}
    cases = api.search("cases", Case, filters["cases"], key="case_id")
    if not cases:
        raise _unknown_project(api, config.project)
    if wanted is not None:
        cases = _chosen(cases, wanted, config)
    filters |= _file_filters(config, cases if wanted is not None else None)
    hits, failures = [], []
    files: list[RemoteFile] = []
    notes = []
    for folder in (SLIDES, EXPRESSION):
        if folder not in filters:
            continue
        listed = api.search("files", GdcFile, filters[folder], key="file_id")
        if not listed:
            notes.append(f"{config.project} has no open {_named(folder, config)} of these patients")
        for hit in listed:
            try:
                files.append(_remote(hit, folder, api, {file.name for file in files}))
                hits.append(hit)
            except InputError as error:
                failures.append(Failure(hit.file_id, STAGE, error.reason, error.fix or ""))
    if not files and not failures and not config.clinical:
        raise InputError("; ".join(notes), fix="choose other --slides or --expression")
    origin = Origin("gdc", config.project, api.address, release, asdict(config), filters)
    return GdcPlan(
        origin,
        tuple(files),
        {file.name: hit for file, hit in zip(files, hits, strict=True)},
        tuple(cases) if config.clinical else (),
        tuple(failures),
        tuple(notes),
    )


def _file_filters(config: GdcConfig, cases: Sequence[Case] | None) -> dict[str, Any]:
    """Return the filters of the files of each folder; `cases` are None for all of the project."""
    common = [is_in("cases.project.project_id", [config.project]), _OPEN]
    if cases is not None:
        common.append(is_in("cases.submitter_id", [case.submitter_id for case in cases]))
    filters = {}
    if config.slides != "none":
        kinds = is_in("experimental_strategy", _STRATEGIES[config.slides])
        filters[SLIDES] = all_of([*common, is_in("data_type", ["Slide Image"]), kinds])
    if config.expression != "none":
        kind = is_in("data_type", ["Gene Expression Quantification"])
        workflow = is_in("analysis.workflow_type", ["STAR - Counts"])
        filters[EXPRESSION] = all_of([*common, kind, workflow])
    return filters


def _named(folder: str, config: GdcConfig) -> str:
    if folder == EXPRESSION:
        return "STAR counts"
    return "slides" if config.slides == "all" else f"{config.slides} slides"


def _by_hand(config: GdcConfig, out: Path) -> str:
    return (
        f"check the network; without one, fetch on another machine from {PORTAL}/projects/"
        f"{config.project}, and put slides into {out / SLIDES}, and STAR counts with their"
        f" {SAMPLE_SHEET} into {out / EXPRESSION}"
    )


def _unknown_project(api: GdcApi, project: str) -> InputError:
    """Return the error for a project without any patient, with names that are close to its own."""
    names = sorted(
        hit.project_id for hit in api.search("projects", Project, None, key="project_id")
    )
    if project in names:
        return InputError(
            f"project {project} has no patient in this release of the GDC",
            fix=f"look at {PORTAL}/projects/{project}",
        )
    by_upper = {name.upper(): name for name in names}
    upper = project.upper()
    close = difflib.get_close_matches(upper, by_upper, n=3, cutoff=0.6)
    close += [name for name in by_upper if name.endswith(f"-{upper}") and name not in close]
    hint = preview([by_upper[name] for name in close]) if close else ""
    return InputError(
        f"the GDC has no project {project}",
        fix=f"did you mean {hint}?" if hint else f"choose a project of {PORTAL}/projects",
    )


def _chosen(cases: Sequence[Case], wanted: Sequence[str], config: GdcConfig) -> list[Case]:
    by_name = {case.submitter_id.upper(): case for case in cases}
    if unknown := [name for name in wanted if name.upper() not in by_name]:
        raise InputError(
            f"{preview(unknown)}: not in project {config.project}, which has {len(cases)} patients,"
            f" such as {cases[0].submitter_id}",
            path=config.cases,
            fix="remove these lines, or check --project",
        )
    return list({name.upper(): by_name[name.upper()] for name in wanted}.values())


def _remote(hit: GdcFile, folder: str, api: GdcApi, taken: Set[str]) -> RemoteFile:
    """Return the file of a hit.

    Raises
    ------
    InputError
        If the name is not a plain file name, is taken, or the file is not open.
    """
    by_id = f"fetch it by its id with gdc-client: {hit.file_id}"
    if hit.access != "open":
        raise InputError(f"{hit.file_name!r} is not of open access", fix=by_id)
    name = f"{folder}/{safe_file_name(hit.file_name, what='file name')}"
    if name in taken:
        raise InputError(f"another file is called {hit.file_name!r} too", fix=by_id)
    return RemoteFile(name, api.data_url(hit.file_id), Checksum("md5", hit.md5sum), hit.file_size)


def write_lists(plan: GdcPlan, out: Path) -> dict[str, int]:
    """Write the manifest, the sample sheet and the clinical table, which need no file.

    Returns
    -------
    dict
        Number of patients, and of those with survival, if clinical data are asked for.
    """
    check_folder(out, plan.origin)
    if plan.files:
        write_manifest(out / MANIFEST, [plan.hits[file.name] for file in plan.files])
    if expression := plan.of(EXPRESSION):
        hits = [plan.hits[file.name] for file in expression]
        write_sample_sheet(out / EXPRESSION / SAMPLE_SHEET, hits, plan.origin.name)
    if not plan.cases:
        return {}
    write_json(out / CLINICAL / CASES_FILE, {"cases": [case.model_dump() for case in plan.cases]})
    survival = write_clinical_table(out / CLINICAL / CLINICAL_TABLE, plan.cases)
    return {"patients": len(plan.cases), "patients_with_survival": survival}


def list_gdc(plan: GdcPlan, out: Path) -> None:
    """Write all tables of a download without its files (``--dry-run``)."""
    counts = write_lists(plan, out)
    _write_slides(plan, out, None)
    write_failures(out, plan.failures)
    write_record(
        out, plan.origin, plan.files, state="listed", failures=plan.failures, counts=counts
    )


def download_gdc(plan: GdcPlan, out: Path, transfer: TransferConfig) -> Fetched:
    """Fetch the files of a plan, and write its tables.

    Returns
    -------
    Fetched
        The files by outcome; failures include those of the plan.

    Raises
    ------
    InputError
        If the folder holds another project, or the disk has too little room.
    """
    check_folder(out, plan.origin)
    check_space(plan.files, out)
    counts = write_lists(plan, out)
    write_record(out, plan.origin, plan.files, state="started", counts=counts)
    done = fetch_all(plan.files, out, transfer)
    done = done._replace(failures=[*plan.failures, *done.failures])
    arrived = {*done.fetched, *done.kept}
    _write_slides(plan, out, arrived)
    write_failures(out, done.failures)
    write_record(
        out,
        plan.origin,
        plan.files,
        state="finished",
        arrived=sorted(arrived),
        failures=done.failures,
        counts=counts,
    )
    return done


def _write_slides(plan: GdcPlan, out: Path, arrived: set[str] | None) -> None:
    """Write slides.csv of the slides that are there; of all for a dry run."""
    slides = [file.name for file in plan.of(SLIDES) if arrived is None or file.name in arrived]
    if slides:
        write_slides_table(out / SLIDES_TABLE, slides, [plan.hits[name] for name in slides])
