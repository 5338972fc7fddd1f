"""Sections as a study sees them: which train and test, which spots are kept, and their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.contracts import GenePanel, PatchSize, SpotSet, duplicates, preview
from tcgn_mil.data.spot_files import read_patches, read_spots
from tcgn_mil.data.targets import Normalisation, detection, spot_expression, total_counts
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_evaluation import SpotTargets


@dataclass(frozen=True)
class SectionSplit:
    """Which sections train, choose the epoch and test, and how validation relates to training.

    Attributes
    ----------
    train, val, test
        Section ids.
    validation
        ``patient-disjoint`` or ``held-out section of a training patient``.
    leaking
        Patients tested on that also train or validate; such a result is labelled ``patient leakage``.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    validation: str
    leaking: tuple[str, ...]

    def as_table(self) -> pd.DataFrame:
        """One row a section: fold, part, id."""
        rows = [(0, part, name) for part in ("train", "val", "test") for name in getattr(self, part)]
        return pd.DataFrame(rows, columns=["fold", "part", "id"])


def split_sections(patient_of: Mapping[str, str], val: Sequence[str], test: Sequence[str]) -> SectionSplit:
    """Split sections by name; what is in neither `val` nor `test` trains.

    Parameters
    ----------
    patient_of
        Section -> patient, of all sections there are.
    val
        If empty, chosen: the sections of the last training patient where three or more patients remain, else the
        last remaining section.

    Raises
    ------
    InputError
        For unknown or repeated sections, or a part left empty.
    """
    named = [*val, *test]
    unknown = [name for name in named if name not in patient_of]
    if unknown:
        raise InputError(f"no section {preview(unknown)}", fix=f"sections are {preview(sorted(patient_of), most=20)}")
    if duplicates(named):
        raise InputError(f"section {preview(duplicates(named))} is given twice", fix="name it for one part only")
    rest = [name for name in sorted(patient_of) if name not in named]
    if not val:
        val = _choose_validation(rest, patient_of)
    train = tuple(name for name in rest if name not in val)
    if not train or not val:
        raise InputError(
            f"{len(patient_of)} sections leave no {'training' if not train else 'validation'} section",
            fix="name fewer validation and test sections, or read more sections",
        )
    patients = {patient_of[name] for name in train}
    disjoint = not patients & {patient_of[name] for name in val}
    used = patients | {patient_of[name] for name in val}
    return SectionSplit(
        train, tuple(val), tuple(test),
        validation="patient-disjoint" if disjoint else "held-out section of a training patient",
        leaking=tuple(sorted(used & {patient_of[name] for name in test})),
    )  # fmt: skip


def _choose_validation(sections: Sequence[str], patient_of: Mapping[str, str]) -> list[str]:
    patients = sorted({patient_of[name] for name in sections})
    if len(patients) >= 3:
        return [name for name in sections if patient_of[name] == patients[-1]]
    return list(sections[-1:])


@dataclass(frozen=True)
class Section:
    """One section without its poor spots.

    Attributes
    ----------
    spots
        As read.
    rows
        (S_kept,) rows with at least ``min_umi`` counts.
    totals
        (S_kept,) counts over all measured genes.
    dropped
        Table of the other spots: section, spot, total, reason.
    """

    spots: SpotSet
    rows: NDArray[np.int64]
    totals: NDArray[np.float64]
    dropped: pd.DataFrame

    @property
    def genes(self) -> list[str]:
        """Measured genes."""
        return list(self.spots.adata.var_names)

    @property
    def patch(self) -> PatchSize:
        """Physical size of the patches."""
        return self.spots.patch

    def counts(self) -> Any:
        """(S_kept, G_all) raw counts, dense or sparse."""
        return self.spots.adata.X[self.rows]

    def patches(self) -> NDArray[np.uint8]:
        """(S_kept, px, px, 3) uint8."""
        return read_patches(self.spots.patches_path, self.rows)

    def obs(self) -> pd.DataFrame:
        """Spot table of the kept rows."""
        return self.spots.adata.obs.iloc[self.rows]

    def spatial(self) -> NDArray[np.floating]:
        """(S_kept, 2) level-0 spot centres, x then y."""
        return np.asarray(self.spots.adata.obsm["spatial"])[self.rows]


def load_section(path: Path, min_umi: int) -> Section:
    """Read a section and drop spots with fewer than `min_umi` counts.

    Raises
    ------
    InputError
        If no spot is left.
    """
    spots = read_spots(path)
    totals = total_counts(spots.adata.X)
    kept = totals >= min_umi
    if not kept.any():
        raise InputError(
            f"all {len(kept)} spots have fewer than {min_umi} counts", path=path, fix="lower min_umi or leave it out"
        )
    dropped = pd.DataFrame(
        {"section": path.stem, "spot": spots.adata.obs_names[~kept], "total": totals[~kept],
         "reason": f"fewer than {min_umi} counts"}
    )  # fmt: skip
    return Section(spots, np.flatnonzero(kept), totals[kept], dropped)


def section_targets(section: Section, panel: GenePanel, normalisation: Normalisation) -> SpotTargets:
    """Normalised expression of the panel, with depth and detection, for the kept spots."""
    columns = panel.index_in(section.genes, path=section.spots.patches_path)
    counts = section.counts()
    expression = spot_expression(counts, columns, normalisation=normalisation)
    if not np.isfinite(expression).all():
        empty = int((~np.isfinite(expression).all(axis=1)).sum())
        raise InputError(
            f"section {section.spots.section}: {empty} spots have no count of any panel gene",
            fix="raise min_umi, or use normalisation=library",
        )
    return SpotTargets(expression, np.log(section.totals), detection(counts, columns), section.spatial())


def one_patch_size(sections: Mapping[str, Section]) -> PatchSize:
    """The patch size that all sections share.

    Raises
    ------
    InputError
        If two differ.
    """
    (first, patch), *rest = ((name, section.patch) for name, section in sections.items())
    for name, other in rest:
        if not other.matches(patch):
            raise InputError(
                f"patches of {name} are {other}, those of {first} {patch}", fix="read all sections with one patch size"
            )
    return patch
