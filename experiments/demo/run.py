"""Run all stages on a synthetic cohort, and end in the report (the verb ``tcgn-mil demo``).

Each step calls the function behind a verb, and the report shows the command that does the same. A
demo that was interrupted continues where it stopped. ``download`` is left out, because the demo
needs no network, and ``export-spatialdata``, because it needs an extra.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.checkpoints import read_encoder_info
from tcgn_mil.checkpoints.published import DIGESTS
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.associate.run import run as run_associate
from tcgn_mil.experiments.demo.compare_with_truth import compare_with_truth
from tcgn_mil.experiments.demo.explanation_check import region_spots
from tcgn_mil.experiments.demo.planted_truth import NULL, planted_genes
from tcgn_mil.experiments.demo.recipe import Recipe, effort_of
from tcgn_mil.experiments.demo.steps import Steps, set_options
from tcgn_mil.experiments.demo.synthetic import make_cohort, preset
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.explain.config import ExplainConfig
from tcgn_mil.experiments.explain.run import run as run_explain
from tcgn_mil.experiments.predict.run import run as run_predict
from tcgn_mil.experiments.publish.config import ExportConfig, PublishConfig
from tcgn_mil.experiments.publish.export import export_runs
from tcgn_mil.experiments.publish.run import publish
from tcgn_mil.experiments.report.run import write_run_report
from tcgn_mil.experiments.slide_level.config import FinetuneConfig, SlideCvConfig
from tcgn_mil.experiments.slide_level.run import run as run_slide_level
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.spot_level.cross_validate import run as run_spot_cv
from tcgn_mil.experiments.spot_level.pretrain import run as run_pretrain
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.run import run as run_survive
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.spot_files import find_sections, read_spots
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.run import write_clinical
from tcgn_mil.preprocessing.features.feature_table import import_table
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.interop.tile_writers import export_cohort
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.slides.names import slide_facts
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.contact_sheet import write_contact_sheet
from tcgn_mil.preprocessing.tiles.settings import TileSettings

TITLE = "tcgn_mil demo: from synthetic slides to predicted expression"
# What made the areas of tissue, for import-features.
_AREA_TOOL = "simulated-tissue-areas"
_COVARIATES = ("age", "stage", "leukocyte_fraction", "tumour_purity")


def run_demo(out_dir: str | Path, *, preset_name: str = "demo", seed: int = 0) -> Path:
    """Run the whole chain.

    Parameters
    ----------
    out_dir
        Folder for everything.
    preset_name
        Size of the cohort: ``demo``, ``study`` or ``test``.
    seed
        Seed for the cohort, the folds and training.

    Returns
    -------
    Path
        Path of ``report.html``.
    """
    out = Path(out_dir)
    steps = Steps(out / "steps.csv")
    config = preset(preset_name, seed=seed)
    cohort = steps.do("make the synthetic cohort", lambda: make_cohort(config, out / "cohort"))
    recipe = Recipe(out, cohort, effort_of(preset_name), seed)
    _train_encoder(steps, recipe, spot_pitch_um=config.spot_pitch_um)
    _read_slides(steps, recipe)
    _read_tables(steps, recipe)
    _train_slide_models(steps, recipe)
    _predict(steps, recipe)
    _explain(steps, recipe)
    _study(steps, recipe)
    _share(steps, recipe)
    compare_with_truth(recipe, steps)
    page = out / "report.html"
    print(f"\n$ tcgn-mil report {out} --out {page} --title {shlex.quote(TITLE)}", flush=True)
    return write_run_report([out], page, title=TITLE)


def _train_encoder(steps: Steps, recipe: Recipe, *, spot_pitch_um: float) -> None:
    """Read the sections, train the encoder, and cross-validate a small network.

    The sections of the first patient are the test part of the encoder.
    """
    out, spots = recipe.out, recipe.out / "spots"
    steps.do(
        f"tcgn-mil spots {recipe.cohort.st} --spot-pitch-um {spot_pitch_um:g} --out {spots}",
        lambda: write_spots(recipe.cohort.st, spots, SpotsConfig(spot_pitch_um=spot_pitch_um)),
    )
    sections = list(find_sections(spots))
    config = recipe.pretrain(tuple(name for name in sections if name[0] == sections[0][0]))
    steps.do(
        f"tcgn-mil pretrain {set_options(config, SpotConfig())} --out {out / 'encoder'}",
        lambda: run_pretrain(config, out / "encoder"),
    )
    folds = out / "spot-folds.csv"
    _write_spot_folds(folds, sections)
    small = recipe.spot_cv(folds)
    steps.do(
        f"tcgn-mil spot-cv {set_options(small, SpotConfig())} --out {out / 'spot-cv'}",
        lambda: run_spot_cv(small, out / "spot-cv"),
    )


def _write_spot_folds(path: Path, sections: list[str]) -> None:
    """Write two folds of the small cross-validation.

    The last two patients are tested, and the first one validates. With more than three patients the
    first one, whose sections test the encoder, is left out, to save time.
    """
    patients = list(dict.fromkeys(name[0] for name in sections))
    if len(patients) > 3:
        patients = patients[1:]
    rows = []
    for fold, tested in enumerate(patients[-2:]):
        part_of = dict.fromkeys(patients, "train") | {patients[0]: "val", tested: "test"}
        rows += [(fold, part, patient) for patient, part in part_of.items()]
    write_csv(path, pd.DataFrame(rows, columns=["fold", "part", "id"]))


def _read_slides(steps: Steps, recipe: Recipe) -> None:
    """Tile, export and encode the slides, and import what another tool measured on them."""
    out, slides = recipe.out, recipe.cohort.slides
    tiles, features = out / "tiles", out / "features"
    source = TileSource.from_slides(slides, tiles=tiles)

    def tile() -> None:
        _, failures = tile_cohort(list(source.entries.values()), TileSettings(), tiles)
        write_contact_sheet(tiles, failures)

    steps.do(f"tcgn-mil tile {slides} --out {tiles}", tile)
    steps.do(
        f"tcgn-mil export-tiles {tiles} --format geojson --out {out / 'qupath'}",
        lambda: export_cohort(tiles, "geojson", out / "qupath"),
    )
    settings = EncodeSettings(str(recipe.encoder))
    steps.do(
        f"tcgn-mil encode {slides} --tiles {tiles} --encoder {recipe.encoder} --out {features}",
        lambda: encode_cohort(sorted(source.entries), source, settings, features),
    )
    areas, imported = recipe.cohort.areas, out / "area-features"
    steps.do(
        f"tcgn-mil import-features {areas} --encoder {_AREA_TOOL} --patients {slides}"
        f" --out {imported}",
        lambda: import_table(areas, _AREA_TOOL, imported, facts_of=slide_facts(slides)),
    )


def _read_tables(steps: Steps, recipe: Recipe) -> None:
    """Read survival and expression, and join them to the slides."""
    cohort, out = recipe.cohort, recipe.out
    survival = out / "clinical.csv"
    declared = ClinicalOptions(
        patient="patient_id",
        endpoints=("OS",),
        times=("time_days",),
        events=("event",),
        time_unit="days",
        event_coding="event",
        covariates=_COVARIATES,
    )
    named = " ".join(f"--covariate {name}" for name in _COVARIATES)
    steps.do(
        f"tcgn-mil clinical {cohort.clinical} --format columns --patient-column patient_id"
        " --endpoint OS --time-column time_days --event-column event --time-unit days"
        f" --event-coding event {named} --out {survival}",
        lambda: write_clinical([cohort.clinical], survival, declared, layouts=["columns"]),
    )
    config = BulkConfig(unit="tpm", clinical=str(survival))
    steps.do(
        f"tcgn-mil bulk {cohort.bulk} --unit tpm --slides {cohort.slides} --clinical {survival}"
        f" --out {out / 'cohort.h5ad'}",
        lambda: write_cohort(
            [cohort.bulk], find_slides(cohort.slides), out / "cohort.h5ad", config
        ),
    )


def _train_slide_models(steps: Steps, recipe: Recipe) -> None:
    """Train slide models on the encoder's features, and on areas that another tool measured."""
    out, models, areas = recipe.out, recipe.finetune(), recipe.slide_cv()
    steps.do(
        f"tcgn-mil finetune {set_options(models, FinetuneConfig())} --out {out / 'slide-model'}",
        lambda: run_slide_level(models, out / "slide-model"),
    )
    steps.do(
        f"tcgn-mil slide-cv {set_options(areas, SlideCvConfig())}"
        f" --out {out / 'slide-model-areas'}",
        lambda: run_slide_level(areas, out / "slide-model-areas"),
    )


