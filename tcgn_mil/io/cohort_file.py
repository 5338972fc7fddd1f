"""cohort.h5ad: bulk expression of patients (M, G) in its declared unit, joined to their slides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.units import ExpressionUnit

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

KIND = "cohort"
SLIDE_COLUMNS = ("slide_id", "patient_id")


def read_cohort(path: str | Path) -> AnnData:
    """Read and check a cohort: dense X float32 (M, G), obs index patient_id, ``uns["slides"]``, ``uns["tcgn_mil"]``.

    Raises
    ------
    InputError
        If it is missing, broken, or was not made by ``tcgn-mil bulk``; or was changed since so that patients or genes
        repeat, or its unit or slides can no longer be told.
    """
    import anndata

    path = Path(path)
    if not path.is_file():
        raise InputError("no such cohort", path=path, fix="make it with tcgn-mil bulk")
    try:
        cohort = anndata.read_h5ad(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"cannot be read as AnnData ({error})", path=path, fix="make it again"
        ) from error
    if "slides" not in cohort.uns or _meta(cohort.uns).get("kind") != KIND:
        raise InputError(
            "is no cohort of this package", path=path, fix="make it with tcgn-mil bulk"
        )
    _check(cohort, path)
    return cohort


def _check(cohort: AnnData, path: Path) -> None:
    """What later stages rely on; other tools may have written the file since."""
    absent = [
        column
        for column in SLIDE_COLUMNS
        if column not in getattr(cohort.uns["slides"], "columns", ())
    ]
    if absent:
        raise InputError(f"its slides have no {', '.join(absent)}", path=path, fix="make it again")
    if "unit" not in cohort_meta(cohort):
        raise InputError("does not state its unit", path=path, fix="make it again with --unit")
    for what, names in (("patient", cohort.obs_names), ("gene", cohort.var_names)):
        repeated = duplicates(names)
        if repeated:
            raise InputError(
                f"names {what} {preview(repeated)} more than once",
                path=path,
                fix="keep one of each",
            )
    if not isinstance(cohort.X, np.ndarray) or cohort.X.dtype != np.float32:
        raise InputError(
            "its X is no dense float32 matrix", path=path, fix="make it again, or convert X"
        )


def cohort_meta(cohort: AnnData) -> dict[str, Any]:
    """What made the cohort: unit, join key, sources, versions."""
    return _meta(cohort.uns)


def _meta(uns: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object under ``tcgn_mil``; empty where a file of somebody else has none."""
    try:
        found = json.loads(str(uns.get("tcgn_mil", "{}")))
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def cohort_unit(cohort: AnnData) -> ExpressionUnit:
    """The declared unit of X."""
    return ExpressionUnit.parse(cohort_meta(cohort)["unit"])


def slides_of(cohort: AnnData) -> pd.DataFrame:
    """The slides kept by the join: slide_id, patient_id."""
    return cohort.uns["slides"]
