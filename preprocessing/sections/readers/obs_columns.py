"""Read the columns that tools write for spots: tissue flags, positions in the array, the patient.

The column in_tissue is read in all its spellings: 0 and 1, True and False, yes and no.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.lattice import (
    Lattice,
    find_lattice,
    fit_lattice,
    of_visium,
    refuse_shared_places,
)
from tcgn_mil.preprocessing.sections.raw_section import NOT_IN_TISSUE

NO_FLAG = "in_tissue is empty"
_PATIENT_COLUMNS = ("patient", "patient_id", "donor_id")
_NO_PATIENT = frozenset({"unknown", "pooled", "na", "nan", ""})  # words of CELLxGENE's schema
_YES = frozenset({"1", "1.0", "true", "t", "yes", "y"})
_NO = frozenset({"0", "0.0", "false", "f", "no", "n"})
_EMPTY = frozenset({"", "nan", "na", "none", "<na>", "null"})


class TissueFlags(NamedTuple):
    """Column in_tissue.

    Attributes
    ----------
    under
        (S,) whether a spot is under tissue.
    empty
        (S,) whether its cell is empty. Such a spot is not taken.
    unknown
        (S,) whether its cell is neither yes, no nor empty.
    """

    under: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    def reasons(self) -> NDArray[np.object_]:
        """Return (S,) the reason to leave a spot out, for spots that are not under tissue."""
        return np.where(self.empty, NO_FLAG, NOT_IN_TISSUE).astype(object)


def read_flags(column: pd.Series) -> TissueFlags:
    """Read a column in_tissue of any type.

    Examples
    --------
    >>> read_flags(pd.Series(["True", "no", "1.0", None])).under.tolist()
    [True, False, True, False]
    """
    # Most columns hold two values in thousands of rows, so that each value is read once.
    codes, values = pd.factorize(column.astype(object), use_na_sentinel=True)
    words = [str(value).strip().lower() for value in values]
    tables = [
        np.array([*(word in accepted for word in words), missing], dtype=bool)
        for accepted, missing in ((_YES, False), (_NO, False), (_EMPTY, True))
    ]
    under, off, empty = (table[codes] for table in tables)
    return TissueFlags(under, empty, ~(under | off | empty))


def under_tissue(obs: pd.DataFrame, path: Path) -> tuple[NDArray[np.bool_], list[tuple[str, str]]]:
    """Return which spots are under tissue, and the others with the reason.

    Parameters
    ----------
    obs
        Columns of the S spots. Without ``in_tissue`` all spots are taken.
    path
        The file, for messages.

    Returns
    -------
    under : (S,) bool
    dropped : list of tuple
        Name and reason of each other spot.

    Raises
    ------
    InputError
        If a flag is neither yes nor no, or no spot is under tissue.
    """
    if "in_tissue" not in obs:
        return np.ones(len(obs), dtype=bool), []
    flags = read_flags(obs["in_tissue"])
    if flags.unknown.any():
        row = int(np.argmax(flags.unknown))
        raise InputError(
            f"obs['in_tissue'] of spot {obs.index[row]} is {obs['in_tissue'].iloc[row]!r}, which is"
            " neither yes nor no",
            path=path,
            fix="store 1 or 0, or True or False, in obs['in_tissue']",
        )
    if not flags.under.any():
        raise InputError("has no spot under tissue", path=path, fix="check obs['in_tissue']")
    off = ~flags.under
    names = [str(name) for name in obs.index[off]]
    return flags.under, list(zip(names, flags.reasons()[off], strict=True))


def place_spots(
    obs: pd.DataFrame, pixels: NDArray[np.float64], path: Path
) -> tuple[pd.DataFrame, Lattice]:
    """Return the positions of spots in the array and in pixels, and the lattice they lie on.

    Parameters
    ----------
    obs
        Columns of the S spots, of which ``array_col`` and ``array_row`` are read if there are any.
    pixels
        (S, 2) x, y of the centres in pixels.
    path
        The file, for messages.

    Raises
    ------
    InputError
        If an array position is no number, the positions do not lie on the lattice of the array, or
        two spots are at one place.
    """
    has_array = {"array_col", "array_row"} <= set(obs.columns)
    array = np.full((len(obs), 2), -1.0)
    if has_array:
        columns = obs[["array_col", "array_row"]].apply(pd.to_numeric, errors="coerce")
        array = columns.to_numpy(dtype=np.float64)
        if not np.isfinite(array).all():
            bad = obs.index[int(np.argmin(np.isfinite(array).all(axis=1)))]
            raise InputError(
                f"spot {bad} has no number for its array position",
                path=path,
                fix="correct array_col and array_row in obs",
            )
    lattice = (
        fit_lattice(array, pixels, path=path)
        if has_array
        else of_visium(find_lattice(pixels), [str(name) for name in obs.index])
    )
    refuse_shared_places(pixels, path=path)
    whole = np.rint(array).astype(np.int64)
    positions = pd.DataFrame(
        {"x": whole[:, 0], "y": whole[:, 1], "pixel_x": pixels[:, 0], "pixel_y": pixels[:, 1]},
        index=obs.index,
    )
    return positions, lattice


def patient_of_spots(obs: pd.DataFrame) -> str | None:
    """Return the patient, if one column of obs names the same for all spots."""
    for column in _PATIENT_COLUMNS:
        if column in obs and obs[column].nunique() == 1:
            name = str(obs[column].iloc[0])
            return None if name.lower() in _NO_PATIENT else name
    return None
