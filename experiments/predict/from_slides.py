"""``tcgn-mil predict --slides``: from slides to features for a slide model, with tiles like those it was trained on.

Tile size, step, stain reference and the rules for tissue and quality are those that the model's training features
record. What they do not record is as ``tcgn-mil tile`` does it by itself, and a note says so.

Kept in a work folder only until the predictions are written, unless asked for: a run that was killed goes on from it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.checkpoints import SlideModelInfo
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.runs.run_folder import read_run
from tcgn_mil.inference.fold_models import load_fold_models, models_of
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.failures import Failure
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.settings import TISSUE_FINDER, TileSettings
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import PatchSize, check_patch
from tcgn_mil.types.tiles import NO_STAIN

_MARKER = "slides.json"


@dataclass(frozen=True)
class SlideOptions:
    """How the slides that are to be predicted are read.

    Attributes
    ----------
    mpp
        µm per pixel of level 0, for slides that do not state it.
    pretrained
        Pretrained weights of a timm model.
    patch_px, patch_mpp
        Side and resolution of a tile; None for the model's.
    allow_other_size
        Accept tiles of another physical size than the model's.
    """

    mpp: float | None = None
    pretrained: bool = False
    patch_px: int | None = None
    patch_mpp: float | None = None
    allow_other_size: bool = False


class SlideWork:
    """Tiles and features of slides that are to be predicted.

    Parameters
    ----------
    folder
        Where they are kept until :meth:`remove`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.tiles, self.features = folder, folder / "tiles", folder / "features"
        self.notes: list[str] = []

    def make(self, slides: Path, model: Path, encoder: str, options: SlideOptions) -> list[Failure]:
        """Tile and encode; returns the slides that failed. What the model does not record of its tiles is noted.

        Raises
        ------
        InputError
            If the encoder is not the one of the model's features, another tile size than the model's is asked for, or
            no slide could be encoded.
        """
        read_run(model, kind="finetune")
        found = open_encoder(encoder, pretrained=options.pretrained).identity
        info = models_of(found, load_fold_models(model))[0].info
        if found != info.encoder:
            raise InputError(
                f"is {found}, the slide model reads features of {info.encoder}",
                path=encoder,
                fix="give the encoder that the model was trained with",
            )
        tiling = self._settings(info, options, model)
        entries = TileSource.from_slides(slides, mpp=options.mpp).entries
        self._begin(sorted(entries))
        done, failures = tile_cohort(list(entries.values()), tiling, self.tiles)
        tiled = {
            name: entries[name]
            for name in entries
            if name not in {failure.slide for failure in failures}
        }
        settings = EncodeSettings(
            encoder, pretrained=options.pretrained, allow_other_size=options.allow_other_size
        )
        if tiled:
            source = TileSource(tiled, self.tiles)
            done, more = encode_cohort(sorted(tiled), source, settings, self.features)
            failures += more
        if not tiled or not done:
            raise InputError(
                f"no slide could be encoded: {failures[0].reason}",
                fix=failures[0].likely_fix or None,
            )
        return failures

    def _settings(self, info: SlideModelInfo, options: SlideOptions, model: Path) -> TileSettings:
        """How the model's training slides were tiled."""
        px = info.patch.px if options.patch_px is None else options.patch_px
        mpp = info.patch.mpp if options.patch_mpp is None else options.patch_mpp
        check_patch(info.patch, PatchSize(px, mpp), allow=options.allow_other_size)
        recorded = dict(info.tiling)
        if recorded.get("stride_px") == info.patch.px:
            recorded["stride_px"] = None  # tiles touch, whatever their size
        if info.stain != NO_STAIN and "stain" not in recorded:
            raise InputError(
                f"reads features normalised by {info.stain}, but does not record the reference",
                path=model,
                fix="tile with that --stain and --stain-reference, encode, and predict from the features",
            )
        settings = TileSettings.like(PatchSize(px, mpp), recorded)
        if unknown := [name for name in ("stride_px", *settings.as_dict()) if name not in recorded]:
            self.notes.append(
                f"the model does not record {preview(unknown, most=8)} of its training slides' tiles, or they differ:"
                " tiled by the defaults of tcgn-mil tile"
            )
        elif recorded["tissue_finder"] != TISSUE_FINDER:
            self.notes.append(
                f"training slides' tissue was found by {recorded['tissue_finder']}, now {TISSUE_FINDER}"
            )
        return settings

    def _begin(self, slides: list[str]) -> None:
        """Take the folder for these slides; what somebody else, or another set of slides, left there is not touched."""
        marker = self.folder / _MARKER
        if marker.is_file() and json.loads(marker.read_text(encoding="utf-8"))["slides"] == slides:
            return
        if self.folder.exists():
            raise InputError(
                "holds something else than the tiles and features of these slides",
                path=self.folder,
                fix="choose another --out, or move it away",
            )
        write_json(marker, {"slides": slides})

    def remove(self) -> None:
        """Remove what was made."""
        shutil.rmtree(self.folder, ignore_errors=True)
