"""``tcgn-mil demo``: every stage on a synthetic cohort whose truth is known, up to report.html.

Each step is the function behind the verb of that name, and the report shows the command that does the same. An
interrupted demo goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.contracts import Failure
from tcgn_mil.experiments import finetuning, prediction, pretraining
from tcgn_mil.experiments.cli import tile_reader
from tcgn_mil.experiments.demo_report import write_demo_report
from tcgn_mil.experiments.encoding import EncodeSettings, encode_cohort
from tcgn_mil.experiments.synthetic import SyntheticPaths, make_cohort, preset
from tcgn_mil.preprocessing.cohort import write_cohort
from tcgn_mil.preprocessing.slide_table import find_slides
from tcgn_mil.preprocessing.spots import write_spots
from tcgn_mil.preprocessing.tiling import TileSettings, tile_cohort
from tcgn_mil.training import TrainingConfig


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
    cohort = steps.do("make a synthetic cohort", lambda: make_cohort(config, out / "cohort"))
    steps.do(
        f"tcgn-mil spots {cohort.st} --spot-pitch-um {config.spot_pitch_um:g} --out {out / 'spots'}",
        lambda: write_spots(cohort.st, out / "spots", spot_pitch_um=config.spot_pitch_um),
    )
    pretrain = pretraining.PretrainConfig(
        spots=str(out / "spots"), test_sections=_last_patient(out / "spots"), model="tcgn_tiny",
        training=TrainingConfig(epochs=12, batch_size=32, lr=2e-3, seed=seed),
    )  # fmt: skip
    steps.do(
        f"tcgn-mil pretrain --spots {out / 'spots'} --set model=tcgn_tiny --out {out / 'encoder'}",
        lambda: pretraining.run(pretrain, out / "encoder"),
    )
    failures = _slides(steps, cohort, out)
    steps.do(
        f"tcgn-mil bulk {cohort.bulk} --unit tpm --slides {cohort.slides} --out {out / 'cohort.h5ad'}",
        lambda: write_cohort([cohort.bulk], find_slides(cohort.slides), unit="tpm", out_path=out / "cohort.h5ad"),
    )
    finetune = finetuning.FinetuneConfig(
        cohort=str(out / "cohort.h5ad"), features=str(out / "features"), seed=seed,
    )  # fmt: skip
    steps.do(
        f"tcgn-mil finetune --cohort {out / 'cohort.h5ad'} --features {out / 'features'} --out {out / 'slide-model'}",
        lambda: finetuning.run(finetune, out / "slide-model"),
    )
    predict = prediction.PredictConfig(
        model=str(out / "slide-model"), features=str(out / "features"), thumbnails=str(out / "tiles")
    )
    steps.do(
        f"tcgn-mil predict --model {out / 'slide-model'} --features {out / 'features'} --thumbnails {out / 'tiles'}"
        f" --out {out / 'predictions'}",
        lambda: prediction.run(predict, out / "predictions"),
    )
    return write_demo_report(out, cohort, steps.log, failures)


def _slides(steps: _Steps, cohort: SyntheticPaths, out: Path) -> list[Failure]:
    """Tile and encode the cohort's slides."""
    entries = find_slides(cohort.slides)
    _, untiled = steps.do(
        f"tcgn-mil tile {cohort.slides} --out {out / 'tiles'}",
        lambda: tile_cohort(entries, TileSettings(), out / "tiles"),
    )
    encoder = EncodeSettings(str(out / "encoder" / "encoder.safetensors"))
    by_id = {entry.slide_id: entry for entry in entries}
    _, unencoded = steps.do(
        f"tcgn-mil encode {cohort.slides} --tiles {out / 'tiles'} --encoder {encoder.encoder} --out {out / 'features'}",
        lambda: encode_cohort(sorted(by_id), out / "tiles", tile_reader(by_id), encoder, out / "features"),
    )
    return [*untiled, *unencoded]
