"""Read cohort.h5ad, the measured bulk expression of patients joined to their slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.anndata_file import open_anndata, stored_meta
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.units import ExpressionUnit

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

KIND = "cohort"
SLIDE_COLUMNS = ("slide_id", "patient_id")
# Columns of obs that describe the tissue of a patient, and can be covariates.
SPECIMEN_COLUMNS = ("sample_type", "vial", "preservation", "slide_preparation", "site")


@reads("a cohort", fix="make the file again with tcgn-mil bulk")
def read_cohort(path: str | Path) -> AnnData:
    """Read and check a cohort.

    Parameters
    ----------
    path
        The file that ``tcgn-mil bulk`` wrote.

    Returns
    -------
    AnnData
        ``X`` is (M, G) float32 in the unit of :func:`cohort_unit`, observations are patients and
        variables are genes. Use :func:`slides_of` for the slides and :func:`cohort_meta` for the
        metadata.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not a cohort; or if another program changed it so that
        patients or genes repeat, or the unit or the slides are lost.
    """
    path = Path(path)
    cohort = open_anndata(
        path,
        what="cohort",
        missing_fix="make it with tcgn-mil bulk",
        broken_fix="make the file again with tcgn-mil bulk",
    )
    if "slides" not in cohort.uns or stored_meta(cohort).get("kind") != KIND:
        raise InputError(
            "is not a cohort of this package", path=path, fix="make it with tcgn-mil bulk"
        )
    _check(cohort, path)
    return cohort


def _check(cohort: AnnData, path: Path) -> None:
    columns = getattr(cohort.uns["slides"], "columns", ())
    if absent := [column for column in SLIDE_COLUMNS if column not in columns]:
        raise InputError(
            f"its table of slides has no column {', '.join(absent)}",
            path=path,
            fix="make the file again with tcgn-mil bulk",
        )
    if "unit" not in cohort_meta(cohort):
        raise InputError(
            "does not state its unit", path=path, fix="make the file again with --unit"
        )
    for kind, names in (("patient", cohort.obs_names), ("gene", cohort.var_names)):
        if repeated := duplicates(names):
            raise InputError(
                f"names {kind} {preview(repeated)} more than once",
                path=path,
                fix=f"keep one row for each {kind}",
            )
    if not isinstance(cohort.X, np.ndarray) or cohort.X.dtype != np.float32:
        raise InputError(
            "its X is not a dense float32 matrix",
            path=path,
            fix="convert X, or make the file again with tcgn-mil bulk",
        )


def specimens_of(obs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of ``obs`` that describe the tissue of each patient, as text."""
    present = [name for name in SPECIMEN_COLUMNS if name in obs]
    return obs[present].astype(str)


def mixed_types(specimens: pd.DataFrame | None) -> str:
    """Return a sentence if the patients are of several sample types; empty otherwise."""
    if specimens is None or "sample_type" not in specimens:
        return ""
    counts = specimens["sample_type"].value_counts()
    if len(counts) < 2:
        return ""
    listed = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    return (
        f"the measured cohort mixes sample types ({listed} patients), which differ in expression"
        " and in outcome; sample_type can be given as a covariate"
    )


def cohort_meta(cohort: AnnData) -> dict[str, Any]:
    """Return the metadata of a cohort: unit, join key, sources and versions."""
    return stored_meta(cohort)


def cohort_unit(cohort: AnnData) -> ExpressionUnit:
    """Return the declared unit of ``X``."""
    return ExpressionUnit.parse(cohort_meta(cohort)["unit"])


def slides_of(cohort: AnnData) -> pd.DataFrame:
    """Return the slides of the cohort, a data frame with the columns slide_id and patient_id."""
    return cohort.uns["slides"]
