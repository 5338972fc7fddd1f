"""Encoders of the package transformers, from folders in its form, give its features."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tcgn_mil.checkpoints import EncoderInfo, load_encoder, save_encoder
from tcgn_mil.errors import InputError
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.models.encoders import start_encoder
from tcgn_mil.models.end_to_end import trained_parameters
from tcgn_mil.models.lora import attention_layers
from tcgn_mil.models.network_input import EncoderInput
from tcgn_mil.pathology import PATHOLOGY_ENCODERS, PathologyEncoder
from tcgn_mil.types.tile_geometry import PatchSize

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "phikon": ("ViTModel", {"intermediate_size": 64}),
    "phikon-v2": ("Dinov2Model", {}),
    "midnight": ("Dinov2Model", {"use_swiglu_ffn": True}),
    "hibou-b": ("Dinov2WithRegistersModel", {"num_register_tokens": 4}),
}
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture(params=MODELS)
def made(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Path]:
    """Save a small model of a class, and register a small encoder of this class."""
    name, arguments = MODELS[request.param]
    model_class = getattr(transformers, name)
    torch.manual_seed(0)
    extra = {"add_pooling_layer": False} if name == "ViTModel" else {}
    model = model_class(model_class.config_class(**SIZE, **arguments), **extra).eval()
    folder = tmp_path / request.param
    model.save_pretrained(folder)
    entry = PathologyEncoder(
        name="small",
        hub="owner/small",
        architecture=name,
        library="transformers",
        arguments={**SIZE, **arguments},
        width=64,
        pooling="cls+mean",
        licence="MIT",
        citation="nobody",
        tile_px=32,
        input_px=32,
    )
    monkeypatch.setitem(PATHOLOGY_ENCODERS, "small", entry)
    return model, entry, folder


def test_the_features_are_those_of_transformers(made: tuple[Any, Any, Path]) -> None:
    model, entry, folder = made
    prefix = 1 + int(entry.arguments.get("num_register_tokens", 0))
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor(entry.mean), torch.tensor(entry.std)
    images = (images - mean[:, None, None]) / std[:, None, None]
    with torch.inference_mode():
        tokens = model(pixel_values=images).last_hidden_state
    wanted = torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=1)
    for options in ({"model": "small"}, {"pooling": "cls+mean"}):  # by entry, and by config.json
        encoder = open_encoder(f"local-dir:{folder}", **options)
        with torch.inference_mode():
            found = encoder.features(torch.from_numpy(PIXELS))
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert open_encoder(f"local-dir:{folder}", model="small").identity.startswith(
        "small[cls+mean]-"
    )


def test_size_and_normalisation_come_from_the_folder(made: tuple[Any, Any, Path]) -> None:
    _, _, folder = made
    images = {
        "image_mean": [0.7, 0.6, 0.7],
        "image_std": [0.2, 0.25, 0.2],
        "crop_size": {"height": 48, "width": 48},
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    spec = open_encoder(f"local-dir:{folder}").input_spec
    assert spec == EncoderInput(48, (0.7, 0.6, 0.7), (0.2, 0.25, 0.2), "bicubic")


def test_missing_tensors_are_refused(made: tuple[Any, Any, Path]) -> None:
    _, _, folder = made
    file = folder / "model.safetensors"
    tensors = load_file(file)
    last = [name for name in tensors if "layer.1." in name or "layers.1." in name]
    assert last
    save_file({n: t for n, t in tensors.items() if n not in last}, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"do not fit .*: \d+ tensors are missing"):
        open_encoder(f"local-dir:{folder}", model="small")


def test_its_layers_are_known_and_it_is_saved_and_loaded(
    made: tuple[Any, Any, Path], tmp_path: Path
) -> None:
    _, _, folder = made
    started = start_encoder(f"local-dir:{folder}", model="small")
    last = trained_parameters(started.model, "last")
    assert any("1." in name for name in last)
    assert not any(".0." in name and "layer" in name for name in last)
    assert not any("embeddings" in name for name in last)
    assert len(attention_layers(started.model)) == 6  # query, key and value of two layers
    info = EncoderInfo(
        "small",
        None,
        None,
        PatchSize(32, 0.5),
        "library",
        {},
        started.input_spec,
        started.architecture,
    )
    save_encoder(tmp_path / "encoder.safetensors", started.model, info)
    loaded, _ = load_encoder(tmp_path / "encoder.safetensors")
    for name, tensor in started.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_code_of_a_repository_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "custom"
    folder.mkdir()
    config = {"model_type": "custom", "auto_map": {"AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('code was run')\n")
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="custom is no class of transformers that gives"):
        open_encoder(f"local-dir:{folder}")


def test_without_transformers_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"not installed.* 'tcgn-mil\[transformers\]'"):
        open_encoder("phikon", untrained=True)
