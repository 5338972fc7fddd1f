"""Name the encoder of imported features: its identity, and whether its tiles are of usual size.

The identity is ``<layout>:<name>``. A name that the registry of pathology encoders knows, under any
of the names that TRIDENT, STAMP and CLAM use, becomes the name of its entry with the pooling, for
example ``trident:virchow2[cls+mean]``. Two tools may pool the tokens of one encoder differently,
and the pooling in the identity keeps such features apart. Other names stay as they are.

Names of slide encoders are not looked up: the slide encoder GigaPath bears the name of its tile
encoder. Their layout names the level, for example ``trident-slide:gigapath``.
"""

from __future__ import annotations

import math
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.pathology import PATHOLOGY_ENCODERS, ForeignEncoder, match_foreign
from tcgn_mil.preprocessing.features.readers.base import TILE, ForeignFeatures
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.types.features import FeatureInfo

# Relative difference of field from which an encoder reads another scale than in its training.
_SAME_FIELD = 0.05


def encoder_identity(features: ForeignFeatures, settings: ImportSettings, path: Path) -> str:
    """Return the identity of the encoder of a file.

    Parameters
    ----------
    features
        Features of the file.
    settings
        Name of the encoder, if the user gives it. It has to agree with the name that the file
        states, unless that name cannot be right because it belongs to features of another width.
    path
        The file, for error messages.

    Raises
    ------
    InputError
        If nothing names the encoder, the names disagree, or the width of the features is none that
        the encoder gives.

    Examples
    --------
    >>> import numpy as np
    >>> features = ForeignFeatures("stamp", np.zeros((1, 1280)), None, encoder="virchow2")
    >>> encoder_identity(features, ImportSettings(), Path("a.h5"))
    'stamp:virchow2[cls]'
    """
    stated, given = features.encoder, (settings.encoder or "").strip()
    if not (stated or given):
        what = "encoder" if features.level == TILE else f"{features.level} encoder"
        raise InputError(f"does not name its {what}", path=path, fix="give it with --encoder")
    if features.level != TILE:
        if stated and given not in ("", stated):
            raise _disagreement(stated, given, path)
        return f"{features.kind}:{stated or given}"
    width = features.features.shape[1]
    name = stated or given
    if stated and given not in ("", stated):
        name = given if _has_other_width(stated, width) else stated
        if name == stated and not _same_entry(stated, given, width):
            raise _disagreement(stated, given, path)
    entry = _match(name, width, path)
    return f"{features.kind}:{name if entry is None else entry.identity}"


def _match(name: str, width: int, path: Path) -> ForeignEncoder | None:
    try:
        return match_foreign(name, width)
    except InputError as error:
        raise InputError(
            error.reason,
            path=path,
            fix="check which encoder made the file, and give its name with --encoder",
        ) from error


def _has_other_width(name: str, width: int) -> bool:
    """Return whether an entry of the registry has this name, but no features of this width."""
    try:
        match_foreign(name, width)
    except InputError:
        return True
    return False


def _same_entry(name: str, other: str, width: int) -> bool:
    """Return whether two names are of one entry of the registry."""
    if _has_other_width(other, width):
        return False
    first, second = match_foreign(name, width), match_foreign(other, width)
    return first is not None and first == second


def _disagreement(stated: str, given: str, path: Path) -> InputError:
    return InputError(
        f"is of encoder {stated}, not {given}",
        path=path,
        fix=f"remove the option --encoder, or give the files of {given}",
    )


def describe_field(info: FeatureInfo) -> str | None:
    """Return a sentence if tiles have another size than those that their encoder was trained on.

    Imported features are the choice of whoever made them, so that another size is no error.

    Returns
    -------
    str or None
        None if the size is within 5 %, or the encoder is none of the registry.

    Examples
    --------
    >>> from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
    >>> spec = TileSpec.for_slide(PatchSize(512, 0.5), slide_mpp=0.25, level_downsamples=[1])
    >>> describe_field(FeatureInfo("S1", "P1", 9, 1536, "trident:uni2-h[cls]", spec))
    'made from tiles of 256 µm; uni2-h was trained on 112 µm'
    """
    name, bracket, _ = info.encoder.partition(":")[2].partition("[")
    entry = PATHOLOGY_ENCODERS.get(name) if bracket else None
    if entry is None or math.isclose(info.patch.um, entry.patch.um, rel_tol=_SAME_FIELD):
        return None
    return (
        f"made from tiles of {info.patch.um:.3g} µm; {name} was trained on {entry.patch.um:.3g} µm"
    )
