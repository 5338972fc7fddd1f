"""What a slide-level run was begun on: digests of its inputs, so that no run goes on, or is returned, on others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level.cohort import CohortData
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.io.result_tables import read_gene_list
from tcgn_mil.types.tiles import Fold

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