def _predict(steps: Steps, recipe: Recipe) -> None:
    """Predict every patient by the model that did not see it, with maps."""
    out = recipe.out
    config = recipe.predict()
    drawn = " ".join(f"--map-gene {gene}" for gene in config.map_genes)
    steps.do(
        f"tcgn-mil predict --model {config.model} --features {config.features}"
        f" --thumbnails {config.thumbnails} {drawn} --out {out / 'predictions'}",
        lambda: run_predict(config, out / "predictions"),
    )


def _explain(steps: Steps, recipe: Recipe) -> None:
    """Explain one test spot, for a gene of immune aggregates and for a gene that follows nothing.

    The spot is the one in which immune aggregates fill nearest to 30 % of the patch. If no spot is
    filled in part, the spot with the highest prediction is explained.
    """
    out, encoder, truth = recipe.out, recipe.encoder, recipe.cohort.truth
    info = read_encoder_info(encoder)
    planted = planted_genes(truth)
    planted = planted[planted["gene"].isin(info.head_panel.genes)]
    immune, null = (
        planted["gene"][planted["region"] == "immune"].iloc[0],
        planted["gene"][planted["kind"] == NULL].iloc[0],
    )
    section = info.provenance["config"]["test_sections"][0]
    partly = region_spots(read_spots(out / "spots" / f"{section}.h5ad"), truth)
    barcodes = (
        (str(partly.names[np.abs(partly.share - 0.3).argmin()]),) if len(partly.names) else ()
    )
    config = ExplainConfig(
        str(encoder),
        (immune, null),
        spots=str(out / "spots"),
        sections=(section,),
        barcodes=barcodes,
        top=1,
        steps=recipe.effort.explain_steps,
    )
    chosen = f" --spot {barcodes[0]}" if barcodes else ""
    steps.do(
        f"tcgn-mil explain --encoder {encoder} --spots {config.spots} --section {section}{chosen}"
        f" --gene {immune} --gene {null} --top {config.top} --steps {config.steps}"
        f" --out {out / 'explanations'}",
        lambda: run_explain(config, out / "explanations"),
    )


