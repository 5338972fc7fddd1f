"""Write download.json, which says what made a folder, and keep two downloads out of one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import requests

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.failures import Failure
from tcgn_mil.preprocessing.download.remote_file import RemoteFile
from tcgn_mil.provenance import provenance

FILE_NAME = "download.json"
State = Literal["listed", "started", "finished"]


@dataclass(frozen=True)
class Origin:
    """Source of what a folder holds: the server, the project, and what was asked for.

    Attributes
    ----------
    source
        ``her2st`` or ``gdc``.
    name
        Project of the GDC, or commit of the repository.
    address
        Address of the API or of the raw files.
    release
        Data release that the source states; None if it states none.
    settings
        Options of the download.
    filters
        Filters that were sent, by endpoint.
    """

    source: str
    name: str
    address: str
    release: str | None
    settings: Mapping[str, Any]
    filters: Mapping[str, Any]


def check_folder(folder: Path, origin: Origin) -> None:
    """Raise InputError if a folder holds the download of another source or project.

    The sample sheet names one project, so that files of two projects in one folder would be read
    as one cohort, or not at all.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return
    made = read_json(path, what="a record of tcgn-mil download", fix="give --out another folder")
    other = made.get("source"), made.get("name")
    if other != (origin.source, origin.name):
        raise InputError(
            f"holds {' '.join(map(str, other))}, not {origin.source} {origin.name}",
            path=folder,
            fix="give --out another folder",
        )


def write_record(
    folder: Path,
    origin: Origin,
    files: Sequence[RemoteFile],
    *,
    state: State,
    arrived: Sequence[str] = (),
    failures: Sequence[Failure] = (),
    counts: Mapping[str, int],
) -> None:
    """Write download.json.

    Parameters
    ----------
    folder
        Output folder.
    origin
        What was downloaded.
    files
        All files that were asked for.
    state
        ``listed`` by a dry run, ``started``, or ``finished``.
    arrived
        Names of the files that are there.
    failures
        Files that could not be had.
    counts
        Further numbers, such as that of patients.
    """
    record = provenance(
        source=origin.source,
        name=origin.name,
        address=origin.address,
        data_release=origin.release,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        settings=dict(origin.settings),
        filters=dict(origin.filters),
        state=state,
        counts={
            "files": len(files),
            "bytes": sum(file.size or 0 for file in files),
            "arrived": len(arrived),
            "failed": len(failures),
            **counts,
        },
        requests=requests.__version__,
    )
    write_json(folder / FILE_NAME, record)
