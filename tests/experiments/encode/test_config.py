"""Tests of the settings of encoding."""

from __future__ import annotations

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices_that_torch_knows(device: str) -> None:
    assert EncodeSettings(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:one", ""])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(
        InputError, match=r"'device' is .*Fix: give one of the values of its description: .*cuda"
    ):
        EncodeSettings(device=device)
