"""Encoders from folders, files and a hub on loopback: right weights, or an error that says why."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fake_hub import FakeHub
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from timm.layers import SwiGLUPacked
from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.inference.batch_stream import encode_tiles
from tcgn_mil.inference.tile_encoder import TileEncoder, open_encoder
from tcgn_mil.models.encoders import start_encoder
from tcgn_mil.pathology import PATHOLOGY_ENCODERS, PathologyEncoder

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
}
CLASSES: dict[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
NAMES = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
# The features of the field's encoders: SwiGLU, register tokens, layer scale, images of any size.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer scale": {"init_values": 1e-5},
    "registers": {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5},
    "any size": {"dynamic_img_size": True},
    "swiglu": {"mlp_ratio": 5.33334, **CLASSES},
    "virchow2": {"reg_tokens": 4, "init_values": 1e-5, "global_pool": "", **CLASSES},
}
ARCHITECTURE = "vit_tiny_patch16_224"
MEAN, STD = (0.7, 0.6, 0.7), (0.2, 0.25, 0.2)


def tiles(count: int = 3, px: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, px, px, 3), np.uint8)


def make_vit(**arguments: Any) -> Any:
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE, num_classes=0, **{**SMALL, **arguments}).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # also those that timm starts from zero or one
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def plain_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    return {**SMALL, **{key: NAMES.get(key, value) for key, value in arguments.items()}}


def write_repository(folder: Path, model: Any, **arguments: Any) -> Path:
    """Write a model as timm's repositories on the hub hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": 0,
        "model_args": {
            key: value for key, value in plain_arguments(arguments).items() if key not in NAMES
        },
        "pretrained_cfg": {
            "input_size": [3, 32, 32],
            "interpolation": "bicubic",
            "mean": MEAN,
            "std": STD,
            "num_classes": 0,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def expected(model: Any, pooling: str, pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Compute pooled features by timm alone."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.inference_mode():
        tokens = model.forward_features(images)
    mean = tokens[:, model.num_prefix_tokens :].mean(dim=1)
    return {
        "cls": tokens[:, 0],
        "mean": mean,
        "cls+mean": torch.cat([tokens[:, 0], mean], dim=1),
    }[pooling]


def features(encoder: TileEncoder, pixels: NDArray[np.uint8]) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.features(torch.from_numpy(pixels))


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_folder_gives_the_features_of_timm(variant: str, pooling: Any, tmp_path: Path) -> None:
    arguments = VARIANTS[variant]
    model = make_vit(**arguments)
    folder = write_repository(tmp_path / "encoder", model, **arguments)
    classes = {key: name for key, name in NAMES.items() if key in arguments}
    encoder = open_encoder(f"local-dir:{folder}", pooling=pooling, arguments=classes)
    pixels = tiles()
    torch.testing.assert_close(
        features(encoder, pixels), expected(model, pooling, pixels), atol=1e-6, rtol=0
    )
    assert encoder.identity.startswith(f"timm:{ARCHITECTURE}[{pooling}]-")
    assert encoder.input_spec[:4] == (32, MEAN, STD, "bicubic")
    named = open_encoder(f"timm:local-dir:{folder}", pooling=pooling, arguments=classes)
    assert named.identity == encoder.identity


@pytest.mark.parametrize("pool", ["avg", "token", ""])
def test_the_pooling_of_the_repository_is_the_default(pool: str, tmp_path: Path) -> None:
    """Models that timm pools by the mean have their last norm after it."""
    model = make_vit(global_pool=pool)
    folder = write_repository(tmp_path / "encoder", model, global_pool=pool)
    encoder = open_encoder(f"local-dir:{folder}")
    pixels = tiles()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.inference_mode():
        wanted = model(images)
    wanted = wanted if wanted.ndim == 2 else wanted[:, 0]
    torch.testing.assert_close(features(encoder, pixels), wanted, atol=1e-6, rtol=0)
    assert f"[{'mean' if pool == 'avg' else 'cls'}]" in encoder.identity


def test_the_pooling_is_part_of_the_identity(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "encoder", make_vit())
    identities = {
        open_encoder(f"local-dir:{folder}", pooling=pooling).identity
        for pooling in ("cls", "mean", "cls+mean")
    }
    assert len(identities) == 3
    assert open_encoder(f"local-dir:{folder}").identity in identities  # cls, where nothing is said


@pytest.fixture
def entry() -> Any:
    """Register a small encoder as the registry holds those of the field."""
    made = PathologyEncoder(
        name="small-vit",
        hub="owner/small-vit",
        architecture=ARCHITECTURE,
        arguments={**plain_arguments(VARIANTS["virchow2"])},
        width=64,
        pooling="cls+mean",
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        citation="Nobody et al., 2026",
        tile_px=32,
        input_px=32,
        mean=MEAN,
        std=STD,
        precision="16-mixed",
    )
    PATHOLOGY_ENCODERS[made.name] = made
    yield made
    del PATHOLOGY_ENCODERS[made.name]


@pytest.mark.parametrize(
    "name", ["small-vit", "hf-hub:owner/small-vit", "hf-hub:Owner/Small-ViT@v2"]
)
def test_an_encoder_of_the_registry_comes_from_the_hub(
    name: str, entry: Any, fake_hub: FakeHub, tmp_path: Path
) -> None:
    model = make_vit(**VARIANTS["virchow2"])
    repository = write_repository(tmp_path / "repository", model)
    for repo in ("owner/small-vit", "Owner/Small-ViT"):
        fake_hub.add(repo, repository)
        commit = fake_hub.add(repo, repository, revision="v2")
    encoder = open_encoder(name)
    pixels = tiles()
    torch.testing.assert_close(
        features(encoder, pixels), expected(model, "cls+mean", pixels), atol=1e-6, rtol=0
    )
    assert encoder.identity.startswith("small-vit[cls+mean]-")
    assert (encoder.patch, encoder.precision) == (entry.patch, "16-mixed")
    assert encoder.record["licence"] == "CC-BY-NC-ND-4.0"
    if name.endswith("@v2"):
        assert encoder.record["revision"] == commit
    # A second call needs no download, and the same weights in a folder are the same encoder.
    sent = fake_hub.downloads("model.safetensors")
    assert open_encoder(name).identity == encoder.identity
    assert fake_hub.downloads("model.safetensors") == sent
    assert open_encoder(f"local-dir:{repository}", model="small-vit").identity == encoder.identity


def test_a_repository_with_a_file_of_torch_alone_is_read_without_unpickling_code(
    entry: Any, fake_hub: FakeHub, tmp_path: Path
) -> None:
    model = make_vit(**VARIANTS["virchow2"])
    repository = write_repository(tmp_path / "repository", model)
    (repository / "model.safetensors").unlink()
    torch.save(model.state_dict(), repository / "pytorch_model.bin")
    fake_hub.add("owner/small-vit", repository)
    assert open_encoder("small-vit").identity.startswith("small-vit[cls+mean]-")
    (repository / "pytorch_model.bin").write_bytes(
        pickle.dumps({"weights": print, "size": bytes(1 << 20)})
    )
    fake_hub.add("owner/small-vit", repository)
    with pytest.raises(InputError, match=r"pytorch_model\.bin: its pickle holds more than tensors"):
        open_encoder("small-vit")


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("gated", r"owner/small-vit: .* gated .*licence CC-BY-NC-ND-4\.0, gated.* hf auth login"),
        ("missing", r"no repository owner/small-vit, or it is private .* hf auth login"),
        ("503", r"HTTP 503"),
        ("cut", r"cannot be downloaded .*cut.* run again.* local-dir:<folder>"),
        ("stopped", r"cannot be reached, .* local-dir:<folder>"),
        ("offline", r"not in the cache .*offline mode is set.* unset HF_HUB_OFFLINE"),
        ("empty", r"has no file"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line_with_page_and_remedy(
    trouble: str,
    message: str,
    entry: Any,
    fake_hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if trouble != "missing":
        repository = write_repository(tmp_path / "repository", make_vit(**VARIANTS["virchow2"]))
        fake_hub.add("owner/small-vit", repository)
    if trouble == "gated":
        fake_hub.repos["owner/small-vit"].gated = True
    if trouble == "503":
        fake_hub.repos["owner/small-vit"].refuse = 503
    if trouble == "cut":
        fake_hub.cuts["model.safetensors"] = [1000] * 20
    if trouble == "stopped":
        fake_hub.stop()
    if trouble == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if trouble == "empty":
        fake_hub.add("owner/small-vit", {"README.md": b"nothing"})
    with pytest.raises(InputError, match=message) as refused:
        open_encoder("small-vit")
    assert "\n" not in str(refused.value)
    assert f"{fake_hub.url}/owner/small-vit" in str(refused.value)


def test_offline_the_cache_is_used(
    entry: Any, fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = write_repository(tmp_path / "repository", make_vit(**VARIANTS["virchow2"]))
    fake_hub.add("owner/small-vit", repository)
    identity = open_encoder("small-vit").identity
    fake_hub.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert open_encoder("small-vit").identity == identity


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_a_vision_transformer_with_layer_scale_loads(suffix: str, tmp_path: Path) -> None:
    arguments = {"init_values": 1e-5, "reg_tokens": 4}
    model = make_vit(**arguments)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"model": model.state_dict()}, file)
    else:
        save_file(model.state_dict(), file)
    encoder = open_encoder(
        str(file), model=ARCHITECTURE, pooling="mean", arguments=plain_arguments(arguments)
    )
    pixels = tiles()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1  # timm's 0.5 and 0.5
    with torch.inference_mode():
        wanted = model.forward_features(images)[:, 5:].mean(dim=1)
    torch.testing.assert_close(features(encoder, pixels), wanted, atol=1e-5, rtol=0)


def without(tensors: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if part not in name}


def test_weights_of_half_the_layers_or_of_another_architecture_are_refused(
    entry: Any, tmp_path: Path
) -> None:
    folder = write_repository(tmp_path / "half", make_vit(**VARIANTS["virchow2"]))
    file = folder / "model.safetensors"
    whole = load_file(file)
    save_file(without(whole, "blocks.1."), file)
    with pytest.raises(InputError, match=r"model\.safetensors: \d+ tensors do not fit .*blocks\.1"):
        open_encoder(f"local-dir:{folder}", model="small-vit")
    save_file(make_vit(init_values=1e-5).state_dict(), file)
    with pytest.raises(InputError, match=r"model\.safetensors: \d+ tensors do not fit"):
        open_encoder(f"local-dir:{folder}", model="small-vit")
    save_file({"a": torch.zeros(3)}, file)
    with pytest.raises(InputError, match=r"too few for .* million parameters"):
        open_encoder(f"local-dir:{folder}", model="small-vit")
    file.write_bytes(b"no tensors at all")
    with pytest.raises(InputError, match=r"too few for|cannot be read as safetensors"):
        open_encoder(f"local-dir:{folder}", model="small-vit")
    bad = {name: tensor.clone() for name, tensor in whole.items()}
    bad["cls_token"][:] = float("nan")
    save_file(bad, file)
    with pytest.raises(InputError, match=r"not finite: cls_token"):
        open_encoder(f"local-dir:{folder}", model="small-vit")


def test_an_encoder_whose_width_disagrees_with_its_entry_is_refused(
    entry: Any, tmp_path: Path
) -> None:
    arguments = {**plain_arguments(VARIANTS["virchow2"]), "embed_dim": 48}
    wider = make_vit(**{**VARIANTS["virchow2"], "embed_dim": 48})
    folder = write_repository(tmp_path / "wide", wider)
    with pytest.raises(InputError, match=r"have 48 features a token, but its entry .* says 32"):
        open_encoder(f"local-dir:{folder}", model="small-vit", arguments=arguments)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("uni2h", {}, "no encoder 'uni2h' .* did you mean uni2-h"),
        ("timm:resnet18", {}, "which weights resnet18 .* --pretrained .* --untrained"),
        ("timm:tcgn_tiny", {}, "which weights tcgn_tiny .* a checkpoint, or --untrained"),
        ("timm:resnet18", {"untrained": True, "pooling": "cls"}, "gives no tokens"),
        ("local-dir:nowhere", {}, "nowhere: no such folder"),
        ("nowhere.pth", {}, "nowhere.pth: --encoder names a file that is not there"),
        ("MahmoodLab/UNI2-h", {"model": "uni9"}, "--encoder-model is given"),
        ("hf-hub:UNI2-h", {}, "is no name of a repository"),
        ("timm:resnet18", {"model": "uni"}, "--encoder-model is given"),
    ],
)
def test_names_that_lead_nowhere(source: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_encoder(source, **options)


def test_folders_and_files_that_say_too_little(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "encoder", make_vit())
    with pytest.raises(InputError, match=r"is a folder.* write local-dir:"):
        open_encoder(str(folder))
    weights = folder / "model.safetensors"
    with pytest.raises(InputError, match=r"holds weights, but nothing says of which model"):
        open_encoder(str(weights))
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config\.json: is not a configuration"):
        open_encoder(f"local-dir:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json that names the architecture"):
        open_encoder(f"local-dir:{folder}")
    weights.unlink()
    with pytest.raises(InputError, match=r"holds no file of weights"):
        open_encoder(f"local-dir:{folder}", model=ARCHITECTURE)


def test_arguments_from_yaml_text_and_wrong_ones(tmp_path: Path) -> None:
    # YAML reads 1e-5 as text.
    options = {**SMALL, "init_values": "1e-5"}
    started = start_encoder(
        f"timm:{ARCHITECTURE}", pooling="cls", arguments=options, untrained=True
    )
    gamma: Any = started.model.get_submodule("trunk.blocks.0.ls1")
    assert torch.allclose(gamma.gamma, torch.tensor(1e-5))
    for wrong, message in (
        ({"no_such": 1}, "cannot build vit_tiny_patch16_224 with .*no_such"),
        ({"mlp_layer": "os.system"}, "argument mlp_layer names the class 'os.system'"),
    ):
        with pytest.raises(InputError, match=message):
            start_encoder(f"timm:{ARCHITECTURE}", pooling="cls", arguments=wrong, untrained=True)


def test_a_model_of_timm_that_gives_tokens_is_pooled() -> None:
    encoder = open_encoder(
        f"timm:{ARCHITECTURE}", arguments={**SMALL, "global_pool": ""}, untrained=True
    )
    found, _ = encode_tiles(encoder, [(tiles(), np.zeros((3, 2), np.int64))], device=CPU)
    assert found.shape == (3, 32)
    assert "[cls]" in encoder.identity


def test_untrained_features_say_so_and_repeat() -> None:
    first, second = (open_encoder("timm:resnet10t", untrained=True) for _ in range(2))
    assert first.identity == second.identity
    assert first.identity.startswith("untrained:timm:resnet10t-")
    assert first.record == {"source": "random"}


def test_gigapath_reads_the_centre_of_its_tiles() -> None:
    from tcgn_mil.models.network_input import EncoderInput, to_network_input

    spec = EncoderInput(4, (0.0,) * 3, (1.0,) * 3, "bicubic", resize_px=8)
    pixels = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8, 1).expand(1, 8, 8, 3)
    images = to_network_input(pixels, spec)
    assert images.shape == (1, 3, 4, 4)
    torch.testing.assert_close(images[0, 0] * 255, pixels[0, 2:6, 2:6, 0].float())


def test_tiles_of_another_resolution_or_far_other_side_are_refused() -> None:
    from tcgn_mil.types.tile_geometry import PatchSize

    encoder = TileEncoder(nn.Identity(), "uni2-h[cls]-0", PatchSize(224, 0.5), is_pathology=True)
    for fits in (PatchSize(224, 0.5), PatchSize(224, 0.52), PatchSize(256, 0.5)):
        encoder.check_tiles(fits)
    for other in (PatchSize(224, 0.54), PatchSize(112, 0.69), PatchSize(512, 0.5)):
        with pytest.raises(InputError, match=r"uni2-h was trained on .* --patch-px 224 --patch"):
            encoder.check_tiles(other)
        encoder.check_tiles(other, allow=True)
