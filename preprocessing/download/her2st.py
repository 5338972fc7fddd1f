"""Download the her2st sections (Andersson et al., Nature Communications 2021).

The archives of Zenodo record 3957257 are encrypted, and their passwords are in the README of the
authors' repository, almaan/her2st. That repository holds the same counts, images and spot files in
the open. They are fetched from there at one commit. ``her2st_files.csv`` lists them with the names
that git gives to their content, which the commit fixes, and which are checked after the download.
The sizes of most images were not at hand when the list was made; the server is asked for them.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.resources import files as package_files
from pathlib import Path

import requests

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import write_failures
from tcgn_mil.preprocessing.download.config import Her2stConfig, TransferConfig
from tcgn_mil.preprocessing.download.fetch_all import Fetched, check_space, fetch_all
from tcgn_mil.preprocessing.download.record import Origin, check_folder, write_record
from tcgn_mil.preprocessing.download.remote_file import Checksum, RemoteFile
from tcgn_mil.preprocessing.download.session import describe, open_session

COMMIT = "85df7411b987a7dec3feff9718b869a7a82091ec"
PAGE = "https://github.com/almaan/her2st"
LIST = "her2st_files.csv"


@dataclass(frozen=True)
class Her2stPlan:
    """Files of the download.

    Attributes
    ----------
    origin
        What is downloaded, for download.json.
    files
        The files, with sizes where the list or the server states them.
    """

    origin: Origin
    files: tuple[RemoteFile, ...]


def her2st_files(config: Her2stConfig) -> list[RemoteFile]:
    """Return the 108 files of the 36 sections: counts, an image and a spot file of each."""
    text = (package_files("tcgn_mil.preprocessing.download") / LIST).read_text(encoding="utf-8")
    base = f"{config.address.rstrip('/')}/{COMMIT}/data"
    return [
        RemoteFile(
            row["path"],
            f"{base}/{row['path']}",
            Checksum("git-blob", row["git_blob"]),
            int(row["bytes"]) if row["bytes"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    ]


def plan_her2st(config: Her2stConfig, out: Path, transfer: TransferConfig) -> Her2stPlan:
    """List the files, and ask for the sizes of those that are missing.

    Raises
    ------
    InputError
        If a file is missing and the server cannot be reached.
    """
    files = her2st_files(config)
    unsized = [file for file in files if file.size is None and not (out / file.name).is_file()]
    sizes: dict[str, int | None] = {}
    if unsized:
        with (
            open_session(transfer, connects=1) as session,
            ThreadPoolExecutor(transfer.workers) as pool,
        ):

            def ask(file: RemoteFile) -> int | None:
                return _size(session, file, out, transfer)

            # The first answer alone tells whether there is a network.
            sizes[unsized[0].name] = ask(unsized[0])
            rest = unsized[1:]
            sizes |= dict(zip([file.name for file in rest], pool.map(ask, rest), strict=True))
    sized = tuple(
        replace(file, size=sizes[file.name]) if file.name in sizes else file for file in files
    )
    origin = Origin("her2st", COMMIT, config.address, None, asdict(config), {})
    return Her2stPlan(origin, sized)


def _size(
    session: requests.Session, file: RemoteFile, out: Path, transfer: TransferConfig
) -> int | None:
    try:
        answer = session.head(file.url, allow_redirects=True, timeout=transfer.timeout_s)
    except requests.RequestException as error:
        raise InputError(
            f"cannot be reached ({describe(error)})",
            path=file.url,
            fix=f"check the network; without one, clone {PAGE} on another machine, and put the"
            f" folders ST-cnts, ST-imgs and ST-spotfiles of its data/ into {out}",
        ) from error
    length = answer.headers.get("Content-Length", "")
    return int(length) if answer.ok and length.isdecimal() else None


def list_her2st(plan: Her2stPlan, out: Path) -> None:
    """Write download.json without any file (``--dry-run``)."""
    check_folder(out, plan.origin)
    write_record(out, plan.origin, plan.files, state="listed", counts=_counts(plan))


def download_her2st(plan: Her2stPlan, out: Path, transfer: TransferConfig) -> Fetched:
    """Fetch the files of a plan into the layout that ``tcgn-mil spots`` reads.

    Raises
    ------
    InputError
        If the folder holds another download, or the disk has too little room.
    """
    check_folder(out, plan.origin)
    check_space(plan.files, out)
    write_record(out, plan.origin, plan.files, state="started", counts=_counts(plan))
    done = fetch_all(plan.files, out, transfer)
    write_failures(out, done.failures)
    write_record(
        out,
        plan.origin,
        plan.files,
        state="finished",
        arrived=[*done.fetched, *done.kept],
        failures=done.failures,
        counts=_counts(plan),
    )
    return done


def _counts(plan: Her2stPlan) -> dict[str, int]:
    return {"sections": len({_section(file.name) for file in plan.files})}


def _section(name: str) -> str:
    parts: Sequence[str] = name.split("/")
    return parts[2] if parts[0] == "ST-imgs" else parts[-1].split(".")[0].split("_")[0]
