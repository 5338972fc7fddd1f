"""A run folder: config.yaml and run.json first, results in between, summary.json (the completion marker) last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tcgn_mil.config import as_plain, differing_keys, write_config
from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_json
from tcgn_mil.provenance import provenance
from tcgn_mil.text import preview

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
_DESCRIPTION = frozenset({"config.yaml", RUN_FILE})


def begin_run(out_dir: str | Path, kind: str, config: Any) -> Path:
    """Make or re-enter a run folder.

    Raises
    ------
    InputError
        If the folder holds a run of another kind or config, naming the keys that differ.
    """
    out_dir = Path(out_dir)
    marker = out_dir / RUN_FILE
    if marker.is_file() and not _holds_only(
        out_dir, _DESCRIPTION
    ):  # a first try that failed blocks no second one
        _check_same_run(marker, kind, as_plain(config))
        return out_dir
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made a folder ({error.strerror})", path=out_dir, fix="give another --out"
        ) from None
    write_config(out_dir / "config.yaml", config)
    write_json(marker, provenance(kind=kind, config=as_plain(config)))
    return out_dir


def _holds_only(folder: Path, names: frozenset[str]) -> bool:
    return {path.name for path in folder.iterdir()} <= names


def finished_summary(out_dir: str | Path) -> dict[str, Any] | None:
    """The summary of a completed run, or None where the run is unfinished."""
    path = Path(out_dir) / SUMMARY_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def finish_run(out_dir: str | Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Write the summary, which marks the run as complete."""
    write_json(Path(out_dir) / SUMMARY_FILE, summary)
    return summary


def read_run(out_dir: str | Path, *, kind: str) -> dict[str, Any]:
    """run.json of a completed run of `kind`.

    Raises
    ------
    InputError
        If the folder holds no such run, or one that has not finished.
    """
    marker = Path(out_dir) / RUN_FILE
    if not marker.is_file():
        raise InputError(
            f"holds no {kind} run ({RUN_FILE} is missing)",
            path=out_dir,
            fix=f"run tcgn-mil {kind} first",
        )
    run = json.loads(marker.read_text(encoding="utf-8"))
    if run.get("kind") != kind:
        raise InputError(
            f"holds a {run.get('kind')} run, not a {kind} run", path=out_dir, fix="check the path"
        )
    if finished_summary(out_dir) is None:
        raise InputError(
            f"the {kind} run in it has not finished", path=out_dir, fix="run the same command again"
        )
    return run


def _check_same_run(marker: Path, kind: str, config: dict[str, Any]) -> None:
    run = json.loads(marker.read_text(encoding="utf-8"))
    if run.get("kind") != kind:
        raise InputError(
            f"holds a {run.get('kind')} run", path=marker.parent, fix="choose another --out folder"
        )
    different = differing_keys(run.get("config", {}), json.loads(json.dumps(config, default=str)))
    if different:
        raise InputError(
            f"holds a run of another config; differing keys: {preview(different)}",
            path=marker.parent,
            fix="choose another --out folder, or remove this one",
        )
