"""Names of devices are right, or refused in one line."""

from __future__ import annotations

import pytest
import torch

from tcgn_mil.devices import resolve_device
from tcgn_mil.errors import InputError


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu0"])
def test_a_name_that_torch_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name!r} is no name of a device") as caught:
        resolve_device(name)
    assert "cuda:0" in str(caught.value.fix)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_a_machine_without_cuda_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device is available"):
        resolve_device(name)


def test_a_device_beyond_the_last_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="there is no device cuda:2, only 2 CUDA devices"):
        resolve_device("cuda:2")
