"""Run every stage on a synthetic cohort and write a report (the verb ``tcgn-mil demo``).

Each step calls the function behind a verb, and the report shows the command that does the same. A
demo that was interrupted continues where it stopped.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yaml

from tcgn_mil.checkpoints import read_encoder_info
from tcgn_mil.config import as_plain, differing_keys
from tcgn_mil.experiments.demo.explanation_check import region_spots
from tcgn_mil.experiments.demo.report import Step, write_demo_report
from tcgn_mil.experiments.demo.synthetic import SyntheticPaths, make_cohort, preset
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.explain.config import ExplainConfig
from tcgn_mil.experiments.explain.run import run as run_explain
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.run import run as run_predict
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.run import run as run_finetune
from tcgn_mil.experiments.spot_level.config import SpotConfig, TargetConfig
from tcgn_mil.experiments.spot_level.pretrain import run as run_pretrain
from tcgn_mil.io.failures import Failure
from tcgn_mil.io.spot_files import find_sections, read_spots
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.contact_sheet import write_contact_sheet
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.settings.training import TrainingConfig

Result = TypeVar("Result")
# With 8 epochs tcgn_tiny has learnt the colours of tissue, but not yet the nuclei that morphology
# genes follow; with 12 it has (chosen on a cohort of seed 10, which the demo does not show).
_EPOCHS = {"test": 2, "demo": 12, "study": 20}

# Five tissue regions and two tumour subtypes, each with genes that follow it.
_PROGRAMMES = 7


def set_options(config: Any, default: Any) -> str:
    """Return the options ``--set`` that make a config from the defaults of its class."""
    values, defaults = as_plain(config), as_plain(default)
    options = []
    for key in differing_keys(defaults, values):
        value: Any = values
        for part in key.split("."):
            value = value[part]
        quoted = json.dumps(value, separators=(",", ":"))
        plain = quoted.replace('"', "")
        # Quotes are left out where YAML reads the same value without them.
        text = plain if yaml.safe_load(plain) == value else quoted
        options.append(f"--set {shlex.quote(f'{key}={text}')}")
    return " ".join(options)


@dataclass
class _Steps:
    """Runs steps and records their commands and times."""

    log: list[Step] = field(default_factory=list)

    def do(self, command: str, action: Callable[[], Result]) -> Result:
        """Run one step, after printing the command that does the same."""
        print(f"\n$ {command}", flush=True)
        start = time.perf_counter()
        result = action()
        self.log.append(Step(command, time.perf_counter() - start))
        return result


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
    steps = _Steps()
    config = preset(preset_name, seed=seed)
    cohort = steps.do("make the synthetic cohort", lambda: make_cohort(config, out / "cohort"))
    epochs = _EPOCHS[preset_name]
    failures = _pretrain(
        steps, cohort, out, spot_pitch_um=config.spot_pitch_um, epochs=epochs, seed=seed
    )
    failures += _read_slides(steps, cohort, out)
    steps.do(
        f"tcgn-mil bulk {cohort.bulk} --unit tpm --slides {cohort.slides}"
        f" --out {out / 'cohort.h5ad'}",
        lambda: write_cohort(
            [cohort.bulk], find_slides(cohort.slides), out / "cohort.h5ad", BulkConfig(unit="tpm")
        ),
    )
    finetune = FinetuneConfig(
        cohort=str(out / "cohort.h5ad"),
        features=str(out / "features"),
        encoder=str(out / "encoder" / "encoder.safetensors"),
        seed=seed,
        n_folds=4,
        # With few patients the model does best to start as the zero-shot prediction, and to leave
        # it slowly.
        model=MilConfig(form="additive"),
        training=TrainingConfig(epochs=60, batch_size=16, lr=3e-4, patience=15, loss="mix"),
    )
    steps.do(
        f"tcgn-mil finetune {set_options(finetune, FinetuneConfig())} --out {out / 'slide-model'}",
        lambda: run_finetune(finetune, out / "slide-model"),
    )
    predict = PredictConfig(str(out / "slide-model"), finetune.features, str(out / "tiles"))
    _, unpredicted = steps.do(
        f"tcgn-mil predict --model {predict.model} --features {predict.features}"
        f" --thumbnails {predict.thumbnails} --out {out / 'predictions'}",
        lambda: run_predict(predict, out / "predictions"),
    )
    _explain(steps, cohort, out)
    return write_demo_report(out, cohort, steps.log, [*failures, *unpredicted])


def _pretrain(
    steps: _Steps,
    cohort: SyntheticPaths,
    out: Path,
    *,
    spot_pitch_um: float,
    epochs: int,
    seed: int,
) -> list[Failure]:
    """Read the sections and train tcgn_tiny; return the sections that failed.

    The sections of the first patient are the test part.
    """
    spots = out / "spots"
    read = steps.do(
        f"tcgn-mil spots {cohort.st} --spot-pitch-um {spot_pitch_um:g} --out {spots}",
        lambda: write_spots(cohort.st, spots, SpotsConfig(spot_pitch_um=spot_pitch_um)),
    )
    sections = list(find_sections(spots))
    test = tuple(name for name in sections if name[0] == sections[0][0])
    # The recipe that did best on validation sections (configs/spots_recipe.yaml): sequencing depth
    # is taken out of the targets, which are projected on as many components as there are tissue
    # programmes, and the loss is the correlation. All settings are fixed, so the validation part
    # trains as well.
    config = SpotConfig(
        spots=str(spots),
        test_sections=test,
        model="tcgn_tiny",
        views=1,
        validation="join",
        target=TargetConfig(remove_depth=True, rank=_PROGRAMMES),
        training=TrainingConfig(
            epochs=epochs, batch_size=32, lr=2e-3, loss="correlation", average=0.99, seed=seed
        ),
    )
    steps.do(
        f"tcgn-mil pretrain {set_options(config, SpotConfig())} --out {out / 'encoder'}",
        lambda: run_pretrain(config, out / "encoder"),
    )
    return read.failures


def _read_slides(steps: _Steps, cohort: SyntheticPaths, out: Path) -> list[Failure]:
    """Tile and encode the slides of the cohort; return the slides that failed."""
    source = TileSource.from_slides(cohort.slides, tiles=out / "tiles")
    _, untiled = steps.do(
        f"tcgn-mil tile {cohort.slides} --out {out / 'tiles'}",
        lambda: tile_cohort(list(source.entries.values()), TileSettings(), out / "tiles"),
    )
    write_contact_sheet(out / "tiles", untiled)
    settings = EncodeSettings(str(out / "encoder" / "encoder.safetensors"))
    _, unencoded = steps.do(
        f"tcgn-mil encode {cohort.slides} --tiles {out / 'tiles'} --encoder {settings.encoder}"
        f" --out {out / 'features'}",
        lambda: encode_cohort(sorted(source.entries), source, settings, out / "features"),
    )
    return [*untiled, *unencoded]


def _explain(steps: _Steps, cohort: SyntheticPaths, out: Path) -> None:
    """Explain one test spot, for a gene of immune aggregates and for a gene that follows nothing.

    The spot is the one in which immune aggregates fill nearest to 30 % of the patch. If no spot is
    filled in part, the spot with the highest prediction is explained.
    """
    encoder = out / "encoder" / "encoder.safetensors"
    info = read_encoder_info(encoder)
    # pandas would read the kind "null" as a missing value.
    truth = pd.read_csv(cohort.truth / "genes.csv", keep_default_na=False)
    truth = truth[truth["gene"].isin(info.panel.genes)]
    immune, null = (
        truth["gene"][truth["region"] == "immune"].iloc[0],
        truth["gene"][truth["kind"] == "null"].iloc[0],
    )
    section = info.provenance["config"]["test_sections"][0]
    partly = region_spots(read_spots(out / "spots" / f"{section}.h5ad"), cohort.truth)
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
    )
    chosen = f" --spot {barcodes[0]}" if barcodes else ""
    steps.do(
        f"tcgn-mil explain --encoder {encoder} --spots {config.spots} --section {section}{chosen}"
        f" --gene {immune} --gene {null} --top {config.top} --out {out / 'explanations'}",
        lambda: run_explain(config, out / "explanations"),
    )
