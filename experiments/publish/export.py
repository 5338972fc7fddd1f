"""Export predictions of runs for a paper: CSV and .h5ad files, a README, and digests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from tcgn_mil.checkpoints.published import CARD, DIGESTS, file_digest
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.report import methods as predict_methods
from tcgn_mil.experiments.publish.card import render
from tcgn_mil.experiments.publish.columns import describe_column
from tcgn_mil.experiments.publish.config import ExportConfig
from tcgn_mil.experiments.publish.new_folder import new_folder
from tcgn_mil.experiments.publish.shareable import shareable, without_folders
from tcgn_mil.experiments.runs.run_folder import finished_summary, read_run, run_kind
from tcgn_mil.experiments.slide_level.report import methods as slide_methods
from tcgn_mil.io.anndata_file import META_KEY, open_anndata, stored_meta, write_anndata
from tcgn_mil.io.atomic import write_csv, write_json, write_text
from tcgn_mil.text import counted
from tcgn_mil.version import __version__

SCHEMA = 1
# Kind of run -> its file of predictions.
_PREDICTIONS = {"finetune": "out_of_fold.h5ad", "predict": "predicted.h5ad"}
_VERBS = "finetune, slide-cv or predict"
# Layer of that file -> name and meaning of the exported table.
_TABLES = {
    "truth": ("measured", "measured expression"),
    "sd": ("sd", "standard deviation over the fold models; empty for a patient of one model"),
    "low": ("low", "lower bound of the prediction interval"),
    "high": ("high", "upper bound of the prediction interval"),
}


def export_runs(config: ExportConfig, out_dir: str | Path) -> list[str]:
    """Write the predictions of runs into one folder that can be given to others.

    Each run has a folder with ``predictions.csv`` (patients x genes), tables of the same shape for
    measured values, interval bounds and spread, ``patients.csv``, ``genes.csv``, and
    ``predictions.h5ad`` with all of them. ``README.md`` explains every column, and
    ``digests.json`` has the SHA-256 digest of each file. No file holds the path of a folder.

    Parameters
    ----------
    config
        The runs.
    out_dir
        Folder to write. A folder that was exported before is replaced.

    Returns
    -------
    One sentence for each run.

    Raises
    ------
    InputError
        If a run is not a finished one of ``finetune``, ``slide-cv`` or ``predict``, or if the
        folder holds something else.
    """
    runs = [Path(run) for run in config.runs]
    names = _folder_names(runs)
    for run in runs:
        _check_run(run)
    with new_folder(Path(out_dir)) as folder:
        exported = [_export(run, folder / name) for run, name in zip(runs, names, strict=True)]
        text = render("predictions.md", {"runs": exported, "version": __version__})
        write_text(folder / CARD, text)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
        write_json(
            folder / DIGESTS,
            {
                "schema_version": SCHEMA,
                "kind": "predictions",
                "tcgn_mil": __version__,
                "files": digests,
            },
        )
    return [
        f"{each['name']}: {counted(each['patients'], 'patient')} x {each['genes']} genes,"
        f" {each['protocol_short']}"
        for each in exported
    ]


def _check_run(run: Path) -> None:
    if (held := run_kind(run)) is not None and held not in _PREDICTIONS:
        raise InputError(
            f"holds a {held} run, which has no predictions of patients to export",
            path=run,
            fix=f"give folders of runs of {_VERBS}",
        )
    read_run(run, kinds=_PREDICTIONS, verbs=_VERBS)


def _folder_names(runs: list[Path]) -> list[str]:
    """Return a folder name for each run: its own name, with a number where two are the same."""
    names: list[str] = []
    for run in runs:
        name = run.resolve().name
        number = sum(other == name or other.startswith(f"{name}-") for other in names)
        names.append(f"{name}-{number + 1}" if number else name)
    return names


def _export(run: Path, folder: Path) -> dict[str, Any]:
    """Write the files of one run, and return what the README tells of it."""
    made = read_run(run, kinds=_PREDICTIONS, verbs=_VERBS)
    kind, summary = made["kind"], finished_summary(run) or {}
    data = open_anndata(
        run / _PREDICTIONS[kind],
        what="file of predictions",
        missing_fix="run the same command again",
        broken_fix="run the same command again",
    )
    data.uns[META_KEY] = json.dumps(shareable(stored_meta(data), {}))
    tables = dict(_tables(data))
    for name, values in tables.items():
        write_csv(folder / f"{name}.csv", values, index=True)
    data.obs.index.name, data.var.index.name = "patient_id", "gene"
    write_csv(folder / "patients.csv", data.obs, index=True)
    write_csv(folder / "genes.csv", data.var, index=True)
    write_anndata(folder / "predictions.h5ad", data)
    out_of_fold = kind == "finetune"
    config = shareable({"config": made["config"]}, {})["config"]
    return {
        "name": folder.name,
        "kind": kind,
        "patients": data.n_obs,
        "genes": data.n_vars,
        "unit": stored_meta(data).get("unit", ""),
        "protocol_short": "out of fold" if out_of_fold else "by the models of an earlier run",
        "methods": (slide_methods if out_of_fold else predict_methods)(config, summary),
        "model": None if out_of_fold else _model_of(summary, config),
        "labels": [*summary.get("labels", []), *summary.get("notes", [])],
        "coverage": summary.get("coverage") or summary.get("interval_coverage"),
        "tables": {name: _meaning(name) for name in tables},
        "patient_columns": _described(data.obs),
        "gene_columns": _described(data.var),
        "baselines": sorted(data.obsm),
        "made_by": f"tcgn_mil {made['tcgn_mil']}, commit {made.get('git_commit') or 'unknown'}",
    }


def _tables(data: anndata.AnnData) -> Iterator[tuple[str, pd.DataFrame]]:
    """Give the predictions and each layer as a table of patients x genes."""
    index = pd.Index(data.obs_names, name="patient_id")
    columns = list(data.var_names)
    yield "predictions", pd.DataFrame(np.asarray(data.X), index=index, columns=columns)
    for layer, (name, _) in _TABLES.items():
        if layer in data.layers:
            values = np.asarray(data.layers[layer])
            yield name, pd.DataFrame(values, index=index, columns=columns)


def _meaning(table: str) -> str:
    meanings = {"predictions": "predicted expression", **dict(_TABLES.values())}
    return meanings[table]


def _described(frame: pd.DataFrame) -> list[tuple[str, str]]:
    names = [str(frame.index.name), *map(str, frame.columns)]
    return [(name, describe_column(name)) for name in names]


def _model_of(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if origin := summary.get("model"):
        return f"{origin['repository']}, revision {origin['revision']}"
    return without_folders(str(config["model"]))
