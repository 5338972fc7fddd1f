"""Report on predictions: the patients, and maps of example slides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tcgn_mil.experiments.runs.finished_run import OTHER_ROWS, Run, warnings_of
from tcgn_mil.experiments.runs.glossary import MEANINGS, with_plain_names
from tcgn_mil.experiments.runs.page import Section, Table, as_picture, as_table
from tcgn_mil.experiments.runs.report_part import ReportPart
from tcgn_mil.hub import HUB_PREFIX
from tcgn_mil.inference.out_of_distribution import FEWEST_PATIENTS
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.text import counted

_SHOWN_MAPS = 6


def predict_sections(run: Run, share: float) -> list[Section]:
    """Make the section on a prediction run; it has no interactive data and does not use `share`."""
    maps = sorted((run.folder / "maps").glob("*.png"))
    pictures = [
        as_picture(path, f"Slide {path.stem}: attention, and scores of genes.")
        for path in maps[:_SHOWN_MAPS]
    ]
    return [
        Section(
            run.title("Predictions, and maps of example slides"),
            _lines(run, maps),
            [_patient_table(run)],
            pictures,
            warnings=warnings_of(run.summary.get("notes")),
        )
    ]


def predict_sentence(run: Run) -> str:
    """Return what a prediction run did."""
    summary = run.summary
    return (
        f"Predicted {counted(summary['genes'], 'gene')} of"
        f" {counted(summary['patients'], 'patient')} from {counted(summary['slides'], 'slide')}"
        f" with {counted(summary['tiles'], 'tile')}."
    )


def _lines(run: Run, maps: list[Path]) -> list[str]:
    summary = run.summary
    lines = [
        f"{counted(summary['patients'], 'patient')} with {counted(summary['slides'], 'slide')} and"
        f" {counted(summary['tiles'], 'tile')} were predicted by {_model_words(run)}. The unit is"
        f" {summary['unit']}."
    ]
    if unlike := summary.get("out_of_distribution"):
        lines.append(
            "The slides of these patients are unlike those of the training cohort, so that their"
            f" predictions may be wrong: {', '.join(unlike)}. Of patients of the training kind, 5 %"
            " are named here by chance."
        )
    if unclear := summary.get("out_of_distribution_unknown"):
        lines.append(
            f"Whether {counted(len(unclear), 'patient')} are like those of the training cohort is"
            f" not known: at least {FEWEST_PATIENTS} training patients are needed to tell."
        )
    if maps:
        lines.append(
            f"The maps of {min(len(maps), _SHOWN_MAPS)} of {counted(len(maps), 'slide')} show where"
            " on the slide the prediction comes from. Attention is 1 for a tile that counts as much"
            " as the average tile. The score of a gene is in standard deviations of the training"
            " patients: tiles above 0 raise the predicted expression above that of the average"
            " patient, and tiles below 0 lower it. Scores are not amounts of RNA in the tile. The"
            " title of a map has the r of its gene in cross-validation; the map of a gene that is"
            " not predictable is pale and should not be interpreted. The"
            f" maps of all slides are in {run.folder.name}/maps as .png, .geojson (for QuPath) and"
            " .h5ad."
        )
    return lines


def _model_words(run: Run) -> str:
    """Return the folder of the models, or their repository on the hub with its revision."""
    if origin := run.summary.get("model"):
        return f"the models of {origin['repository']} on the hub (revision {origin['revision']})"
    return f"the models in {run.made.get('config', {}).get('model')}"


def _patient_table(run: Run) -> Table:
    path = run.folder / "predicted.h5ad"
    again = "run tcgn-mil predict again"
    data = open_anndata(path, what="predictions", missing_fix=again, broken_fix=again)
    obs = data.obs.reset_index()
    columns = {
        "patient": "patient_id",
        "slides": "n_slides",
        "tiles": "n_tiles",
        "models": "n_models",
        "how predicted": "relation",
        "unlike training": "ood_score",
        "p (unlike)": "ood_p",
        "like training?": "ood_state",
        "seen in": "ood_level",
    }
    return as_table(
        with_plain_names(obs, columns), "Patients", max_rows=OTHER_ROWS, meanings=MEANINGS
    )


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the methods paragraph of a prediction run."""
    origin = summary.get("model")
    by = f" by {origin['repository']}, revision {origin['revision'][:10]}" if origin else ""
    return (
        f"Expression of {summary['patients']} patients ({summary['slides']} slides,"
        f" {summary['tiles']} tiles) was predicted{by} in the unit {summary['unit']}. A patient of"
        " the training cohort was predicted by the fold model that had not seen it, and a new"
        " patient by the mean of all fold models. The bounds of the prediction intervals are"
        " conformal:"
        " their width comes from the out-of-fold residuals of the training cohort."
    )


def _command(run: Run) -> str:
    """Return the command that repeats a run; ``predict`` takes no ``--config``."""
    config = run.made.get("config", {})
    model = config["model"]
    if origin := run.summary.get("model"):
        # The newest revision may be another model by the time that the command is repeated.
        model = f"{HUB_PREFIX}{origin['repository']}@{origin['revision']}"
    words = ["tcgn-mil predict", f"--model {model} --features {config['features']}"]
    for key in ("thumbnails", "map_signatures"):
        if config.get(key):
            words.append(f"--{key.replace('_', '-')} {config[key]}")
    words += [f"--map-gene {gene}" for gene in config.get("map_genes", ())]
    words += [f"--table-format {name}" for name in config.get("table_formats", ()) if name != "csv"]
    if not config.get("maps", True):
        words.append("--no-maps")
    if config.get("allow_other_size"):
        words.append("--allow-other-size")
    return " ".join([*words, "--out NEW"])


REPORT = ReportPart(
    kind="predict",
    position=2,
    sections=predict_sections,
    methods=methods,
    terms=frozenset({"out of fold", "unit", "attention"}),
    sentence=predict_sentence,
    command=_command,
    files=("predicted.csv", "predicted_long.csv.gz", "predicted.h5ad", "maps"),
)
