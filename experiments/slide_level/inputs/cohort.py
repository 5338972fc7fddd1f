"""Read the patients that have both expression and features, and describe them for the baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.batches.bag_files import check_same_encoder, mean_features
from tcgn_mil.errors import InputError
from tcgn_mil.io.cohort_file import cohort_unit, read_cohort, slides_of
from tcgn_mil.io.feature_files import find_features, read_features, read_mean_colour
from tcgn_mil.progress import Progress
from tcgn_mil.types.features import FeatureInfo
from tcgn_mil.types.tile_geometry import PatchSize
from tcgn_mil.types.tiles import stain_identity
from tcgn_mil.types.units import ExpressionUnit

ALIGNED = ", standardised within cohorts"


@dataclass(frozen=True)
class CohortData:
    """A cohort with its features: M patients in order, their slides, and their expression.

    Attributes
    ----------
    patients
        Names of the M patients.
    slides
        Feature files of each patient's slides.
    genes
        Names of the G genes.
    values
        (M, G) float32 expression in the training unit. Z-scores are as they were given; each fold
        ranks them within its own training patients.
    unit
        Declared unit of the cohort file.
    sites
        Tissue source site of each patient; empty if the cohort does not name it.
    sources
        Expression table from which each patient comes; empty if the cohort does not name it.
    cohorts
        Cohort of each patient, within which expression is standardised and r is taken. Empty if
        all patients are treated as one cohort.
    donors
        Person behind each patient name, for cohorts in which a row is a section of a person.
    encoder
        Identity of the encoder that made the features.
    width
        Number of features of a tile.
    patch
        Side and resolution of a tile.
    stain
        Identity of the stain normalisation of the tiles.
    tiling
        Rules by which the tiles were made, as far as the feature files state them and agree.
    descriptors
        (M, F) values of each kind that the baselines read: ``mean_features`` and, where the files
        have it, ``colour``. Mean features are NaN where a table has no value for the patient.
    dropped
        Slides and patients that cannot be used, with the columns kind, id and reason.
    single_vectors
        Whether every slide has one feature vector, as in tables of slide features.
    """

    patients: tuple[str, ...]
    slides: dict[str, tuple[Path, ...]]
    genes: tuple[str, ...]
    values: NDArray[np.float32]
    unit: ExpressionUnit
    sites: dict[str, str]
    sources: dict[str, str]
    cohorts: dict[str, str]
    donors: dict[str, str]
    encoder: str
    width: int
    patch: PatchSize
    stain: str
    tiling: dict[str, Any]
    descriptors: dict[str, NDArray[np.float32]]
    dropped: pd.DataFrame
    single_vectors: bool = False

    @property
    def training_unit(self) -> str:
        """Unit of the targets and of the predictions."""
        return self.unit.training_unit + (ALIGNED if self.cohorts else "")

    def rows_of(self, patients: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each of some patients in the cohort."""
        row = {name: index for index, name in enumerate(self.patients)}
        return np.array([row[name] for name in patients], dtype=np.int64)

    def only(self, rows: NDArray[np.int64]) -> CohortData:
        """Return the cohort with some of its patients (rows of the cohort, in their order)."""
        patients = tuple(self.patients[row] for row in rows)
        own = set(patients)
        kept: dict[str, Any] = {
            name: {
                patient: value for patient, value in getattr(self, name).items() if patient in own
            }
            for name in ("slides", "sites", "sources", "cohorts", "donors")
        }
        return dataclasses.replace(
            self,
            patients=patients,
            values=self.values[rows],
            descriptors={name: values[rows] for name, values in self.descriptors.items()},
            **kept,
        )

    def cohort_of(self, patients: Sequence[str]) -> NDArray[np.int64]:
        """Return the number of each patient's cohort; all are 0 if there is one cohort."""
        number = {name: index for index, name in enumerate(sorted(set(self.cohorts.values())))}
        return np.array(
            [number[self.cohorts[name]] if number else 0 for name in patients], dtype=np.int64
        )


class _UsableSlide(NamedTuple):
    """A feature file, the mean (D,) of its features and its mean colour (30,), if it has one."""

    path: Path
    info: FeatureInfo
    mean: NDArray[np.float32]
    colour: NDArray[np.float32] | None


