"""Files and configurations as they are found: each gives its encoder, or an error that says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from fake_hub import FakeHub
from safetensors.torch import load_file, save_file
from torch import Tensor

from tcgn_mil.checkpoints import EncoderInfo, load_encoder, save_encoder
from tcgn_mil.errors import InputError
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.models.encoders import StartedEncoder, start_encoder
from tcgn_mil.models.encoders.sources import parse_source
from tcgn_mil.pathology import PATHOLOGY_ENCODERS, PathologyEncoder
from tcgn_mil.types.tile_geometry import PatchSize

ARCHITECTURE = "vit_tiny_patch16_224"
SMALL: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
}
TRANSFORMER: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def write_folder(folder: Path, name: str = ARCHITECTURE, **config: Any) -> Path:
    """Write a small model of timm and its configuration as a repository holds them."""
    folder.mkdir()
    arguments = SMALL if name == ARCHITECTURE else {}
    model = timm.create_model(name, num_classes=0, **arguments)
    save_file(model.state_dict(), folder / "model.safetensors")
    stated = {"architecture": name, "model_args": arguments, **config}
    (folder / "config.json").write_text(json.dumps(stated))
    return folder


def written_and_read(started: StartedEncoder, folder: Path) -> torch.nn.Module:
    """Save an encoder as a checkpoint of this package, and load it again."""
    path, patch = folder / "encoder.safetensors", PatchSize(32, 0.5)
    info = EncoderInfo(
        started.name,
        None,
        None,
        patch,
        input_spec=started.input_spec,
        architecture=started.architecture,
    )
    save_encoder(path, started.model, info)
    return load_encoder(path)[0]


def assert_same(first: torch.nn.Module, second: torch.nn.Module) -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(second.eval()(images), first.eval()(images))


@pytest.fixture
def vit() -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE, num_classes=0, **SMALL)
    return dict(model.state_dict())


@pytest.mark.parametrize("pooling", [None, "cls"])
@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "encoder.", "module.backbone.", "visual.trunk."]
)
def test_a_prefix_of_the_trunk_is_removed(
    prefix: str, pooling: Any, vit: dict[str, Tensor], tmp_path: Path
) -> None:
    plain, prefixed = tmp_path / "plain.safetensors", tmp_path / "prefixed.safetensors"
    save_file(vit, plain)
    other = {"decoder.weight": torch.zeros(3)} if prefix == "encoder." else {}
    save_file({**{f"{prefix}{key}": value for key, value in vit.items()}, **other}, prefixed)
    identities = {
        open_encoder(str(file), model=ARCHITECTURE, arguments=SMALL, pooling=pooling).identity
        for file in (plain, prefixed)
    }
    assert len(identities) == 1


def test_the_teacher_is_read_and_two_networks_in_one_dictionary_are_refused(
    vit: dict[str, Tensor], tmp_path: Path
) -> None:
    student = {f"backbone.{key}": torch.zeros_like(value) for key, value in vit.items()}
    teacher = {f"backbone.{key}": value for key, value in vit.items()}
    file = tmp_path / "dino.pth"
    torch.save({"student": student, "teacher": teacher, "epoch": 3}, file)
    options: dict[str, Any] = {"model": f"timm:{ARCHITECTURE}", "arguments": SMALL}
    started = start_encoder(str(file), **options)
    assert torch.equal(started.model.state_dict()["pos_embed"], vit["pos_embed"])
    both = {f"teacher.{key}": value for key, value in teacher.items()}
    both |= {f"student.{key}": value for key, value in student.items()}
    torch.save(both, file)
    with pytest.raises(InputError, match=r"dino\.pth: \d+ tensors do not fit"):
        start_encoder(str(file), **options)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (ARCHITECTURE, {**SMALL, "act_layer": "SiLU", "init_values": "1e-5"}),
        ("resnet10t", {"stem_width": 16}),
    ],
)
def test_a_checkpoint_remembers_the_arguments_of_a_model_of_timm(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    started = start_encoder(f"timm:{name}", 3, arguments=arguments, untrained=True)
    started.model.reset_classifier(0)  # type: ignore[operator]
    assert_same(started.model, written_and_read(started, tmp_path))


def test_a_checkpoint_remembers_the_configuration_of_a_model_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The entry does not state the activation, and the configuration beside the weights does.
    torch.manual_seed(0)
    config = transformers.Dinov2Config(**TRANSFORMER, hidden_act="relu", layer_norm_eps=1e-2)
    transformers.Dinov2Model(config).half().save_pretrained(tmp_path / "small")
    register_small(monkeypatch)
    for model in ("small", None):
        started = start_encoder(f"local-dir:{tmp_path / 'small'}", model=model)
        assert {tensor.dtype for tensor in started.model.state_dict().values()} == {torch.float32}
        assert_same(started.model, written_and_read(started, tmp_path))


def register_small(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PathologyEncoder(
        name="small",
        hub="owner/small",
        architecture="Dinov2Model",
        library="transformers",
        arguments=TRANSFORMER,
        width=32,
        licence="MIT",
        citation="nobody",
        tile_px=32,
        input_px=32,
    )
    monkeypatch.setitem(PATHOLOGY_ENCODERS, "small", entry)


def test_the_named_file_of_a_model_of_transformers_is_read_and_not_its_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_small(monkeypatch)
    for seed, folder in enumerate(("small", "other")):
        torch.manual_seed(seed)
        model = transformers.Dinov2Model(transformers.Dinov2Config(**TRANSFORMER))
        model.save_pretrained(tmp_path / folder)
    identities = [
        open_encoder(f"local-dir:{tmp_path / folder}", model="small").identity
        for folder in ("small", "other")
    ]
    neighbour = tmp_path / "small" / "tuned.safetensors"
    (tmp_path / "other" / "model.safetensors").rename(neighbour)
    assert open_encoder(str(neighbour), model="small").identity == identities[1] != identities[0]
    tensors = load_file(neighbour)
    tensors["layernorm.weight"][0] = float("nan")
    save_file(tensors, neighbour, {"format": "pt"})
    with pytest.raises(InputError, match=r"tuned\.safetensors: .* not finite: layernorm\.weight"):
        open_encoder(str(neighbour), model="small")
    with pytest.raises(InputError, match="Dinov2Model has no argument depth"):
        open_encoder("small", untrained=True, arguments={"depth": 2})


@pytest.mark.parametrize("pretrained_cfg", [None, {}, {"input_size": None, "mean": None}])
def test_a_configuration_that_says_little_has_the_defaults_of_the_model(
    pretrained_cfg: Any, tmp_path: Path
) -> None:
    arguments = {**SMALL, "img_size": [32, 32], "norm_layer": None}
    folder = write_folder(tmp_path / "encoder", pretrained_cfg=pretrained_cfg, model_args=arguments)
    encoder = open_encoder(f"local-dir:{folder}")
    assert encoder.input_spec.size_px == 32
    with torch.inference_mode():
        assert encoder.features(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, 32)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pretrained_cfg": {"mean": 0.5}}, "encoder: the mean of colours .* is 0.5"),
        ({"pretrained_cfg": {"std": [0, 0, 0]}}, r"encoder: the std of colours .* is \[0, 0, 0\]"),
        ({"pretrained_cfg": {"mean": ["a", "b", "c"]}}, "encoder: the mean of colours"),
        ({"model_args": [1, 2]}, r"encoder: model_args in config.json is \[1, 2\]"),
        ({"model_args": {"depth": [1, 2]}}, r"encoder: argument depth in config.json is \[1, 2\]"),
        (
            {
                "model_args": {**SMALL, "dynamic_img_size": True},
                "pretrained_cfg": {"input_size": 5},
            },
            "encoder: input_size in config.json is 5",
        ),
    ],
)
def test_a_configuration_with_wrong_values_is_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "encoder", **config)
    with pytest.raises(InputError, match=message):
        open_encoder(f"local-dir:{folder}")


def test_a_repository_of_a_convolutional_network_is_an_encoder(tmp_path: Path) -> None:
    colours = {"input_size": [3, 64, 64], "mean": [0.7, 0.6, 0.7], "std": [0.2, 0.2, 0.2]}
    folder = write_folder(tmp_path / "resnet", "resnet10t", pretrained_cfg=colours)
    encoder = open_encoder(f"local-dir:{folder}")
    assert encoder.identity.startswith("timm:resnet10t-")
    assert encoder.input_spec[:2] == (64, (0.7, 0.6, 0.7))
    direct = timm.create_model("resnet10t", num_classes=0)
    direct.load_state_dict(load_file(folder / "model.safetensors"))
    assert_same(direct, encoder.model)
    assert_same(direct, written_and_read(start_encoder(f"local-dir:{folder}"), tmp_path))
    with pytest.raises(InputError, match="ResNet gives no tokens"):
        open_encoder(f"local-dir:{folder}", pooling="cls")


def test_the_model_that_the_user_names_wins_over_the_configuration(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "encoder", architecture="vit_small_patch16_224")
    encoder = open_encoder(f"local-dir:{folder}", model=f"timm:{ARCHITECTURE}", arguments=SMALL)
    assert encoder.identity.startswith(f"timm:{ARCHITECTURE}[cls]-")


def test_random_weights_are_never_mixed_with_others(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "encoder")
    untrained = open_encoder(f"local-dir:{folder}", untrained=True)
    assert untrained.identity.startswith(f"untrained:timm:{ARCHITECTURE}[cls]-")
    file = str(folder / "model.safetensors")
    with pytest.raises(InputError, match="untrained weights and a file of weights are both asked"):
        open_encoder(file, model=ARCHITECTURE, arguments=SMALL, untrained=True)
    with pytest.raises(InputError, match="untrained weights and pretrained ones are both asked"):
        open_encoder("timm:resnet10t", pretrained=True, untrained=True)


def test_arguments_that_no_model_can_take_are_refused(tmp_path: Path) -> None:
    for arguments, message in (
        ({"no_such": 1}, "timm cannot build resnet10t with .*no_such"),
        ({"img_size": "large"}, "argument img_size of the encoder is 'large'"),
    ):
        with pytest.raises(InputError, match=message):
            open_encoder("timm:resnet10t", untrained=True, arguments=arguments)
    with pytest.raises(InputError, match=r"tcgn_tiny cannot be built with .*no_such"):
        open_encoder("tcgn_tiny", untrained=True, arguments={"no_such": 1})
    with pytest.raises(InputError, match=r"missing\.safetensors: no such"):
        open_encoder(str(tmp_path / "missing.safetensors"), model="uni2-h")
    started = start_encoder(f"timm:{ARCHITECTURE}", untrained=True, arguments=SMALL)
    written_and_read(started, tmp_path)
    with pytest.raises(InputError, match=r"is a checkpoint .* remove .*--encoder-argument"):
        open_encoder(str(tmp_path / "encoder.safetensors"), arguments={"img_size": 64})


def test_a_revision_is_kept_where_a_repository_is_named_without_prefix() -> None:
    source = parse_source("MahmoodLab/UNI2-h@v2")
    assert (source.name, str(source.hub)) == ("uni2-h", "MahmoodLab/UNI2-h@v2")
    assert str(parse_source("uni2-h").hub) == "MahmoodLab/UNI2-h"


def test_weights_of_the_hub_are_found_under_the_names_of_open_clip(
    fake_hub: FakeHub, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "encoder")
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    (folder / "config.json").unlink()
    fake_hub.add("owner/clip", folder)
    encoder = open_encoder("hf-hub:owner/clip", model=ARCHITECTURE, arguments=SMALL)
    assert encoder.identity.startswith(f"timm:{ARCHITECTURE}[cls]-")
    fake_hub.add("owner/empty", {"config.json": b"{}"})
    with pytest.raises(InputError, match=r"owner/empty has no file of weights \(model\.safe"):
        open_encoder("hf-hub:owner/empty")
