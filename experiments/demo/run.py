"""``tcgn-mil demo``: every stage on a synthetic cohort whose truth is known, up to report.html.

Each step is the function behind the verb of that name, and the report shows the command that does the same. An
interrupted demo goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from tcgn_mil.checkpoints import read_encoder_info
from tcgn_mil.experiments.demo.explanation_check import region_spots
from tcgn_mil.experiments.demo.report import Step, write_demo_report
from tcgn_mil.experiments.demo.synthetic import SyntheticPaths, make_cohort, preset
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.explain import run as explanation
from tcgn_mil.experiments.predict import run as prediction
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.spot_level import pretrain as pretraining
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.io.failures import Failure
from tcgn_mil.io.spot_files import find_sections, read_spots
from tcgn_mil.preprocessing.bulk.run import BulkConfig, write_cohort
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.contact_sheet import write_contact_sheet
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.settings.training import TrainingConfig

Result = TypeVar("Result")
# Enough for tcgn_tiny to see what the synthetic genes follow, in the minutes that a demo may take on two cores.
_EPOCHS = {"test": 2, "demo": 8, "study": 20}


@dataclass
class _Steps:
    """Runs steps and keeps their commands and wall times."""

    log: list[Step] = field(default_factory=list)

    def do(self, command: str, action: Callable[[], Result]) -> Result:
        """Run one step, announced by the command that does the same."""
        print(f"\n$ {command}", flush=True)
        start = time.perf_counter()
        result = action()
        self.log.append(Step(command, time.perf_counter() - start))
        return result


def run_demo(out_dir: str | Path, *, preset_name: str = "demo", seed: int = 0) -> Path:
    """Run the whole chain; returns the path of report.html.

    Parameters
    ----------
    out_dir
        Folder for everything.
    preset_name
        ``demo``, ``study`` or ``test``.
    seed
        Of the cohort, the folds and training.
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
        f"tcgn-mil bulk {cohort.bulk} --unit tpm --slides {cohort.slides} --out {out / 'cohort.h5ad'}",
        lambda: write_cohort(
            [cohort.bulk], find_slides(cohort.slides), out / "cohort.h5ad", BulkConfig(unit="tpm")
        ),
    )
    finetune = finetuning.FinetuneConfig(
        cohort=str(out / "cohort.h5ad"),
        features=str(out / "features"),
        encoder=str(out / "encoder" / "encoder.safetensors"),
        seed=seed,
        n_folds=4,
    )
    steps.do(
        f"tcgn-mil finetune --cohort {finetune.cohort} --features {finetune.features} --encoder {finetune.encoder}"
        f" --set n_folds={finetune.n_folds} --set seed={seed} --out {out / 'slide-model'}",
        lambda: finetuning.run(finetune, out / "slide-model"),
    )
    predict = prediction.PredictConfig(
        str(out / "slide-model"), finetune.features, str(out / "tiles")
    )
    _, unpredicted = steps.do(
        f"tcgn-mil predict --model {predict.model} --features {predict.features} --thumbnails {predict.thumbnails}"
        f" --out {out / 'predictions'}",
        lambda: prediction.run(predict, out / "predictions"),
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
    """Read the ST sections and train tcgn_tiny; the first patient's sections are the test. Returns what failed."""
    spots = out / "spots"
    read = steps.do(
        f"tcgn-mil spots {cohort.st} --spot-pitch-um {spot_pitch_um:g} --out {spots}",
        lambda: write_spots(cohort.st, spots, spot_pitch_um=spot_pitch_um),
    )
    sections = list(find_sections(spots))
    test = tuple(name for name in sections if name[0] == sections[0][0])
    config = SpotConfig(
        spots=str(spots),
        test_sections=test,
        model="tcgn_tiny",
        views=1,
        training=TrainingConfig(epochs=epochs, batch_size=32, lr=2e-3, seed=seed),
    )
    chosen = " ".join(f"--test-section {name}" for name in test)
    steps.do(
        f"tcgn-mil pretrain --spots {spots} {chosen} --set model=tcgn_tiny --set views=1 --set training.epochs={epochs}"
        f" --set training.lr={config.training.lr:g} --out {out / 'encoder'}",
        lambda: pretraining.run(config, out / "encoder"),
    )
    return read.failures


def _read_slides(steps: _Steps, cohort: SyntheticPaths, out: Path) -> list[Failure]:
    """Tile and encode the cohort's slides; returns those that failed."""
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
    """Explain a test spot for a gene of immune aggregates, and for one that follows nothing.

    The spot is the one of which an aggregate fills nearest to three tenths, or that of highest prediction where no
    aggregate fills a part.
    """
    encoder = out / "encoder" / "encoder.safetensors"
    info = read_encoder_info(encoder)
    truth = pd.read_csv(cohort.truth / "genes.csv", keep_default_na=False)  # "null" is a kind
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
    config = explanation.ExplainConfig(
        str(encoder),
        (immune, null),
        spots=str(out / "spots"),
        sections=(section,),
        barcodes=barcodes,
        top=1,
    )
    chosen = f" --spot {barcodes[0]}" if barcodes else ""
    steps.do(
        f"tcgn-mil explain --encoder {encoder} --spots {config.spots} --section {section}{chosen} --gene {immune}"
        f" --gene {null} --top {config.top} --out {out / 'explanations'}",
        lambda: explanation.run(config, out / "explanations"),
    )