def load_cohort(
    cohort_path: str | Path, features_dir: str | Path, *, pooled: bool = False
) -> CohortData:
    """Read a cohort and all of its features once.

    Slides that cannot be used (no feature file, a damaged one, values that are not finite, no
    tile) are listed in ``dropped``, and so are patients without such a slide or without expression.

    Parameters
    ----------
    cohort_path
        File ``cohort.h5ad`` that ``tcgn-mil bulk`` wrote.
    features_dir
        Folder that ``tcgn-mil encode`` wrote.
    pooled
        Treat patients of several expression tables as one cohort.

    Raises
    ------
    InputError
        If no patient has both expression and features; if the features differ in encoder, tile
        size or stain normalisation; or if the values of a table cannot be in the declared unit.
    """
    cohort = read_cohort(cohort_path)
    unit = cohort_unit(cohort)
    usable, dropped = _usable_slides(cohort, Path(features_dir))
    measured = dict(zip(cohort.obs_names, np.isfinite(cohort.X).any(axis=1), strict=True))
    patients = tuple(name for name in cohort.obs_names if name in usable and measured[name])
    chosen = frozenset(patients)
    dropped += [
        ("patient", name, "no slide with features" if name not in usable else "no expression value")
        for name in cohort.obs_names
        if name not in chosen
    ]
    if not patients:
        raise InputError(
            f"none of its {cohort.n_obs} patients has features in {features_dir}"
            + (f" ({dropped[0][1]}: {dropped[0][2]})" if dropped else ""),
            path=cohort_path,
            fix="encode the slides of this cohort, or give --features the folder of its features",
        )
    slides = {name: usable[name] for name in patients}
    every = [slide for name in patients for slide in slides[name]]
    first = check_same_encoder([slide.info for slide in every], [slide.path for slide in every])
    obs = {
        str(name): column.astype(str).to_dict()
        for name, column in cohort.obs.loc[list(patients)].items()
    }
    values = np.asarray(cohort[list(patients)].X, dtype=np.float32)
    sources = obs.get("source", {})
    # Expression of two tables differs in level and spread for technical reasons, and so does the
    # look of their slides. r over both would reward a model that only tells the tables apart.
    cohorts = sources if len(set(sources.values())) > 1 and not pooled else {}
    for source in sorted(set(cohorts.values())):
        unit.check_sign(
            values[[cohorts[name] == source for name in patients]], path=f"{cohort_path}, {source}"
        )
    return CohortData(
        patients=patients,
        slides={name: tuple(slide.path for slide in slides[name]) for name in patients},
        genes=tuple(cohort.var_names),
        values=unit.to_training(values),
        unit=unit,
        sites=obs.get("site", {}),
        sources=sources,
        cohorts=cohorts,
        donors=obs.get("donor", {name: name for name in patients}),
        encoder=first.encoder,
        width=first.width,
        patch=first.patch,
        stain=stain_identity(first.stain),
        tiling=shared_tiling([slide.info for slide in every]),
        descriptors=_descriptors(slides),
        dropped=pd.DataFrame(dropped, columns=["kind", "id", "reason"]),
        single_vectors=all(slide.info.n_tiles == 1 for slide in every),
    )


def _usable_slides(
    cohort: anndata.AnnData, features_dir: Path
) -> tuple[dict[str, list[_UsableSlide]], list[tuple[str, str, str]]]:
    """Return the usable slides of each patient, and the others with the reason."""
    files = find_features(features_dir)
    usable: dict[str, list[_UsableSlide]] = {}
    dropped: list[tuple[str, str, str]] = []
    table = slides_of(cohort)
    rows = zip(table["slide_id"].astype(str), table["patient_id"].astype(str), strict=True)
    for slide_id, patient_id in Progress(
        rows, desc="look at features", unit="slide", leave=False, total=len(table)
    ):
        if slide_id not in files:
            dropped.append(("slide", slide_id, "no feature file"))
            continue
        try:
            slide = _read_slide(files[slide_id])
        except InputError as error:
            dropped.append(("slide", slide_id, error.reason))
        else:
            usable.setdefault(patient_id, []).append(slide)
    return usable, dropped


def _read_slide(path: Path) -> _UsableSlide:
    """Read a whole feature file, so that a damaged one is known before training begins."""
    features, _, info = read_features(path)
    if not len(features):
        raise InputError(
            "has no tile", path=path, fix="check the tissue of the slide in its overlay picture"
        )
    return _UsableSlide(
        path,
        info,
        mean_features(features),
        read_mean_colour(path),
    )


def shared_tiling(slides: Sequence[FeatureInfo]) -> dict[str, Any]:
    """Return the tiling rules on which all slides agree, with the step of the grid."""
    first, *others = [{"stride_px": info.spec.stride_px, **info.tiling} for info in slides]
    return {
        name: value
        for name, value in first.items()
        if all(name in rules and rules[name] == value for rules in others)
    }


def _descriptors(
    slides: Mapping[str, Sequence[_UsableSlide]],
) -> dict[str, NDArray[np.float32]]:
    """Return (M, D) mean features and, if every slide has them, (M, 30) colours of the patients.

    Each slide of a patient counts alike, whatever its number of tiles.
    """
    descriptors = {
        "mean_features": np.stack(
            [mean_features(np.stack([slide.mean for slide in own])) for own in slides.values()]
        )
    }
    colours = [
        [slide.colour for slide in own if slide.colour is not None] for own in slides.values()
    ]
    if all(len(row) == len(own) for row, own in zip(colours, slides.values(), strict=True)):
        descriptors["colour"] = np.stack([np.mean(row, axis=0) for row in colours])
    return descriptors
