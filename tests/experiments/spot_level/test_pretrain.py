"""Tests of pretraining that starts from given weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from spot_runs import config_of

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level import pretrain as pretraining
from tcgn_mil.experiments.spot_level import train_network as spot_training
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.models import create_model, to_published_state_dict
from tcgn_mil.settings.training import TrainingConfig


def test_the_trunk_starts_from_cmt_weights(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(7)
    source = create_model("tcgn_tiny", num_classes=1)
    trunk = {
        name: tensor
        for name, tensor in to_published_state_dict(source.state_dict()).items()
        if not name.startswith(("gnn", "channel", "head"))
    }
    safetensors.torch.save_file(
        {n: t.contiguous() for n, t in trunk.items()}, tmp_path / "cmt.safetensors"
    )
    config = SpotConfig(
        spots=str(demo / "spots"),
        test_sections=("A1", "A2"),
        model="tcgn_tiny",
        trunk=str(tmp_path / "cmt.safetensors"),
        training=TrainingConfig(epochs=1, batch_size=32, lr=1e-3),
    )
    started = []

    def keep_start(model: torch.nn.Module, *_args: object, **_kwargs: object) -> None:
        started.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(spot_training, "fit", keep_start)
    with pytest.raises(KeyboardInterrupt):
        pretraining.run(config, tmp_path / "encoder")
    own = started[0].state_dict()
    assert torch.equal(own["stages.2.position_bias"], source.state_dict()["stages.2.position_bias"])
    assert f"{len(trunk)} of {len(own)} tensors filled" in capsys.readouterr().err


def test_a_trunk_that_is_none_is_named(demo: Path, tmp_path: Path) -> None:
    safetensors.torch.save_file({"fc.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    config = SpotConfig(
        spots=str(demo / "spots"),
        test_sections=("A1",),
        model="tcgn_tiny",
        trunk=str(tmp_path / "other.safetensors"),
    )
    with pytest.raises(InputError, match=r"other.safetensors: holds no tensor of the CMT trunk"):
        pretraining.run(config, tmp_path / "encoder")


def test_a_second_process_of_torchrun_trains_along_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spots: Path
) -> None:
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    trained: list[Path] = []
    # What the first process tells: that the run is not finished, and then its summary.
    told = iter([None, {"model": "resnet10t"}])
    monkeypatch.setattr(pretraining, "join_processes", lambda config, settings: None)
    monkeypatch.setattr(pretraining, "from_first", lambda work: next(told))
    monkeypatch.setattr(pretraining, "in_all", lambda work: work())
    monkeypatch.setattr(
        pretraining, "follow_network", lambda study, network, folder, seed: trained.append(folder)
    )
    config = config_of(spots, n_folds=SpotConfig().n_folds)
    assert pretraining.run(config, tmp_path / "encoder") == {"model": "resnet10t"}
    assert trained == [tmp_path / "encoder"]
    assert not list(tmp_path.iterdir())
