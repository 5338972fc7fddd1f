"""A cohort as a study sees it: patients with both expression and features, and what the baselines know of them.

What a slide-level run was begun on: digests of its inputs, so that no run goes on, or is returned, on others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.batches.feature_bags import check_same_encoder
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.io.cohort_file import cohort_unit, read_cohort, slides_of
from tcgn_mil.io.expression_file import read_gene_list
from tcgn_mil.io.feature_files import FeatureInfo, find_features, read_features, read_mean_colour
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.tile_geometry import PatchSize
from tcgn_mil.types.tiles import stain_identity
from tcgn_mil.types.units import ExpressionUnit

ALIGNED = ", standardised within cohorts"


@dataclass(frozen=True)
class CohortData:
    """A cohort with its features: patients in order, their slides, and expression in the training unit.

    Z-scored expression is as given here; each fold ranks it within its own training patients. ``sources`` names the
    table of a patient's expression; ``cohorts`` likewise where expression is standardised, and r taken, within each,
    and is empty for one cohort; ``tiling`` is how all slides were tiled, as far as feature files say so and agree;
    ``descriptors`` are what the baselines see of a patient, (M, F) each; ``dropped`` lists slides and patients that
    could not be used, and why.
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

    @property
    def training_unit(self) -> str:
        """Of targets and predictions."""
        return self.unit.training_unit + (ALIGNED if self.cohorts else "")

    def cohort_of(self, patients: Sequence[str]) -> NDArray[np.int64]:
        """(M,) number of each patient's cohort; zeros for one cohort."""
        number = {name: index for index, name in enumerate(sorted(set(self.cohorts.values())))}
        return np.array(
            [number[self.cohorts[name]] if number else 0 for name in patients], dtype=np.int64
        )


def rows_of(data: CohortData, patients: Sequence[str]) -> NDArray[np.int64]:
    """Row of each patient in the cohort."""
    row = {name: index for index, name in enumerate(data.patients)}
    return np.array([row[name] for name in patients], dtype=np.int64)


class _Slide(NamedTuple):
    """A readable feature file, mean features (D,) and, if stored, mean colour (30,)."""

    path: Path
    info: FeatureInfo
    mean: NDArray[np.float32]
    colour: NDArray[np.float32] | None


def load_cohort(
    cohort_path: str | Path, features_dir: str | Path, *, pooled: bool = False
) -> CohortData:
    """Read the cohort and look at all of its features once.

    Slides without features, with none that can be used (damaged files, values that are not finite, no tile), and
    patients without slides or without any expression value are listed in ``dropped``.

    Parameters
    ----------
    pooled
        Take patients of several sources as one cohort.

    Raises
    ------
    InputError
        If no patient has both expression and features, the features differ in encoder, tile size or stain, or a source
        cannot be in the declared unit.
    """
    cohort = read_cohort(cohort_path)
    unit = cohort_unit(cohort)
    found = find_features(features_dir)
    usable: dict[str, list[_Slide]] = {}
    dropped = []
    for row in tqdm(
        slides_of(cohort).itertuples(), desc="look at features", unit="slide", leave=False
    ):
        if row.slide_id not in found:
            dropped.append(("slide", row.slide_id, "no feature file"))
            continue
        try:
            slide = _look(found[row.slide_id])
        except InputError as error:
            dropped.append(("slide", row.slide_id, error.reason))
        else:
            usable.setdefault(str(row.patient_id), []).append(slide)
    measured = dict(zip(cohort.obs_names, np.isfinite(cohort.X).any(axis=1), strict=True))
    patients = tuple(name for name in cohort.obs_names if name in usable and measured[name])
    dropped += [
        ("patient", name, "no slide with features" if name not in usable else "no expression value")
        for name in cohort.obs_names
        if name not in patients
    ]
    if not patients:
        raise InputError(
            f"none of its {cohort.n_obs} patients has features in {features_dir}"
            + (f" ({dropped[0][1]}: {dropped[0][2]})" if dropped else ""),
            path=cohort_path,
            fix="encode this cohort's slides, or give its own features folder",
        )
    slides = {name: usable[name] for name in patients}
    every = [slide for name in patients for slide in slides[name]]
    first = check_same_encoder([slide.info for slide in every], [slide.path for slide in every])
    obs = {
        name: column.astype(str).to_dict()
        for name, column in cohort.obs.loc[list(patients)].items()
    }
    values = np.asarray(cohort[list(patients)].X, dtype=np.float32)
    sources = obs.get("source", {})
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
    )


def shared_tiling(slides: Sequence[FeatureInfo]) -> dict[str, Any]:
    """What all slides agree on of the step of the grid and the rules for tissue and quality that tiles were laid by."""
    first, *others = [{"stride_px": info.spec.stride_px, **info.tiling} for info in slides]
    return {
        name: value
        for name, value in first.items()
        if all(name in one and one[name] == value for one in others)
    }


def _look(path: Path) -> _Slide:
    """Read a feature file whole, so that what cannot be used is known before training."""
    features, _, info = read_features(path)
    if not len(features):
        raise InputError(
            "has no tile", path=path, fix="check the slide's tissue in its overlay picture"
        )
    return _Slide(
        path,
        info,
        features.mean(axis=0, dtype=np.float64).astype(np.float32),
        read_mean_colour(path),
    )


def _descriptors(slides: Mapping[str, Sequence[_Slide]]) -> dict[str, NDArray[np.float32]]:
    """What the baselines see of a patient, averaged over slides: (M, D) mean features, and (M, 30) colour if stored."""
    found = {
        "mean_features": np.stack(
            [np.mean([one.mean for one in part], axis=0) for part in slides.values()]
        )
    }
    colours = [[one.colour for one in part if one.colour is not None] for part in slides.values()]
    if all(len(row) == len(part) for row, part in zip(colours, slides.values(), strict=True)):
        found["colour"] = np.stack([np.mean(row, axis=0) for row in colours])
    return found


INPUTS = "inputs.json"


def input_digests(
    config: FinetuneConfig, data: CohortData, folds: Sequence[Fold]
) -> dict[str, str]:
    """What a run rests on beside its config -> SHA-256 of its content, whatever its files are called."""
    slides = [(name, [path.stem for path in data.slides[name]]) for name in data.patients]
    groups = [
        [labels.get(name) for name in data.patients]
        for labels in (data.sites, data.donors, data.sources)
    ]
    descriptors = [values for _, values in sorted(data.descriptors.items())]
    found = {
        "cohort": _digest((data.patients, data.genes, str(data.unit), groups), [data.values]),
        "features": _digest((data.encoder, data.stain, str(data.patch), slides), descriptors),
        "folds": _digest([fold.parts() for fold in folds], []),
    }
    if config.genes is not None:
        found["gene list"] = _digest(read_gene_list(config.genes).genes, [])
    return found


def check_same_inputs(out_dir: Path, digests: dict[str, str], *, finished: bool) -> None:
    """Refuse to go on with a run, or to return it, whose inputs changed since it began.

    Raises
    ------
    InputError
        Naming the inputs that changed.
    """
    marker = out_dir / INPUTS
    before = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else {}
    if changed := [name for name, digest in digests.items() if before.get(name, digest) != digest]:
        raise InputError(
            f"holds {'a finished' if finished else 'an unfinished'} run on other inputs: {', '.join(changed)} changed"
            " since it began",
            path=out_dir,
            fix="choose another --out folder, or remove this one",
        )


def _digest(names: object, arrays: Sequence[NDArray[np.float32]]) -> str:
    digest = hashlib.sha256(repr(names).encode())
    for values in arrays:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
