"""Choose the µm per pixel of a section's image from all that is stated, and never by a guess.

A wrong scale changes the physical size of every patch, and nothing later shows it. The sources are
the user's ``--mpp`` and ``--spot-pitch-um``, the hexagonal array of Visium (100 µm), and what the
files of the section state. They have to agree with each other. The resolution tag of the image is
the last resort, since tags are often those of a printer or of another export.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.lattice import Lattice
from tcgn_mil.preprocessing.sections.raw_section import (
    MAX_DISAGREEMENT,
    ReadSettings,
    SectionImage,
)
from tcgn_mil.types.tile_geometry import check_mpp

MICRONS_PER_PIXEL = "microns_per_pixel"
BIN_SIZE = "bin_size_um"
_WORTH_SAYING = 0.01  # a smaller difference is one of rounding
_STATED_TOLERANCE = 0.02  # between two values that are both written down
# Space Ranger names the bins of Visium HD by their size, row and column.
_BIN_NAME = re.compile(r"s_(\d{3})um_\d+_\d+(-\d+)?")


@dataclass(frozen=True)
class Statement:
    """Resolution that one source gives.

    Attributes
    ----------
    mpp
        µm per pixel of the full-resolution image.
    source
        Name of the source, for messages.
    measured
        Whether it was measured from the spots. Such a value has a larger tolerance.
    preferred
        Whether it is used rather than what is measured here, if the two agree.
    """

    mpp: float
    source: str
    measured: bool = False
    preferred: bool = False

    def contradicts(self, other: Statement) -> bool:
        """Return whether two values differ by more than 2 %, or 5 % if one was measured."""
        measured = self.measured or other.measured
        tolerance = MAX_DISAGREEMENT if measured else _STATED_TOLERANCE
        return abs(self.mpp / other.mpp - 1) > tolerance


class Scale(NamedTuple):
    """Resolution that was chosen.

    Attributes
    ----------
    mpp
        µm per pixel of the full-resolution image.
    warnings
        Messages that are printed for the user.
    """

    mpp: float
    warnings: tuple[str, ...] = ()


def choose_scale(
    lattice: Lattice,
    settings: ReadSettings,
    statements: Sequence[Statement],
    image: SectionImage | None,
    *,
    path: Path,
) -> Scale:
    """Return the µm per pixel, after comparing all sources with each other.

    Parameters
    ----------
    lattice
        Lattice of the spots.
    settings
        The user's µm per pixel and distance of spots, if given.
    statements
        Resolutions that the files of the section state.
    image
        Image of the section, whose tag is used if nothing else is known.
    path
        The file, for messages.

    Raises
    ------
    InputError
        If two sources contradict each other and the user's value does not override, or if there is
        no source at all.
    """
    known = [*_by_pitch(lattice, settings, path), *statements]
    tag = None if image is None or image.scale < 1 else image.stated_mpp()
    # The tag is read if better sources are missing, or if the only one is a hexagonal lattice that
    # may not be Visium's.
    guessed = settings.spot_pitch_um is None and not statements and not lattice.by_array
    if tag is not None and image is not None and (not known or guessed):
        known.append(Statement(tag, f"the tag of {image.path.name}"))
    if settings.mpp is not None:
        stated = check_mpp(settings.mpp, what="given resolution", path=path)
        return _checked_by([*known], Statement(stated, "--mpp"), settings, path)
    if not known:
        raise _unknown(lattice, path)
    first, *others = known
    check_mpp(first.mpp, what="measured resolution" if first.measured else "resolution", path=path)
    for other in others:
        if first.contradicts(other):
            raise InputError(
                f"{first.source} give {first.mpp:.4g} µm/px, but {other.mpp:.4g} is stated by"
                f" {other.source}",
                path=path,
                fix="check that the files are of one section; if one of them is wrong, give the"
                " true µm per pixel of the full-resolution image with --mpp and --override-mpp",
            )
    chosen = next((each for each in known if each.preferred), first)
    return Scale(chosen.mpp, _compared(chosen, known))


def _compared(chosen: Statement, known: Sequence[Statement]) -> tuple[str, ...]:
    """Return sentences on values that differ from the chosen one, but not enough to be refused."""
    return tuple(
        f"{other.source} give {other.mpp:.4g} µm/px, {abs(other.mpp / chosen.mpp - 1):.1%} from the"
        f" {chosen.mpp:.4g} of {chosen.source.rstrip(',')}, which is used"
        for other in known
        if abs(other.mpp / chosen.mpp - 1) > _WORTH_SAYING
    )


def _by_pitch(lattice: Lattice, settings: ReadSettings, path: Path) -> list[Statement]:
    """Return the resolution by the distance of spots, if it is known on the glass."""
    if lattice.pitch_px is None:
        if settings.spot_pitch_um is None:
            return []
        raise InputError(
            "its spots span no lattice, so that they have no distance to compare with"
            " --spot-pitch-um",
            path=path,
            fix="give the µm per pixel of the image with --mpp instead",
        )
    pitch_um = lattice.pitch_um if settings.spot_pitch_um is None else settings.spot_pitch_um
    if pitch_um is None:
        return []
    spots = f"its spots, {pitch_um:g} µm apart,"
    return [Statement(pitch_um / lattice.pitch_px, spots, measured=True)]


def _checked_by(
    known: Sequence[Statement], given: Statement, settings: ReadSettings, path: Path
) -> Scale:
    """Return the user's value, unless a source contradicts it that is not overridden."""
    against = [other for other in known if given.contradicts(other)]
    if not against:
        return Scale(given.mpp, _compared(given, known))
    other = against[0]
    said = f"{other.source} give {other.mpp:.4g} µm/px, but {given.mpp:.4g} is stated"
    if settings.override_mpp:
        return Scale(given.mpp, (f"{said} by --mpp and used, by --override-mpp",))
    true_pitch = ", or give the true distance of spots to --spot-pitch-um" if other.measured else ""
    raise InputError(
        said,
        path=path,
        fix=f"remove the stated resolution{true_pitch}; if yours is right, add --override-mpp",
    )


