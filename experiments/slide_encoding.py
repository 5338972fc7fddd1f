"""``tcgn-mil predict --slides``: from slides to features for a slide model, with tiles of its size.

All else about tiling is as ``tcgn-mil tile`` does it by itself; where training slides were tiled by other rules, tile,
encode and predict one by one.

Kept in a work folder only until the predictions are written, unless asked for: a run that was killed goes on from it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tcgn_mil.artefacts import write_json
from tcgn_mil.contracts import NO_STAIN, Failure
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encoding import EncodeSettings, encode_cohort
from tcgn_mil.experiments.fold_models import load_fold_models
from tcgn_mil.experiments.run_folder import read_run
from tcgn_mil.experiments.slide_pixels import tile_finder, tile_reader
from tcgn_mil.inference import open_encoder
from tcgn_mil.preprocessing.slide_table import find_slides
from tcgn_mil.preprocessing.tiling import TileSettings, tile_cohort

_MARKER = "slides.json"


class SlideWork:
    """Tiles and features of slides that are to be predicted.

    Parameters
    ----------
    folder
        Where they are kept until :meth:`remove`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.tiles, self.features = folder, folder / "tiles", folder / "features"

    def make(
        self, slides: Path, model: Path, encoder: str, *, mpp: float | None, pretrained: bool = False
    ) -> list[Failure]:
        """Tile and encode; returns the slides that failed.

        Raises
        ------
        InputError
            If the encoder is not the one of the model's features, the model reads stain-normalised features, or no
            slide could be encoded.
        """
        read_run(model, kind="finetune")
        info = load_fold_models(model)[0].info
        found = open_encoder(encoder, pretrained=pretrained).identity
        if found != info.encoder:
            raise InputError(
                f"is {found}, the slide model reads features of {info.encoder}", path=encoder,
                fix="give the encoder that the model was trained with",
            )  # fmt: skip
        if info.stain != NO_STAIN:
            raise InputError(
                f"reads features normalised by {info.stain}", path=model,
                fix="tile with that --stain and --stain-reference, encode, and predict from the features",
            )  # fmt: skip
        entries = {entry.slide_id: entry for entry in find_slides(slides, mpp=mpp)}
        self._begin(sorted(entries))
        done, failures = tile_cohort(list(entries.values()), TileSettings(patch=info.patch), self.tiles)
        tiled = {name: entries[name] for name in entries if name not in {failure.slide for failure in failures}}
        settings = EncodeSettings(encoder, pretrained=pretrained)
        if tiled:
            done, more = encode_cohort(
                sorted(tiled), tile_finder(tiled, self.tiles), tile_reader(tiled), settings, self.features
            )
            failures += more
        if not tiled or not done:
            raise InputError(f"no slide could be encoded: {failures[0].reason}", fix=failures[0].likely_fix or None)
        return failures

    def _begin(self, slides: list[str]) -> None:
        """Take the folder for these slides; what somebody else, or another set of slides, left there is not touched."""
        marker = self.folder / _MARKER
        if marker.is_file() and json.loads(marker.read_text(encoding="utf-8"))["slides"] == slides:
            return
        if self.folder.exists():
            raise InputError(
                "holds something else than the tiles and features of these slides", path=self.folder,
                fix="choose another --out, or move it away",
            )  # fmt: skip
        write_json(marker, {"slides": slides})

    def remove(self) -> None:
        """Remove what was made."""
        shutil.rmtree(self.folder, ignore_errors=True)
