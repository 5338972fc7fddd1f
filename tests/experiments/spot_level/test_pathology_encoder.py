"""A transformer from a folder is tuned on spots: through adapters, its head, or not at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from spot_runs import config_of
from spot_sections import write_sections

from tcgn_mil.checkpoints import load_encoder
from tcgn_mil.checkpoints.starting import check_started, start_from
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level import cross_validate, hest_protocol, pretrain
from tcgn_mil.experiments.spot_level.config import PanelConfig, SpotConfig
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.spot_files import find_sections, read_spots
from tcgn_mil.models.encoders import start_encoder
from tcgn_mil.settings.encoder import EncoderOptions, LoraSettings
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.types.tile_geometry import PatchSize

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small transformer as a repository of the hub holds it."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, init_values=0.5, **SMALL)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": {**SMALL, "init_values": 0.5},
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = {"A1": "A", "B1": "B", "C1": "C"}
    return write_sections(tmp_path_factory.mktemp("spots") / "spots", sections)


def config_for(spots: Path, folder: Path, **changes: Any) -> Any:
    return config_of(
        spots,
        model=f"local-dir:{folder}",
        input_px=None,
        encoder_options=EncoderOptions(pooling="cls+mean"),
        n_folds=0,
        test_sections=("C1",),
        validation="join",
        **changes,
    )


@pytest.mark.parametrize("train", ["lora", "head", "none"])
def test_parts_of_a_transformer_are_trained(
    train: str, spots: Path, folder: Path, tmp_path: Path
) -> None:
    training = TrainingConfig(epochs=2, batch_size=32, lr=1e-2)
    config = config_for(spots, folder, train=train, training=training, lora=LoraSettings(rank=2))
    pretrain.run(config, tmp_path / "encoder")
    path = tmp_path / "encoder" / "encoder.safetensors"
    model, info = load_encoder(path)
    before = load_file(folder / "model.safetensors")
    after = {
        name.removeprefix("trunk."): tensor
        for name, tensor in model.state_dict().items()
        if name.startswith("trunk.")
    }
    assert after.keys() == before.keys()  # the adapters are merged
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    attention = {
        f"blocks.{block}.attn.{part}.weight" for block in (0, 1) for part in ("qkv", "proj")
    }
    assert changed == (attention if train == "lora" else set())
    assert model.get_classifier().weight.shape[1] == 64
    assert info.architecture is not None
    assert info.architecture.pooling == "cls+mean"
    assert info.provenance["started_from"]["source"].startswith("local-dir:")
    # Without the folder the checkpoint is complete, and its identity names the pooling.
    encoder = open_encoder(str(path))
    assert "[cls+mean]-" in encoder.identity
    with torch.inference_mode():
        features = encoder.features(torch.zeros(2, 112, 112, 3, dtype=torch.uint8))
    assert features.shape == (2, 64)
    with pytest.raises(InputError, match="is a checkpoint of this package, which holds its model"):
        open_encoder(str(path), pooling="cls")
    if train != "lora":
        return
    # Training can go on from it, whether it is given as the model or as a checkpoint.
    given = {"model": str(path), "encoder_options": EncoderOptions()}
    for number, how in enumerate((given, {"checkpoint": str(path)})):
        out = tmp_path / f"again{number}"
        once = TrainingConfig(epochs=1, batch_size=32, lr=1e-9)
        again = config_for(spots, folder, train="head", training=once)
        pretrain.run(dataclasses.replace(again, **how), out)
        continued, _ = load_encoder(out / "encoder.safetensors")
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(continued.state_dict()[name], tensor, atol=1e-6, rtol=0)


def test_random_weights_are_refused_unless_asked_for(spots: Path, tmp_path: Path) -> None:
    config = config_of(spots, encoder_options=EncoderOptions(), n_folds=0, test_sections=("C1",))
    with pytest.raises(InputError, match=r"which weights resnet10t .*encoder_options\.untrained"):
        pretrain.run(config, tmp_path / "encoder")
    assert not np.any([path.suffix == ".safetensors" for path in tmp_path.rglob("*")])


def test_the_untrained_network_of_a_folder_or_file_has_its_architecture(
    spots: Path, folder: Path
) -> None:
    by_folder = config_for(spots, folder)
    options = EncoderOptions(model="vit_tiny_patch16_224", pooling="cls+mean", arguments=SMALL)
    file = str(folder / "model.safetensors")
    by_file = dataclasses.replace(by_folder, model=file, encoder_options=options)
    weights = load_file(file)
    for config in (by_folder, by_file):
        network = cross_validate.untrained_network(config)
        assert network is not None
        torch.manual_seed(1)  # that of the weights in the folder is 0
        started = start_encoder(network.model, 3, **network.options.as_arguments())
        assert started.is_untrained
        own = started.model.get_submodule("trunk").state_dict()
        assert own["patch_embed.proj.weight"].shape == weights["patch_embed.proj.weight"].shape
        assert not torch.equal(own["patch_embed.proj.weight"], weights["patch_embed.proj.weight"])


def test_patches_of_another_size_than_the_encoder_knows_are_refused(
    spots: Path, folder: Path, tmp_path: Path
) -> None:
    """The rule is the one of ``encode``: both this entry and this checkpoint state a size."""
    entry = tmp_path / "small.yaml"
    entry.write_text(
        "small-vit:\n  hub: owner/name\n  architecture: vit_tiny_patch16_224\n  width: 32\n"
        "  licence: none\n  citation: none\n  tile_px: 32\n  input_px: 32\n  mpp: 0.5\n"
        f"  arguments: {json.dumps({**SMALL, 'init_values': 0.5})}\n"
    )
    config = dataclasses.replace(
        config_for(spots, folder, train="none"),
        model=str(entry),
        encoder_options=EncoderOptions(untrained=True),
    )
    message = r"small-vit was trained on tiles of 16.0 µm .*these are .*spots --patch-px 32"
    with pytest.raises(InputError, match=message):
        pretrain.run(config, tmp_path / "refused")
    hest = SpotConfig(
        spots=str(spots),
        protocol="hest",
        model=str(entry),
        n_folds=3,
        min_umi=0,
        panel=PanelConfig(file=str(tmp_path / "genes.txt")),
        encoder_options=EncoderOptions(untrained=True),
    )
    first = read_spots(next(iter(find_sections(spots).values())))
    (tmp_path / "genes.txt").write_text("\n".join(map(str, first.adata.var_names[:3])))
    with pytest.raises(InputError, match="small-vit was trained on tiles"):
        hest_protocol.run(hest, tmp_path / "hest")
    pretrain.run(dataclasses.replace(config, allow_other_size=True), tmp_path / "allowed")
    own = str(tmp_path / "allowed" / "encoder.safetensors")
    started = start_from(own, None)
    with pytest.raises(InputError, match="was trained on patches of"):
        check_started(started, PatchSize(224, 0.5))
    check_started(started, PatchSize(224, 0.5), allow=True)
