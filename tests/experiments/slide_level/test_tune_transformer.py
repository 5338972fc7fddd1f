"""Fine-tuning of a transformer that was not trained on spots, through the bag, by adapters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from slides_in_memory import PX, TUNING, run_in_memory, write_cohort_of_encoder

from tcgn_mil.checkpoints import load_encoder, load_slide_model
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.models.encoders import start_encoder
from tcgn_mil.settings.encoder import EncoderOptions, LoraSettings

SMALL: dict[str, Any] = {
    "img_size": PX,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
}
ARCHITECTURE = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> FinetuneConfig:
    """Make a file of weights of a small transformer, and features of it with mean pooling."""
    folder = tmp_path_factory.mktemp("transformer")
    torch.manual_seed(0)
    started = start_encoder(f"timm:{ARCHITECTURE}", pooling="mean", arguments=SMALL, untrained=True)
    trunk: Any = started.model.get_submodule("trunk")
    save_file(trunk.state_dict(), folder / "weights.safetensors")
    options = EncoderOptions(model=ARCHITECTURE, pooling="mean", arguments=SMALL)
    settings = EncodeSettings(str(folder / "weights.safetensors"), encoder_options=options)
    tuning = dataclasses.replace(TUNING, lora=LoraSettings(rank=2))
    return write_cohort_of_encoder(folder, settings, encoder_train="lora", tuning=tuning)


def test_adapters_are_trained_merged_and_saved(config: FinetuneConfig, tmp_path: Path) -> None:
    run_in_memory(config, tmp_path / "run")
    options = config.encoder_options.as_arguments()
    original = open_encoder(str(config.encoder), **options)
    assert original.identity.startswith(f"timm:{ARCHITECTURE}[mean]-")
    tuned = [k for k in range(3) if (tmp_path / "run" / f"encoder{k}.safetensors").is_file()]
    assert tuned  # the encoder was random, so some fold gains
    for k in tuned:
        path = tmp_path / "run" / f"encoder{k}.safetensors"
        model, info = load_encoder(path)
        assert info.panel is None
        assert info.architecture is not None
        before = original.model.state_dict()
        assert model.state_dict().keys() == before.keys()  # the adapters are merged
        changed = {
            name
            for name, tensor in model.state_dict().items()
            if not torch.equal(tensor, before[name])
        }
        assert changed == {
            f"trunk.blocks.{block}.attn.{part}.weight"
            for block in (0, 1)
            for part in ("qkv", "proj")
        }
        identity = open_encoder(str(path)).identity
        assert identity.startswith(f"timm:{ARCHITECTURE}[mean]-")
        assert identity != original.identity
        assert load_slide_model(tmp_path / "run" / f"fold{k}.safetensors")[1].encoder == identity


def test_another_pooling_than_that_of_the_features_is_refused(
    config: FinetuneConfig, tmp_path: Path
) -> None:
    options = dataclasses.replace(config.encoder_options, pooling="cls")
    other = dataclasses.replace(config, encoder_train="none", encoder_options=options)
    with pytest.raises(InputError, match=r"is timm:.*\[cls\]-.*, but the features .*\[mean\]-"):
        run_in_memory(other, tmp_path / "run")


def test_without_a_head_the_additive_form_is_refused(
    config: FinetuneConfig, tmp_path: Path
) -> None:
    model = dataclasses.replace(config.model, form="additive")
    other = dataclasses.replace(config, encoder_train="none", model=model)
    with pytest.raises(InputError, match=r"this encoder has none.* a checkpoint of tcgn-mil"):
        run_in_memory(other, tmp_path / "run")
