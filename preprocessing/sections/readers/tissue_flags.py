"""Read the column in_tissue in all its spellings: 0 and 1, True and False, yes and no."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.preprocessing.sections.raw_section import NOT_IN_TISSUE

NO_FLAG = "in_tissue is empty"
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
