"""Files of TRIDENT and STAMP that hold the vector of a slide or of a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

VECTOR = np.random.default_rng(0).normal(size=6).astype(np.float32)
COORDS = np.array([[0, 0], [512, 0], [0, 512]])


def trident_slide(
    path: Path,
    features: np.ndarray = VECTOR,
    coords: np.ndarray | None = COORDS,
    **attributes: Any,
) -> Path:
    """As TRIDENT writes slide features: the vector, and the positions of the tiles it read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "features", data=features, maxshape=(None, *features.shape[1:]), chunks=True
        )
        file["features"].attrs.update({"name": path.stem} | attributes)
        if coords is not None:
            file["coords"] = coords
            file["coords"].attrs.update({"patch_size": 512, "patch_size_level0": 1024})
    return path


def stamp_vector(path: Path, features: np.ndarray = VECTOR, **attributes: Any) -> Path:
    """As STAMP writes features of slides and of patients."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["feats"] = features
        file.attrs.update({"version": "2.4.0", "precision": "torch.float32"} | attributes)
    return path
