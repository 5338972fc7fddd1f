"""The report's sections on expression: from slides and from spots, and the maps of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anndata

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.finished_run import Run, warnings_of
from tcgn_mil.experiments.runs.glossary import MEANINGS, counted, with_plain_names
from tcgn_mil.experiments.runs.page import Section, as_picture, as_table
from tcgn_mil.experiments.runs.report_part import ReportPart

_SHOWN_MAPS = 6


def predict_sections(run: Run, share: float) -> list[Section]:
    """Who was predicted, and maps of the first slides."""
    summary = run.summary
    lines = [
        f"{counted(summary['patients'], 'patient')}, {summary['slides']} slides, {summary['tiles']} tiles, predicted"
        f" by the models in {run.made.get('config', {}).get('model')}; unit {summary['unit']}."
    ]
    if odd := summary.get("out_of_distribution"):
        lines.append(
            f"Unlike the slides of training, so that predictions may not hold: {', '.join(odd)}."
        )
    maps = sorted((run.folder / "maps").glob("*.png"))
    if maps:
        lines.append(
            f"Maps of {min(len(maps), _SHOWN_MAPS)} of {len(maps)} slides: where the prediction comes from."
            " Attention is 1 where a tile counts as much as all do on average. Scores of a gene are in standard"
            " deviations of the training patients: tiles above 0 speak for more of it than the mean patient has; they"
            f" are no amounts of RNA in the tile. Every slide is in {run.folder.name}/maps as PNG, .geojson and .h5ad."
        )
    path = run.folder / "predicted.h5ad"
    try:
        obs = anndata.read_h5ad(path, backed="r").obs.reset_index()
    except OSError as error:
        raise InputError(f"cannot be read ({error})", path=path, fix="run predict again") from error
    columns = {
        "patient": "patient_id",
        "slides": "n_slides",
        "tiles": "n_tiles",
        "models": "n_models",
        "how predicted": "relation",
        "unlike training": "ood_score",
    }
    return [
        Section(
            run.title("Predictions, and maps of example slides"),
            lines,
            [as_table(with_plain_names(obs, columns), "Patients", meanings=MEANINGS)],
            [
                as_picture(path, f"Slide {path.stem}: attention, and scores of genes.")
                for path in maps[:_SHOWN_MAPS]
            ],
            warnings=warnings_of(summary.get("notes")),
        )
    ]


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['patients']} patients ({summary['slides']} slides, {summary['tiles']} tiles) were predicted in"
        f" {summary['unit']}: those of the training cohort by the fold model that had not seen them, new ones by the"
        " mean of all fold models; interval bounds are conformal."
    )


def _command(run: Run) -> str:
    """Return the command that repeats a run; ``predict`` takes no ``--config``."""
    config = run.made.get("config", {})
    words = ["tcgn-mil predict", f"--model {config['model']} --features {config['features']}"]
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
    command=_command,
)
