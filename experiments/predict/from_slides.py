"""Tile and encode slides for a slide model, with tiles like those that it was trained on.

The size and step of the tiles, the stain reference and the rules for tissue and quality are those
that the training features of the model record. For what they do not record, the defaults of
``tcgn-mil tile`` are used, and a note says so.

Tiles and features are kept in a work folder until the predictions are written, so that a run that
was killed continues from them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tcgn_mil.checkpoints import SlideModelInfo
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.resume import feature_path
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.engines.engine import RAY, Engine
from tcgn_mil.experiments.predict.config import SlideOptions
from tcgn_mil.experiments.predict.model import find_slide_model
from tcgn_mil.inference.fold_models import load_fold_models, models_for_encoder
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.failures import Failure, describe_left_out
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.tiles.cohort import slide_notes, tile_cohort
from tcgn_mil.preprocessing.tiles.settings import TISSUE_FINDER, TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_files
from tcgn_mil.resume.cohort_list import plan_cohort
from tcgn_mil.text import preview
from tcgn_mil.types.shards import Shard
from tcgn_mil.types.tile_geometry import PatchSize, check_patch
from tcgn_mil.types.tiles import NO_STAIN

_MARKER = "slides.json"
_CLAIM_WAIT_S = 10.0


@dataclass(frozen=True)
class EncodedSlides:
    """A work folder with tiles and features of slides that are to be predicted.

    Attributes
    ----------
    folder
        The work folder.
    failures
        Slides that could not be tiled or encoded.
    notes
        Differences from the tiles of the training slides that a reader must know.
    done
        Slides that were encoded.
    """

    folder: Path
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    done: tuple[str, ...] = ()

    @property
    def tiles(self) -> Path:
        """Folder of the tiles."""
        return self.folder / "tiles"

    @property
    def features(self) -> Path:
        """Folder of the features."""
        return self.folder / "features"

    def remove(self) -> None:
        """Remove the work folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def encode_slides(
    options: SlideOptions,
    model: str | Path,
    folder: Path,
    *,
    allow_other_size: bool = False,
    shard: Shard | None = None,
    engine: Engine = Engine(),
) -> EncodedSlides:
    """Tile and encode slides in the way of a model's training slides.

    Parameters
    ----------
    options
        The slides, their encoder, and how they are read.
    model
        Folder of the finetune run or of the published model, or its name on the hub.
    folder
        Work folder. It may hold an earlier attempt, whose tiles and features are used where they
        are current.
    allow_other_size
        Accept tiles of another physical size than those of the model.
    shard
        Share of the slides to tile and encode; None for all.
    engine
        Workers that tile and encode; by default this process.

    Raises
    ------
    InputError
        If the encoder is not that of the model's features, if another tile size than the model's is
        asked for, if the folder holds something else, or if no slide of all could be encoded.
    """
    folder_of_model = find_slide_model(model).path
    identity = open_encoder(options.encoder, **options.encoder_options.as_arguments()).identity
    info = models_for_encoder(identity, load_fold_models(folder_of_model))[0].info
    if identity != info.encoder:
        raise InputError(
            f"is {identity}, but the slide model reads features of {info.encoder}",
            path=options.encoder,
            fix="import features of these slides by the tool that made those of the training"
            " slides, and give --features"
            if info.encoder.endswith(f":{identity.rpartition('-')[0]}")
            else "give --encoder the one that the model was trained with",
        )
    settings, notes = _tile_settings(info, options, model, allow_other_size=allow_other_size)
    given = TileSource.from_slides(
        options.slides,
        mpp=options.mpp,
        override_mpp=options.override_mpp,
        recursive=options.recursive,
    )
    entries = given.entries
    notes = [*notes, *describe_left_out(given.left_out)]
    _claim_folder(folder, sorted(entries), wait_s=0 if shard is None else _CLAIM_WAIT_S)
    work = EncodedSlides(folder)
    _keep(work.tiles, list(entries), partial(tile_files, work.tiles))
    share = {name: entry for name, entry in entries.items() if not shard or shard.holds(name)}
    if not share:
        return work
    done, failures = tile_cohort(
        list(share.values()),
        settings,
        work.tiles,
        workers=max(1, len(engine.devices)),
        shard=shard,
        run=engine.run_tiling if engine.name == RAY else None,
    )
    notes += slide_notes(done, work.tiles)
    failed = {failure.slide for failure in failures}
    tiled = {name: entry for name, entry in share.items() if name not in failed}
    # What was encoded from a slide before it could no longer be tiled is not predicted.
    kept = [name for name in entries if name not in failed]
    _keep(work.features, kept, lambda name: [feature_path(work.features, name)])
    if tiled:
        encoding = EncodeSettings(
            options.encoder,
            batch_size=options.batch_size,
            precision=options.precision,
            device=options.device,
            readers=options.readers,
            allow_other_size=allow_other_size,
            encoder_options=options.encoder_options,
        )
        source = TileSource(tiled, work.tiles)
        done, more = encode_cohort(
            sorted(tiled), source, encoding, work.features, shard=shard, engine=engine
        )
        failures += more
    if shard is None and not (tiled and done):
        raise InputError(
            f"no slide could be encoded: {failures[0].reason}",
            fix=failures[0].likely_fix or None,
        )
    return EncodedSlides(folder, tuple(failures), tuple(notes), tuple(done))


