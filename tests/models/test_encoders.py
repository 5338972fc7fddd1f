"""Spot encoders by name: TCGN, timm's and own ones, with their weights, inputs and features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tcgn_mil.checkpoints import EncoderInfo, save_encoder
from tcgn_mil.errors import InputError
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.models import (
    TCGN,
    EncoderInput,
    create_encoder,
    create_model,
    encoder_features,
    input_of,
    register_encoder,
)
from tcgn_mil.models.encoders import ENCODERS
from tcgn_mil.models.network_input import to_network_input
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PANEL = GenePanel(("GZMA", "PRF1"))
SCALER = TargetScaler("log1p", np.zeros(2, np.float32), np.ones(2, np.float32))


def resnet_file(
    path: Path, change: Any = lambda tensors: tensors, num_classes: int = 7
) -> tuple[Path, dict[str, Tensor]]:
    torch.manual_seed(1)
    tensors = change(dict(timm.create_model("resnet10t", num_classes=num_classes).state_dict()))
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path)
    return path, tensors


def without(*names: str) -> Any:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def test_a_tcgn_is_what_create_model_makes(tmp_path: Path) -> None:
    source = create_model("tcgn_tiny", 3)
    save_file(source.state_dict(), tmp_path / "tcgn.safetensors")
    model = create_encoder(
        "tcgn_tiny", 3, checkpoint=tmp_path / "tcgn.safetensors", drop_rate=0.3, input_px=224
    )
    assert isinstance(model, TCGN)
    assert model.drop_rate == 0.3
    assert all(
        torch.equal(tensor, source.state_dict()[name])
        for name, tensor in model.state_dict().items()
    )
    with pytest.raises(InputError, match="tensors do not fit the model: head"):
        create_encoder("tcgn_tiny", 4, checkpoint=tmp_path / "tcgn.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet10"}, "timm has no model 'resnet10'.* did you mean .*resnet10t"),
        ({"name": "tcgn_tinny"}, "timm has no model 'tcgn_tinny'.* did you mean .*tcgn_tiny"),
        (
            {"name": "resnet10t.nobody"},
            "weights of timm model 'resnet10t.nobody' cannot be loaded .*Invalid pretrained tag",
        ),
        (
            {"name": "tcgn_tiny", "pretrained": True},
            "no weights of tcgn_tiny to download.* a checkpoint, or a trunk",
        ),
        ({"name": "tcgn_tiny", "input_px": 256}, "tcgn_tiny reads images of 224 px, not 256"),
        (
            {"name": "xcit_nano_12_p16_224", "input_px": 33},
            "cannot be built for images of 33 px .* its own 224 px",
        ),
        (
            {"name": "resnet10t", "pretrained": True, "checkpoint": "x.pt"},
            "both pretrained weights and a checkpoint",
        ),
        ({"name": "resnet10t", "checkpoint": "x.pt"}, "x.pt: no such file"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_encoder(num_classes=2, **arguments)


def test_weights_that_cannot_be_downloaded_are_an_input_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no network\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        InputError, match=r"weights of timm model 'resnet10t' cannot be loaded \(no network\)"
    ):
        create_encoder("resnet10t", 2, pretrained=True)


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
def test_a_head_of_another_size_stays_random_and_the_trunk_is_exact(
    tmp_path: Path, file: str
) -> None:
    path, source = resnet_file(tmp_path / file, num_classes=1000)
    torch.manual_seed(5)
    model = create_encoder("resnet10t", 2, checkpoint=path)
    torch.manual_seed(5)
    random = create_encoder("resnet10t", 2).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, (random if name.startswith("fc.") else source)[name]), name


def test_a_head_of_this_size_is_loaded_too(tmp_path: Path) -> None:
    path, source = resnet_file(tmp_path / "weights.pt")
    assert torch.equal(
        create_encoder("resnet10t", 7, checkpoint=path).get_classifier().weight, source["fc.weight"]
    )


@pytest.mark.parametrize("dropped", [("fc.weight", "fc.bias"), ("fc.bias",)])
def test_half_a_head_is_none(tmp_path: Path, dropped: tuple[str, ...]) -> None:
    path, source = resnet_file(tmp_path / "weights.pt", without(*dropped))
    model = create_encoder("resnet10t", 7, checkpoint=path)
    assert torch.equal(model.conv1[0].weight, source["conv1.0.weight"])
    assert not torch.equal(model.fc.weight, source.get("fc.weight", model.fc.weight + 1))
    create_encoder("resnet10t", 0, checkpoint=path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layer1.0.conv1.weight"), "layer1.0.conv1.weight is missing"),
        (lambda tensors: tensors | {"layer9.weight": torch.zeros(1)}, "layer9.weight is unknown"),
        (
            lambda tensors: tensors | {"bn1.weight": torch.zeros(3)},
            r"bn1.weight is \(3,\), not \(64,\)",
        ),
        (
            lambda tensors: tensors | {"bn1.weight": torch.full((64,), torch.nan)},
            "not finite: bn1.weight",
        ),
    ],
)
def test_a_trunk_that_does_not_fit_is_refused_by_tensor(
    tmp_path: Path, change: Any, message: str
) -> None:
    path, _ = resnet_file(tmp_path / "weights.safetensors", change)
    with pytest.raises(InputError, match=rf"weights\.safetensors: 1 tensors .*{message}"):
        create_encoder("resnet10t", 7, checkpoint=path)


def test_weights_from_before_batch_norm_counted_batches_fit(tmp_path: Path) -> None:
    counters = [
        name
        for name in timm.create_model("resnet10t").state_dict()
        if name.endswith("num_batches_tracked")
    ]
    path, source = resnet_file(tmp_path / "weights.pt", without(*counters))
    assert torch.equal(
        create_encoder("resnet10t", 7, checkpoint=path).fc.weight, source["fc.weight"]
    )


def test_each_encoder_has_its_own_input() -> None:
    assert input_of(create_encoder("tcgn_tiny", 2), "tcgn_tiny") == EncoderInput(224, *IMAGENET)
    resnet = EncoderInput(176, *IMAGENET)
    assert input_of(create_encoder("resnet10t", 2), "resnet10t") == resnet
    smaller = create_encoder("resnet10t", 2, input_px=128)
    assert input_of(smaller, "resnet10t") == resnet._replace(size_px=128)
    vit = create_encoder("vit_tiny_patch16_224", 2, input_px=96)
    half = (0.5,) * 3
    assert input_of(vit, "vit_tiny_patch16_224") == EncoderInput(96, half, half)


def test_an_input_that_is_no_square_picture_is_refused() -> None:
    model = create_encoder("resnet10t", 2)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 1024, 768)}
    with pytest.raises(InputError, match="resnet10t reads images of 3 x 1024 x 768, but"):
        input_of(model, "resnet10t")


@pytest.mark.parametrize(
    ("name", "size_px", "width"),
    [
        ("tcgn_tiny", 224, 256),
        ("resnet10t", 64, 512),
        ("vit_tiny_patch16_224", 32, 192),
        ("mobilenetv3_small_050", 32, 1024),
    ],
)
def test_features_are_what_the_model_without_its_head_gives(
    name: str, size_px: int, width: int
) -> None:
    model = create_encoder(name, 3, input_px=size_px).eval()
    images = torch.randn(2, 3, size_px, size_px)
    with torch.inference_mode():
        features = encoder_features(model, images)
        model.reset_classifier(0)
        assert features.shape == (2, width)
        assert torch.equal(features, model(images))
        assert torch.equal(features, encoder_features(model, images))


def test_features_that_are_not_pooled_are_refused() -> None:
    model: nn.Module = create_encoder("resnet10t", 0, global_pool="").eval()
    with pytest.raises(InputError, match=r"ResNet gives features of shape \(1, 512, 1, 1\)"):
        encoder_features(model, torch.zeros(1, 3, 32, 32))


class Colours(nn.Module):
    """A network of 4 features per image, such as a user would write in a file of his own."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 1)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        self.head = nn.Linear(4, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward_features(self, images: Tensor) -> Tensor:
        return self.trunk(images)

    def forward_head(self, last_map: Tensor, pre_logits: bool = False) -> Tensor:
        features = last_map.mean(dim=(2, 3))
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def test_the_encoder_door_takes_a_network_from_outside(tmp_path: Path) -> None:
    spec = EncoderInput(32, (0.5,) * 3, (0.25,) * 3)
    register_encoder("colours", input_spec=spec)(Colours)
    try:
        model = create_encoder("colours", 2)
        assert input_of(model, "colours") == spec
        assert encoder_features(model, torch.zeros(3, 3, 32, 32)).shape == (3, 4)
        info = EncoderInfo("colours", PANEL, SCALER, PatchSize(112, 0.69), input_spec=spec)
        save_encoder(tmp_path / "encoder.safetensors", model, info)
        encoder = open_encoder(str(tmp_path / "encoder.safetensors"))
        pixels = torch.randint(0, 256, (5, 112, 112, 3), dtype=torch.uint8)
        with torch.inference_mode():
            features = encoder_features(model, to_network_input(pixels, spec))
            torch.testing.assert_close(encoder.features(pixels), features)
        with pytest.raises(InputError, match="encoder 'colours' is registered already"):
            register_encoder("colours")(Colours)
        with pytest.raises(InputError, match="colours reads images of 32 px, not 224"):
            create_encoder("colours", 2, input_px=224)
    finally:
        ENCODERS.pop("colours")


def test_an_own_encoder_cannot_take_a_name_of_timm() -> None:
    with pytest.raises(InputError, match="timm has a model named 'resnet10t'"):
        register_encoder("resnet10t")(Colours)
