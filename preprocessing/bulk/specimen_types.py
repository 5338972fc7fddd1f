"""Describe the tissue behind each patient of a cohort: sample type, vial and preservation.

A cohort such as TCGA-SKCM joins most patients by a metastasis and others by a primary tumour. The
two differ in expression and in outcome, so that a mixture is said, and its columns are kept in
``obs`` of the cohort, where ``associate`` and ``survive`` read them as covariates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from tcgn_mil.preprocessing.bulk.specimens import FFPE, Specimen
from tcgn_mil.tcga_barcodes import SAMPLE_TYPES
from tcgn_mil.text import counted

UNSTATED = "not stated"


class Kept(NamedTuple):
    """Slides and samples that a join kept."""

    slides: Sequence[Specimen]
    samples: Sequence[Specimen]


def describe_specimens(patients: Sequence[str], kept: Kept) -> pd.DataFrame:
    """Return one row for each patient.

    Returns
    -------
    pandas.DataFrame
        Text columns. ``sample_type`` is that of the expression, or of the slides if the expression
        does not state it; ``vial`` and ``preservation`` are those of the expression, and
        ``slide_preparation`` is diagnostic or frozen. Several values are joined by `` and ``.

    Examples
    --------
    >>> from tcgn_mil.preprocessing.bulk.specimens import sample_specimens
    >>> names = ["TCGA-AA-0001-01A", "TCGA-AA-0002-06A"]
    >>> samples = sample_specimens(names, [b"1", b"2"])
    >>> types = describe_specimens([name[:12] for name in names], Kept([], samples))
    >>> types["sample_type"].tolist()
    ['primary tumour', 'metastasis']
    """
    slides_of, samples_of = _by_patient(kept.slides), _by_patient(kept.samples)
    rows = []
    for patient in patients:
        slides, samples = slides_of.get(patient, []), samples_of.get(patient, [])
        stated = _types(samples) or _types(slides)
        rows.append(
            {
                "sample_type": _joined(stated) or UNSTATED,
                "vial": _joined(sample.vial for sample in samples),
                "preservation": _joined(sample.preservation for sample in samples) or UNSTATED,
                "slide_preparation": _joined(slide.preparation for slide in slides) or UNSTATED,
            }
        )
    return pd.DataFrame(rows, index=pd.Index(patients, name="patient_id"))


def specimen_notes(types: pd.DataFrame, n_samples: Sequence[int]) -> list[str]:
    """Return what a user must know of the tissue of a cohort.

    Parameters
    ----------
    types
        As :func:`describe_specimens` gives it.
    n_samples
        Number of samples of each patient.
    """
    notes = []
    counts = types["sample_type"].value_counts()
    if len(counts) > 1:
        listed = ", ".join(f"{kind} {count}" for kind, count in counts.items())
        notes.append(
            f"the cohort mixes sample types ({listed} patients), which differ in expression and in"
            " outcome: give --covariate sample_type to tcgn-mil survive, and --covariates"
            " cohort.h5ad --adjust-for sample_type to tcgn-mil associate, or join one type only"
        )
    ffpe = int(types["preservation"].str.contains(FFPE).sum())
    if ffpe:
        others = len(types) - ffpe
        notes.append(
            f"{counted(ffpe, 'patient')} with expression of an FFPE sample, whose RNA is degraded"
            + f"; the other {others} are not known to be FFPE" * bool(others)
        )
    several = int((pd.Series(list(n_samples)) > 1).sum())
    if several:
        vials = int(types["vial"].str.contains(" and ").sum())
        notes.append(
            f"{counted(several, 'patient')} with several samples of one type, which were averaged"
            + f"; {vials} of them over different vials" * bool(vials)
        )
    return notes


def _by_patient(specimens: Sequence[Specimen]) -> dict[str, list[Specimen]]:
    of_patient: dict[str, list[Specimen]] = {}
    for specimen in specimens:
        of_patient.setdefault(specimen.patient_id, []).append(specimen)
    return of_patient


def _types(specimens: Sequence[Specimen]) -> list[str]:
    codes = sorted({each.sample_type for each in specimens if each.sample_type is not None})
    return [SAMPLE_TYPES.get(code, f"type {code:02d}") for code in codes]


def _joined(values: Iterable[str]) -> str:
    return " and ".join(sorted({value for value in values if value}))