def _unknown(lattice: Lattice, path: Path) -> InputError:
    if lattice.pitch_px is None:
        return InputError(
            "nothing states the µm per pixel of its image, and its spots span no lattice",
            path=path,
            fix="give the µm per pixel of the full-resolution image with --mpp",
        )
    kind = "a hexagonal lattice" if lattice.hexagonal else "a square grid"
    why = (
        "its spots have no array positions and no barcodes of Visium, and hexagons of other tools"
        " have any size"
        if lattice.hexagonal
        else "square grids of 2 to 200 µm are in use"
    )
    return InputError(
        f"its spots lie on {kind}, {lattice.pitch_px:.4g} px apart, and nothing states the distance"
        f" in µm: {why}",
        path=path,
        fix="give the distance between the centres of neighbouring spots with --spot-pitch-um, as"
        " the protocol of this section states it (100 for Visium), or the µm per pixel of the"
        " full-resolution image with --mpp",
    )


def statements_of(
    scalefactors: Mapping[str, Any], lattice: Lattice, bin_um: float | None, *, path: Path
) -> list[Statement]:
    """Return the resolutions that the scale factors of Space Ranger state.

    Parameters
    ----------
    scalefactors
        Fields of scalefactors_json.json, or of an .h5ad.
    lattice
        Lattice of the spots.
    bin_um
        Side of the bins of Visium HD, from :func:`bin_size`.
    path
        File of the fields, for messages.
    """
    stated = []
    micrometres = _number(scalefactors, MICRONS_PER_PIXEL, path)
    if micrometres is not None:
        check_mpp(micrometres, what=MICRONS_PER_PIXEL, path=path)
        stated.append(Statement(micrometres, f"{MICRONS_PER_PIXEL} of {path.name}"))
    if bin_um is not None and lattice.pitch_px is not None and not lattice.hexagonal:
        bins = f"its bins of {bin_um:g} µm"
        stated.append(Statement(bin_um / lattice.pitch_px, bins, measured=True))
    return stated


def bin_size(scalefactors: Mapping[str, Any], names: Sequence[str], *, path: Path) -> float | None:
    """Return the side of the bins of Visium HD in µm; None if the spots are no bins.

    Parameters
    ----------
    scalefactors
        Fields of scalefactors_json.json, or of an .h5ad.
    names
        Names of the spots. Space Ranger puts the size of bins into them.
    path
        File of the fields, for messages.

    Examples
    --------
    >>> bin_size({}, ["s_016um_00003_00011-1"], path=Path("scalefactors_json.json"))
    16.0
    """
    by_field = _number(scalefactors, BIN_SIZE, path)
    marks = {match[1] if (match := _BIN_NAME.fullmatch(str(name))) else "" for name in names}
    by_name = float(marks.pop()) if len(marks) == 1 and marks != {""} else None
    if by_field is not None and by_name is not None and by_field != by_name:
        raise InputError(
            f"states bins of {by_field:g} µm, but the names of the bins say {by_name:g}",
            path=path,
            fix="give matrix, positions and scale factors of one folder of binned_outputs",
        )
    return by_name if by_field is None else by_field


def _number(fields: Mapping[str, Any], name: str, path: Path) -> float | None:
    """Return a field as a positive number; None if it is missing."""
    value = fields.get(name) if isinstance(fields, Mapping) else None
    if value is None:
        return None
    try:
        number = float(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise InputError(
            f"has {value!r} as {name}, which is no positive number",
            path=path,
            fix="copy the file again from the same run",
        )
    return number
