"""Begin, resume, finish and read the folder of a run.

A run folder receives ``config.yaml`` and ``run.json`` first, results in between, and
``summary.json`` last. The summary marks the run as finished.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcgn_mil.config import as_plain, differing_keys, write_config
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.log_files import RUN_LOG
from tcgn_mil.file_formats.json_file import check_object, read_json
from tcgn_mil.io.atomic import without_nan, write_json
from tcgn_mil.provenance import SCHEMA_VERSION, provenance
from tcgn_mil.text import preview

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
INPUTS_FILE = "inputs.json"  # digests of what went into the run
_DAMAGED_FIX = "run the command again into a new folder, or copy this file again"
DESCRIPTION = frozenset({"config.yaml", RUN_FILE, INPUTS_FILE, RUN_LOG})


def begin_run(out_dir: str | Path, kind: str, config: Any, *, verb: str | None = None) -> Path:
    """Make the folder of a run, or enter that of an unfinished run with the same config.

    Parameters
    ----------
    out_dir
        The folder.
    kind
        Kind of run, usually the verb.
    config
        A resolved config.
    verb
        The verb, if several verbs make runs of this kind.

    Raises
    ------
    InputError
        If the folder cannot be made, or holds a run of another kind or config. In the second case
        the error names the keys that differ.
    """
    out_dir = Path(out_dir)
    marker = out_dir / RUN_FILE
    # A first try that failed before it wrote any result does not block a second one.
    if marker.is_file() and not _holds_only(out_dir, DESCRIPTION):
        _check_same_run(marker, kind, as_plain(config))
        return out_dir
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made a folder ({error.strerror})", path=out_dir, fix="give another --out"
        ) from None
    (out_dir / INPUTS_FILE).unlink(missing_ok=True)  # of a first try that wrote no result
    write_config(out_dir / "config.yaml", config)
    write_json(marker, provenance(kind=kind, verb=verb or kind, config=as_plain(config)))
    return out_dir


def _holds_only(folder: Path, names: frozenset[str]) -> bool:
    # The lock of this run is no result, and has a hidden name.
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= names


def finished_summary(out_dir: str | Path) -> dict[str, Any] | None:
    """Return the summary of a finished run, or None if the run has not finished."""
    path = Path(out_dir) / SUMMARY_FILE
    if not path.is_file():
        return None
    summary = read_json(path, what="the summary of a run", fix=_DAMAGED_FIX)
    check_schema_version(summary, path)
    return summary


def check_schema_version(stored: Mapping[str, Any], path: Path) -> None:
    """Refuse a file of a run that a later version of this package wrote in another form.

    Older files state no version, and have the first form.
    """
    version = stored.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise InputError(
            f"has schema version {version}, and this version of tcgn-mil reads {SCHEMA_VERSION}",
            path=path,
            fix="upgrade tcgn-mil, or run the command again into a new folder",
        )


def finish_run(out_dir: str | Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Write the summary, which marks the run as finished, and return it with its schema version.

    A number that does not exist is null in the file, since JSON has neither NaN nor infinity.
    """
    summary = {**summary, "schema_version": SCHEMA_VERSION}  # the headline stays on top
    write_json(Path(out_dir) / SUMMARY_FILE, without_nan(summary))
    return summary


@dataclass(frozen=True)
class _RunFile:
    """Schema of `RUN_FILE`, as far as other verbs read it."""

    kind: str
    config: dict[str, Any] = field(default_factory=dict)


def read_run_file(out_dir: str | Path) -> dict[str, Any]:
    """Read ``run.json`` of a run, finished or not.

    Raises
    ------
    InputError
        If the file is missing or damaged, or its config is no mapping.
    """
    path, what = Path(out_dir) / RUN_FILE, "the record of a run"
    run = read_json(path, what=what, fix=_DAMAGED_FIX)
    check_object(_RunFile, run, path, what=what, fix=_DAMAGED_FIX)
    return run


def run_kind(out_dir: str | Path) -> str | None:
    """Return the kind of the run in a folder, finished or not; None if it holds no run."""
    marker = Path(out_dir) / RUN_FILE
    if not marker.is_file():
        return None
    return str(read_run_file(out_dir)["kind"])


def read_run(out_dir: str | Path, *, kinds: Collection[str], verbs: str) -> dict[str, Any]:
    """Read ``run.json`` of a finished run.

    Parameters
    ----------
    out_dir
        Folder of the run.
    kinds
        Kinds of run that are expected.
    verbs
        The verbs that write such folders, for messages, as in ``finetune or slide-cv``.

    Raises
    ------
    InputError
        If the folder holds no run of these kinds, or one that has not finished.
    """
    marker, fix = Path(out_dir) / RUN_FILE, f"give the folder that tcgn-mil {verbs} wrote"
    if not Path(out_dir).is_dir():
        raise InputError("no such folder", path=out_dir, fix=fix)
    if not marker.is_file():
        raise InputError(f"holds no run of {verbs} ({RUN_FILE} is missing)", path=out_dir, fix=fix)
    run = read_run_file(out_dir)
    if run["kind"] not in kinds:
        raise InputError(f"holds a {run['kind']} run, not one of {verbs}", path=out_dir, fix=fix)
    if finished_summary(out_dir) is None:
        raise InputError(
            f"the {run['kind']} run in it has not finished",
            path=out_dir,
            fix="run the same command again",
        )
    return run


def _check_same_run(marker: Path, kind: str, config: dict[str, Any]) -> None:
    run = read_run_file(marker.parent)
    if run.get("kind") != kind:
        raise InputError(
            f"holds a {run.get('kind')} run", path=marker.parent, fix="choose another --out folder"
        )
    # The config went through JSON once when it was written, so it is compared in that form.
    different = differing_keys(run.get("config", {}), json.loads(json.dumps(config, default=str)))
    if different:
        raise InputError(
            f"holds a run of another config; differing keys: {preview(different)}",
            path=marker.parent,
            fix="choose another --out folder, or remove this one",
        )
