"""Names of devices are resolved, or refused in one line that says what there is."""

from __future__ import annotations

import pytest
import torch

from tcgn_mil.config import resolve_config
from tcgn_mil.devices import resolve_device
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.settings.training import TrainingConfig


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("cuda", "no CUDA device"),
        ("cuda:0", "no CUDA device"),
        ("gpu", "no device is named 'gpu'"),
        ("mps", "no MPS device"),
        ("tpu", "no device is named 'tpu'"),
        ("cuda:first", "no device is named"),
        ("cpu:3", "there is no device cpu:3"),
    ],
)
def test_what_is_not_there_is_refused(name: str, part: str) -> None:
    with pytest.raises(InputError, match=part) as refused:
        resolve_device(name)
    assert refused.value.fix


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_the_cpu_without_a_gpu() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match=r"no device cuda:2: this machine has 2 cuda devices"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda:0", "mps"])
def test_configs_take_the_names_that_are_resolved(name: str) -> None:
    assert resolve_config(EncodeSettings, overrides=[f"device={name}"]).device == name
    assert resolve_config(TrainingConfig, overrides=[f"accelerator={name}"]).accelerator == name
    for config, key in ((EncodeSettings, "device"), (TrainingConfig, "accelerator")):
        with pytest.raises(InputError, match=key):
            resolve_config(config, overrides=[f"{key}=tpu"])
