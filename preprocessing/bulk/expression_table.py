"""Expression of one source as its reader returns it, under the names in the file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from tcgn_mil.io.failures import Failure
from tcgn_mil.types.units import ExpressionUnit


class Person(NamedTuple):
    """The patient and the tissue of a sample, if the source states them beside the sample's name.

    Attributes
    ----------
    patient_id
        The patient.
    is_tumour
        Whether the sample is of a tumour.
    sample_type
        Code of the sample type in TCGA (1 primary, 2 recurrent, 6 metastatic); None if not stated.
    preservation
        How the tissue was preserved, for example ``FFPE``; empty if not stated.
    """

    patient_id: str
    is_tumour: bool
    sample_type: int | None = None
    preservation: str = ""


class ExpressionTable(NamedTuple):
    """Expression of one source.

    Attributes
    ----------
    values
        Samples x genes, float32, NaN for missing values. Samples and genes have the names of the
        file, which may repeat.
    layout
        The layout that the source was read as.
    symbols
        Symbols of the genes, if the source names genes by id and gives symbols beside.
    people
        Patient and tissue of each sample, if the source states them.
    failures
        Parts of the source that could not be read.
    notes
        Sentences about the source, for the user.
    """

    values: pd.DataFrame
    layout: str
    symbols: tuple[str, ...] | None = None
    people: tuple[Person, ...] | None = None
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExpressionRequest:
    """Facts that the user declares about a source, in addition to its path.

    Attributes
    ----------
    layout
        Name of the layout, never ``auto``.
    unit
        Unit of the values. GDC files hold several and need it.
    logarithm
        ``log2``, ``ln`` or ``log10`` if the values are declared as such; else empty.
    layer
        Layer of an AnnData to read instead of X.
    patients
        Patients of the slides. Their ids tell samples from genes in a table that has one along
        each axis.
    """

    layout: str
    unit: ExpressionUnit | None = None
    logarithm: str = ""
    layer: str | None = None
    patients: Collection[str] = ()