def _study(steps: Steps, recipe: Recipe) -> None:
    """Relate the predictions to what else is known of the patients, and to survival."""
    out, associate, survive = recipe.out, recipe.associate(), recipe.survive()
    steps.do(
        f"tcgn-mil associate {set_options(associate, AssociationConfig())}"
        f" --out {out / 'association'}",
        lambda: run_associate(associate, out / "association"),
    )
    steps.do_or_refuse(
        f"tcgn-mil survive {set_options(survive, SurviveConfig())} --out {out / 'survival'}",
        lambda: run_survive(survive, out / "survival"),
    )


def _share(steps: Steps, recipe: Recipe) -> None:
    """Write the slide model as it is published, without an upload, and the predictions."""
    out, model = recipe.out, recipe.out / "slide-model"
    published, exported = out / "published-model", out / "exported-predictions"
    runs = (str(model), str(out / "predictions"))

    def share_model() -> None:
        if not (published / DIGESTS).is_file():
            publish(PublishConfig(run=str(model), licence="cc0-1.0"), published)

    def share_predictions() -> None:
        if not (exported / DIGESTS).is_file():
            export_runs(ExportConfig(runs=runs), exported)

    steps.do(f"tcgn-mil publish {model} --licence cc0-1.0 --out {published}", share_model)
    steps.do(f"tcgn-mil export-predictions {' '.join(runs)} --out {exported}", share_predictions)
