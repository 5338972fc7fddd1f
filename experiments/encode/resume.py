"""Tell which feature files of a cohort are current, and set the others aside.

A feature file states in its provenance what it was made from: a digest of the tiles and one of the
slide, the encoder with its weights and its input, and the arithmetic. Files of earlier versions
state no digests. They count as current if their tiles are those of the tile file and the slide is
older than they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.inference.tile_encoder import AUTO, TileEncoder
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.feature_files import read_feature_info
from tcgn_mil.io.hdf5 import json_attr, open_hdf5, read_coords, read_provenance
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.progress import tell
from tcgn_mil.resume.set_aside import FOLDER, check_files
from tcgn_mil.text import counted, preview
from tcgn_mil.types.tiles import TileSet


def feature_path(out_dir: str | Path, slide_id: str) -> Path:
    """Return the path of a slide's feature file.

    Raises
    ------
    InputError
        If the slide id cannot be a file name.
    """
    return Path(out_dir) / f"{safe_file_name(slide_id, what='slide id')}.h5"


def made_from(tiles: TileSet, source: TileSource) -> dict[str, str]:
    """Return digests of what the features of a slide depend on beside the encoder.

    Parameters
    ----------
    tiles
        Tiles of the slide, as the tile file gives them.
    source
        The slides.

    Raises
    ------
    InputError
        If the slide's file is missing.
    """
    facts = {
        "patient": tiles.patient_id,
        "spec": tiles.spec.as_dict(),
        "size": list(tiles.slide_size),
        "stain": None if tiles.stain is None else asdict(tiles.stain),
        "settings": dict(tiles.settings),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    digest.update(_sorted(tiles.coords).tobytes())
    return {"tiles": digest.hexdigest()[:32], "slide": source.digest(tiles.slide_id)}


def check_features_of(path: Path, tiles: TileSet, source: TileSource) -> None:
    """Check that features were made from these tiles on the present slide.

    Files of earlier versions and of other tools do not say it, and pass.

    Parameters
    ----------
    path
        Feature file.
    tiles
        Tiles of the slide, as the tile file gives them.
    source
        The slides.

    Raises
    ------
    InputError
        If the features were made from other tiles or pixels.
    """
    recorded = read_provenance(path, kind="feature").get("made_from")
    if recorded is None:
        return
    present = made_from(tiles, source)
    if differing := [name for name in present if recorded.get(name) != present[name]]:
        raise InputError(
            f"its features are of another state of the slide: {preview(differing)} changed since",
            path=path,
            fix="run tcgn-mil encode again, or give --tiles the folder that it read",
        )


def current_features(
    slide_ids: Sequence[str],
    source: TileSource,
    encoder: TileEncoder,
    made_by: Mapping[str, Any],
    settings: EncodeSettings,
    out_dir: str | Path,
) -> frozenset[str]:
    """Return the slides whose features are current, and set aside those of the others.

    Standard error says how many are encoded again, and whether features are kept that were encoded
    with other arithmetic, as ``--precision auto`` allows.

    Parameters
    ----------
    slide_ids
        Slides to encode.
    source
        Finds their tiles.
    encoder
        The encoder.
    made_by
        What decides the features beside the encoder's identity, for the record of a feature file.
    settings
        Settings of the run.
    out_dir
        Folder of the features.
    """
    precisions: dict[str, str] = {}

    def is_current(slide: str, path: Path) -> bool:
        tiles = source.find(slide)
        encoder.check_tiles(tiles.spec.patch, allow=settings.allow_other_size)
        identity, provenance = _stated(path)
        record = provenance.get("encoder_record") or {}
        precisions[slide] = str(record.get("precision", made_by["precision"]))
        if settings.precision != AUTO and precisions[slide] != made_by["precision"]:
            return False
        same_encoder = identity == encoder.identity and _same_input(record, made_by)
        return same_encoder and _same_tiles(path, tiles, source, provenance.get("made_from"))

    paths = {slide: [feature_path(out_dir, slide)] for slide in slide_ids if _is_name(slide)}
    checked = check_files(out_dir, paths, is_current)
    if checked.changed:
        count = len(checked.changed)
        tell(
            f"{counted(count, 'slide')} {'has' if count == 1 else 'have'} other pixels, tiles or"
            " options than when the features were made, and"
            f" {'is' if count == 1 else 'are'} encoded again: {preview(checked.changed)}. The"
            f" earlier files are in {Path(out_dir) / FOLDER}"
        )
    kept = [slide for slide in sorted(checked.current) if precisions[slide] != made_by["precision"]]
    if kept:
        tell(
            f"{counted(len(kept), 'slide')} of an earlier run with precision"
            f" {precisions[kept[0]]} kept, while this machine encodes with"
            f" {made_by['precision']}; give --precision to encode all alike"
        )
    return checked.current


def _is_name(slide: str) -> bool:
    """Return whether a slide id can be a file name; the work itself reports one that cannot."""
    try:
        safe_file_name(slide, what="slide id")
    except InputError:
        return False
    return True


def _stated(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the encoder and the provenance that a feature file states, by opening it once."""
    with open_hdf5(path, kind="feature", needs=("features", "coords")) as file:
        root = file["/"]
        made = json_attr(root, "provenance", kind="feature") if "provenance" in root.attrs else {}
        return str(root.attrs.get("encoder", "")), made


def _same_input(record: Mapping[str, Any], made_by: Mapping[str, Any]) -> bool:
    # An entry of the user's own may have got other colours or another size since. Files from before
    # these were recorded hold none.
    return all(record.get(key, made_by[key]) == made_by[key] for key in ("input", "arguments"))


def _same_tiles(
    path: Path, tiles: TileSet, source: TileSource, recorded: Mapping[str, str] | None
) -> bool:
    """Return whether a feature file is of these tiles on the present slide."""
    if recorded is not None:
        return dict(recorded) == made_from(tiles, source)
    info = read_feature_info(path)
    slide = source.entries.get(tiles.slide_id)
    return (
        (info.spec, info.stain, info.patient_id) == (tiles.spec, tiles.stain, tiles.patient_id)
        # Files written before tiling rules were recorded hold none.
        and (not info.tiling or info.tiling == tiles.settings)
        and np.array_equal(_sorted(read_coords(path, kind="feature")), _sorted(tiles.coords))
        and (slide is None or slide.path.stat().st_mtime <= path.stat().st_mtime)
    )


def _sorted(coords: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return coordinates in one order, because a reader gives the tiles in its own."""
    ordered = coords[np.lexsort(coords.T[::-1])]
    return np.ascontiguousarray(ordered, dtype=np.int64)
