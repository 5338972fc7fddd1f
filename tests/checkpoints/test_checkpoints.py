"""Checkpoints are restored exactly, and are refused if they do not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tcgn_mil.checkpoints import (
    EncoderInfo,
    SlideModelInfo,
    check_genes,
    load_encoder,
    load_slide_model,
    read_encoder_info,
    read_slide_model_info,
    save_encoder,
    save_slide_model,
    weights_digest,
)
from tcgn_mil.errors import InputError
from tcgn_mil.models import TCGN, create_encoder, create_model, input_of, to_published_state_dict
from tcgn_mil.models.network_input import IMAGENET_MEAN, IMAGENET_STD, TCGN_INPUT, EncoderInput
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize, check_patch

GENES = ("ERBB2", "CD74", "GAPDH")
SCALER = TargetScaler(
    "log1p", np.array([0.1, 1 / 3, 2], np.float32), np.array([1, 0.7, 3e-5], np.float32)
)
ENCODER = EncoderInfo(
    "tcgn_tiny",
    GenePanel(GENES),
    SCALER,
    PatchSize(112, 0.69),
    "published",
    {"config": {"seed": 3}},
)
SLIDE_MODEL = SlideModelInfo(
    config=MilConfig(embedding=8, heads=2),
    in_features=12,
    panel=GenePanel(GENES),
    scaler=SCALER,
    unit="log2(TPM + 1)",
    encoder="tcgn_tiny-0123456789ab",
    patch=PatchSize(224, 0.5),
    fold=Fold(2, ("a", "b"), ("c",), ("d",)),
    provenance={"config": {"seed": 3}},
    stain="macenko-0123456789abcdef",
    tiling={"stride_px": 112, "min_tissue": 0.3},
)


@pytest.fixture(scope="module")
def encoder() -> TCGN:
    torch.manual_seed(0)
    model = create_model("tcgn_tiny", num_classes=3)
    model.train()(torch.randn(2, 3, 224, 224))  # so that running statistics are not their defaults
    return model.eval()


@pytest.fixture
def encoder_path(tmp_path: Path, encoder: TCGN) -> Path:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, encoder, ENCODER)
    return path


@pytest.fixture
def slide_path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "fold2.safetensors"
    save_slide_model(path, SlideRegressor(12, 3, SLIDE_MODEL.config), SLIDE_MODEL)
    return path


def same_meaning(first: Any, second: Any) -> bool:
    for field in dataclasses.fields(first):
        left, right = getattr(first, field.name), getattr(second, field.name)
        if isinstance(left, TargetScaler):
            assert left.transform == right.transform
            np.testing.assert_array_equal(left.mean, right.mean)
            np.testing.assert_array_equal(left.std, right.std)
            assert right.mean.dtype == np.float32
        elif field.name == "provenance":
            assert right["config"] == left["config"]
            assert right["packages"]["torch"] == torch.__version__.split("+")[0]
        else:
            assert left == right, field.name
    return True


def test_an_encoder_comes_back_exactly(encoder: TCGN, encoder_path: Path) -> None:
    loaded, info = load_encoder(encoder_path)
    assert same_meaning(ENCODER, info)
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(loaded(images), encoder(images))
    assert not loaded.training


TIMM_ENCODER = dataclasses.replace(
    ENCODER, model="resnet10t", input_spec=EncoderInput(96, (0.5, 0.6, 0.7), (0.2, 0.3, 1 / 3))
)


@pytest.fixture
def timm_path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "resnet.safetensors"
    save_encoder(path, create_encoder("resnet10t", 3), TIMM_ENCODER)
    return path


def test_an_encoder_of_timm_comes_back_exactly(timm_path: Path) -> None:
    loaded, info = load_encoder(timm_path)
    assert same_meaning(TIMM_ENCODER, info)
    torch.manual_seed(0)
    assert weights_digest(loaded) == weights_digest(create_encoder("resnet10t", 3))
    assert input_of(loaded, info.model).size_px == 96
    assert not loaded.training


def test_an_encoder_built_for_another_size_comes_back_so(tmp_path: Path) -> None:
    model = create_encoder("vit_tiny_patch16_224", 3, input_px=64)
    info = dataclasses.replace(
        ENCODER, model="vit_tiny_patch16_224", input_spec=TCGN_INPUT._replace(size_px=64)
    )
    save_encoder(tmp_path / "vit.safetensors", model, info)
    loaded, _ = load_encoder(tmp_path / "vit.safetensors")
    assert weights_digest(loaded) == weights_digest(model)
    assert loaded(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("name", ["fc.weight", "layer1.0.conv1.weight"])
def test_an_encoder_of_timm_has_to_be_complete_its_head_too(timm_path: Path, name: str) -> None:
    tensors = load_file(timm_path)
    del tensors[name]
    rewrite(timm_path, lambda meta: meta, tensors)
    with pytest.raises(
        InputError, match=rf"resnet\.safetensors: 1 tensors do not fit .*{name} is missing"
    ):
        load_encoder(timm_path)


def test_a_model_that_this_timm_does_not_have_is_refused_by_name_of_the_file(
    timm_path: Path,
) -> None:
    rewrite(timm_path, lambda meta: meta | {"model": "resnet11t"})
    with pytest.raises(InputError, match=r"resnet\.safetensors: timm has no model 'resnet11t'"):
        load_encoder(timm_path)


def test_a_file_from_before_encoders_had_an_input_has_tcgns(
    encoder: TCGN, encoder_path: Path
) -> None:
    rewrite(
        encoder_path, lambda meta: {key: value for key, value in meta.items() if key != "input"}
    )
    loaded, info = load_encoder(encoder_path)
    assert info.input_spec == EncoderInput(224, IMAGENET_MEAN, IMAGENET_STD)
    assert weights_digest(loaded) == weights_digest(encoder)


def test_an_encoders_tensors_are_its_state_dict(encoder: TCGN, encoder_path: Path) -> None:
    assert set(load_file(encoder_path)) == set(encoder.state_dict())
    again = create_model("tcgn_tiny", num_classes=3, checkpoint=encoder_path)
    assert weights_digest(again) == weights_digest(encoder)


def test_a_slide_model_comes_back_exactly(slide_path: Path) -> None:
    loaded, info = load_slide_model(slide_path)
    assert same_meaning(SLIDE_MODEL, info)
    torch.manual_seed(0)
    assert weights_digest(loaded) == weights_digest(SlideRegressor(12, 3, SLIDE_MODEL.config))
    assert not loaded.training
    assert same_meaning(SLIDE_MODEL, read_slide_model_info(slide_path))


def test_the_json_beside_says_what_the_header_says(encoder_path: Path) -> None:
    with safe_open(encoder_path, framework="pt") as file:
        header = json.loads(file.metadata()["tcgn_mil"])
    assert json.loads(encoder_path.with_suffix(".json").read_text()) == header
    assert header["genes"] == list(GENES)
    assert header["patch"] == {"px": 112, "mpp": 0.69, "um": pytest.approx(77.28)}
    assert sorted(path.name for path in encoder_path.parent.iterdir()) == [
        "encoder.json",
        "encoder.safetensors",
    ]


def test_the_digest_changes_with_any_weight(encoder: TCGN) -> None:
    other = create_model("tcgn_tiny", num_classes=3)
    other.load_state_dict(encoder.state_dict())
    assert weights_digest(other) == weights_digest(encoder)
    assert len(weights_digest(other)) == 12
    with torch.no_grad():
        next(iter(other.parameters())).view(-1)[0] += 1e-6
    assert weights_digest(other) != weights_digest(encoder)
    assert weights_digest(other.bfloat16()) != weights_digest(encoder)  # a type numpy does not know


def rewrite(path: Path, change: Any, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """Change the header (a function of it, or a text instead of it) and the tensors."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["tcgn_mil"])
    text = change if isinstance(change, str) else json.dumps(change(header))
    save_file(load_file(path) if tensors is None else tensors, path, metadata={"tcgn_mil": text})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: meta | {"genes": ["ERBB2", "CD74", "ACTB"]}, "does not match its panel hash"),
        (
            lambda meta: {key: value for key, value in meta.items() if key != "patch"},
            "KeyError: 'patch'",
        ),
        (lambda meta: meta | {"schema_version": 99}, "later version"),
        (lambda meta: meta | {"patch": {"px": 2, "mpp": 0.69}}, "2 px is outside 8 to 4096"),
        (
            lambda meta: meta | {"input": {"px": 224, "mean": [0, 0, 0], "std": [1, 0, 1]}},
            "cannot have an input of 224 px",
        ),
        (lambda meta: meta | {"input": {"px": 224}}, "KeyError: 'mean'"),
        ("{not json", "header cannot be understood"),
        ("{}", "no header with genes"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(
    encoder_path: Path, change: Any, message: str
) -> None:
    rewrite(encoder_path, change)
    with pytest.raises(InputError, match=rf"encoder\.safetensors: .*{message}.* Fix: "):
        read_encoder_info(encoder_path)


def test_a_config_of_another_version_is_refused(slide_path: Path) -> None:
    rewrite(slide_path, lambda meta: meta | {"config": {"width": 3}})
    with pytest.raises(InputError, match=r"fold2\.safetensors: .*width"):
        load_slide_model(slide_path)


def test_the_kinds_are_not_confused(encoder_path: Path, slide_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"fold2\.safetensors: is not .* kind encoder: it is .* slide-model"
    ):
        load_encoder(slide_path)
    with pytest.raises(
        InputError, match=r"encoder\.safetensors: is not .* kind slide-model.* tcgn-mil finetune"
    ):
        load_slide_model(encoder_path)


def test_tensors_that_do_not_fit_are_listed(slide_path: Path) -> None:
    tensors = load_file(slide_path)
    tensors["head.weight"] = torch.zeros(4, 8)
    tensors["surplus"] = tensors.pop("head.bias")
    rewrite(slide_path, lambda meta: meta, tensors)
    with pytest.raises(
        InputError, match=r"fold2\.safetensors: 3 tensors do not fit .*head\.bias"
    ) as caught:
        load_slide_model(slide_path)
    assert "head.weight" in str(caught.value)
    assert "surplus" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x80\x04 a pickle", None])
def test_a_broken_file_is_refused_by_name(encoder_path: Path, content: bytes | None) -> None:
    encoder_path.write_bytes(encoder_path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(InputError, match=r"encoder\.safetensors: cannot be read as safetensors"):
        load_encoder(encoder_path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.safetensors: no such encoder checkpoint"):
        load_encoder(tmp_path / "nothing.safetensors")


def test_statistics_that_are_not_finite_leave_no_file(tmp_path: Path, encoder: TCGN) -> None:
    scaler = dataclasses.replace(SCALER, mean=np.array([0, np.nan, 0], np.float32))
    with pytest.raises(InputError, match="target statistics of CD74 are not finite"):
        save_encoder(
            tmp_path / "encoder.safetensors", encoder, dataclasses.replace(ENCODER, scaler=scaler)
        )
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_for_the_same_genes_passes(
    encoder_path: Path, encoder: TCGN, tmp_path: Path
) -> None:
    check_genes(encoder_path, GenePanel(GENES))
    published = tmp_path / "published.safetensors"  # names no genes
    save_file(
        {
            name: value.clone()
            for name, value in to_published_state_dict(encoder.state_dict()).items()
        },
        published,
    )
    check_genes(published, GenePanel(("A", "B")))


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        (
            ("ERBB2", "CD74", "ACTB"),
            "is a checkpoint for other genes: only the checkpoint has GAPDH",
        ),
        (
            (*GENES, "ACTB", "ESR1"),
            "is a checkpoint for other genes: only the data's panel has ACTB, ESR1",
        ),
        (GENES[::-1], "is a checkpoint for the same genes in another order"),
    ],
)
def test_a_checkpoint_for_other_genes_is_refused(
    encoder_path: Path, genes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=rf"encoder\.safetensors: {message}.* Fix: "):
        check_genes(encoder_path, GenePanel(genes))


def test_tiles_of_another_size_are_refused_unless_allowed() -> None:
    check_patch(PatchSize(112, 0.69), PatchSize(112, 0.695))
    with pytest.raises(InputError, match=r"77\.3 µm .*these are 112\.0 µm .*--allow-other-size"):
        check_patch(PatchSize(112, 0.69), PatchSize(224, 0.5))
    check_patch(PatchSize(112, 0.69), PatchSize(224, 0.5), allow=True)
