"""Record what went into a run, so that it never continues on, or is returned for, other inputs.

``inputs.json`` in the folder of a run has a schema version and, under ``digests``, one digest for
each input, by the name that messages use. It is written before any result. Runs that are cheap
start from the beginning each time. If their inputs changed, the earlier results are set aside
first, so that no figure of a slide or a patient stays that the new run does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import (
    DESCRIPTION,
    INPUTS_FILE,
    SUMMARY_FILE,
    begin_run,
    check_schema_version,
)
from tcgn_mil.file_formats.json_file import check_object, read_json
from tcgn_mil.io.atomic import write_json
from tcgn_mil.provenance import SCHEMA_VERSION
from tcgn_mil.resume.digests import MISSING, digests_of
from tcgn_mil.resume.set_aside import FOLDER, set_aside
from tcgn_mil.text import preview


def check_same_inputs(out_dir: Path, digests: Mapping[str, str], *, finished: bool) -> None:
    """Refuse to continue or to return a run whose inputs changed since it began.

    Parameters
    ----------
    out_dir
        Folder of the run. A folder without recorded digests passes.
    digests
        Digest of each input, by its name in the message.
    finished
        Whether the run is complete, for the message.

    Raises
    ------
    InputError
        If an input changed. The message names the inputs.
    """
    before = _recorded(out_dir)
    changed = [
        f"{name}{' (not there any more)' if digest == MISSING else ''}"
        for name, digest in digests.items()
        if before.get(name, digest) != digest
    ]
    if changed:
        raise InputError(
            f"holds {'a finished' if finished else 'an unfinished'} run on other inputs:"
            f" {preview(changed, most=6)} changed since it began",
            path=out_dir,
            fix="choose another --out folder, or remove this one",
        )


def _recorded(out_dir: Path) -> dict[str, str]:
    marker = out_dir / INPUTS_FILE
    if not marker.is_file():
        return {}
    what, fix = "the record of a run's inputs", "choose another --out folder, or remove this one"
    stored = read_json(marker, what=what, fix=fix)
    check_schema_version(stored, marker)
    if "schema_version" not in stored:  # an older file, which holds the digests alone
        stored = {"digests": stored}
    return check_object(_InputsFile, stored, marker, what=what, fix=fix).digests


@dataclass(frozen=True)
class _InputsFile:
    """Schema of `INPUTS_FILE`."""

    digests: dict[str, str]


def write_inputs(out_dir: Path, digests: Mapping[str, str]) -> None:
    """Write the digests of the inputs of a run into its folder."""
    write_json(out_dir / INPUTS_FILE, {"schema_version": SCHEMA_VERSION, "digests": dict(digests)})


def record_inputs(
    out_dir: Path, inputs: Mapping[str, str | Path | None], *, finished: bool
) -> None:
    """Record the inputs of a run in its folder, or check that they are those recorded before.

    Raises
    ------
    InputError
        If an input changed since the run began.
    """
    digests = digests_of(inputs)
    check_same_inputs(out_dir, digests, finished=finished)
    if not (out_dir / INPUTS_FILE).is_file() and not finished:
        write_inputs(out_dir, digests)


def existing(config: Any, keys: Iterable[str]) -> dict[str, str]:
    """Return the files and folders that keys of a config name, as inputs of a run.

    A value may also be the name of a model on a hub or of an encoder. It is part of the config
    then, and left out here.
    """
    inputs = {}
    for key in keys:
        value = getattr(config, key)
        for number, name in enumerate(value if isinstance(value, tuple) else (value,)):
            if name is not None and Path(name).exists():
                inputs[key if number == 0 else f"{key} {number + 1}"] = str(name)
    return inputs


def begin_again(
    out_dir: str | Path,
    kind: str,
    config: Any,
    inputs: Mapping[str, str | Path | None],
    *,
    keep: frozenset[str] = frozenset(),
) -> tuple[Path, list[str]]:
    """Begin a run that starts from the beginning each time it is called.

    The summary of an earlier run is removed first, because a folder with a summary counts as
    finished. If the inputs changed since then, or are not known, all other earlier results are
    moved to ``set-aside``.

    Parameters
    ----------
    out_dir, kind, config
        As in :func:`~tcgn_mil.experiments.runs.run_folder.begin_run`.
    inputs
        Files and folders that are read, by the names that notes use; None for what is not used.
    keep
        Names in the folder that stay in any case.

    Returns
    -------
    out_dir : Path
        The folder.
    notes : list of str
        A sentence for the user if earlier results were set aside.

    Raises
    ------
    InputError
        If the folder holds a run of another kind or config.
    """
    out_dir = begin_run(out_dir, kind, config)
    before = _recorded(out_dir)
    digests = digests_of(inputs, quick=True)
    (out_dir / SUMMARY_FILE).unlink(missing_ok=True)
    results = [
        path
        for path in sorted(out_dir.iterdir())
        if not path.name.startswith(".") and path.name not in {*DESCRIPTION, *keep, FOLDER}
    ]
    notes = []
    if results and before != digests:
        set_aside(out_dir, results)
        changed = [name for name in digests if before.get(name) != digests[name]]
        why = f"{preview(changed)} changed since" if before else "they do not say their inputs"
        notes = [f"the results of an earlier run were moved to {out_dir / FOLDER}, because {why}"]
    # Written last: if the run is killed before, the next one sets aside what is left.
    write_inputs(out_dir, digests)
    return out_dir, notes