def _tile_settings(
    info: SlideModelInfo, options: SlideOptions, model: str | Path, *, allow_other_size: bool
) -> tuple[TileSettings, list[str]]:
    """Return the settings by which the training slides were tiled, and notes on differences."""
    px = info.patch.px if options.patch_px is None else options.patch_px
    mpp = info.patch.mpp if options.patch_mpp is None else options.patch_mpp
    check_patch(info.patch, PatchSize(px, mpp), allow=allow_other_size)
    recorded = dict(info.tiling)
    if recorded.get("stride_px") == info.patch.px:
        # The training tiles touch each other. Tiles of another size should touch as well, and a
        # step of None means the side of a tile, whatever it is.
        recorded["stride_px"] = None
    if info.stain != NO_STAIN and "stain" not in recorded:
        raise InputError(
            f"reads features normalised by {info.stain}, but does not record the reference",
            path=model,
            fix="tile with that --stain and --stain-reference, encode, and give --features",
        )
    settings = TileSettings.like(PatchSize(px, mpp), recorded)
    notes = []
    if unknown := [name for name in ("stride_px", *settings.as_dict()) if name not in recorded]:
        notes.append(
            f"the model does not record {preview(unknown, most=8)} of its training slides' tiles,"
            " or the slides differ in it: the slides were tiled with the defaults of tcgn-mil tile"
        )
    elif recorded["tissue_finder"] != TISSUE_FINDER:
        notes.append(
            f"the tissue of the training slides was found by {recorded['tissue_finder']}, that of"
            f" these slides by {TISSUE_FINDER}"
        )
    return settings, notes


def _claim_folder(folder: Path, slides: list[str], *, wait_s: float = 0) -> None:
    """Mark the work folder as that of these slides; refuse a folder that holds something else.

    The folder is removed in the end, so that nobody else's files may be in it. Another share of the
    same run may have made the folder a moment ago, and its marker is awaited for `wait_s` seconds.
    """
    marker = folder / _MARKER
    until = time.monotonic() + wait_s
    while folder.exists() and not marker.is_file() and time.monotonic() < until:
        time.sleep(0.1)
    if folder.exists() and not marker.is_file():
        raise InputError(
            "exists and is not a work folder of tcgn-mil predict",
            path=folder,
            fix="choose another --out, or move the folder away",
        )
    write_json(marker, {"slides": slides})


def _keep(folder: Path, slides: Sequence[str], files_of: Callable[[str], Sequence[Path]]) -> None:
    """Set aside the files of all slides that are not predicted now."""
    plan_cohort(folder, "the slides of this run", slides).apply(files_of)
