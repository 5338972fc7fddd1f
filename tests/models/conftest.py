"""Fixtures: parameters, images and golden outputs of the reference network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from tcgn_mil.models import TCGN, convert_published_state_dict, create_model

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="session")
def fill() -> ModuleType:
    """Return the module tests/reference/fill.py."""
    spec = importlib.util.spec_from_file_location("fill", REFERENCE / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Outputs of the published network for these parameters and images, by name."""
    with np.load(REFERENCE / "tcgn_golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def published(fill: ModuleType) -> dict[str, Tensor]:
    """Return a checkpoint in the published layout, with 994 tensors."""
    return {
        name: torch.as_tensor(value)
        for name, value in fill.filled_state(fill.published_shapes()).items()
    }


@pytest.fixture(scope="session")
def reference_model(published: dict[str, Tensor]) -> TCGN:
    """Return the network with these parameters in evaluation mode; tests must not change it."""
    model = create_model("tcgn_ti", num_classes=785)
    model.load_state_dict(convert_published_state_dict(published))
    return model.eval()


@pytest.fixture(scope="session")
def images(fill: ModuleType) -> Tensor:
    """Return the four golden images, (4, 3, 224, 224)."""
    return torch.stack([torch.as_tensor(fill.input_image(index)) for index in range(4)])
