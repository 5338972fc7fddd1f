"""Checkpoints of the published layout, CMT trunks and other files of weights are read."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tcgn_mil.errors import InputError
from tcgn_mil.models import (
    CONFIGS,
    TCGN,
    convert_published_state_dict,
    create_model,
    load_cmt_trunk,
    load_trunk,
    to_published_state_dict,
)
from tcgn_mil.models.published import published_name


def test_names_are_a_bijection_of_all_994(fill: ModuleType, reference_model: TCGN) -> None:
    names = [published_name(name) for name in reference_model.state_dict()]
    assert len(names) == len(set(names)) == 994
    assert set(names) == set(fill.published_shapes())


def test_there_and_back_is_the_identity(published: dict[str, Tensor]) -> None:
    back = to_published_state_dict(convert_published_state_dict(published))
    assert back.keys() == published.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in published.items())


@pytest.mark.parametrize("variant", [name for name in CONFIGS if name != "tcgn_ti"])
def test_other_variants_convert_as_well(variant: str) -> None:
    own = create_model(variant, num_classes=3).state_dict()
    back = convert_published_state_dict(to_published_state_dict(own))
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in own.items())


def test_misfits_are_listed_ten_at_most(published: dict[str, Tensor]) -> None:
    damaged = {
        name: tensor for name, tensor in published.items() if not name.startswith("blocks_b.0")
    }
    damaged["extra"] = torch.zeros(1)
    damaged["_fc.bias"] = torch.zeros(7)
    with pytest.raises(InputError, match=r"and \d+ more") as caught:
        convert_published_state_dict(damaged)
    assert str(caught.value).count(" is missing") == 10
    for change, message in (
        ({"extra": torch.zeros(1)}, "1 tensors do not fit .*extra is unknown"),
        ({"_fc.bias": torch.zeros(7)}, r"_fc.bias is \(7,\), not \(1280,\)"),
    ):
        with pytest.raises(InputError, match=message):
            convert_published_state_dict(published | change)


def test_inverse_is_strict_too(reference_model: TCGN) -> None:
    own = reference_model.state_dict()
    own.pop("stem.conv1.bias")
    with pytest.raises(InputError, match=r"1 tensors do not fit .*stem.conv1.bias is missing"):
        to_published_state_dict(own)


@pytest.mark.parametrize(
    "kind", ["own.safetensors", "published.safetensors", "own.pt", "wrapped.pth", "published.pth"]
)
def test_create_model_reads_either_layout(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, path = create_model("tcgn_tiny", num_classes=3).eval(), tmp_path / kind
    tensors = source.state_dict()
    if kind.startswith("published"):
        tensors = {
            name: tensor.contiguous() for name, tensor in to_published_state_dict(tensors).items()
        }
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    elif kind.startswith("wrapped"):
        torch.save(
            {
                "epoch": 3,
                "state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()},
            },
            path,
        )
    else:
        torch.save(tensors, path)
    image = torch.randn(1, 3, 224, 224)
    loaded = create_model("tcgn_tiny", num_classes=3, checkpoint=path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(image), source(image))


def test_a_pickle_with_more_than_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole_model.pth"
    torch.save(create_model("tcgn_tiny", num_classes=3), path)
    with pytest.raises(
        InputError, match=r"whole_model.pth: its pickle holds more than tensors.*Fix: .*state_dict"
    ):
        create_model("tcgn_tiny", num_classes=3, checkpoint=path)


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    (tmp_path / "broken.pt").write_bytes(b"")
    (tmp_path / "broken.tar").write_bytes(b"abc")
    (tmp_path / "weights.onnx").write_bytes(b"")
    torch.save({"weight": torch.zeros(1), "step": 3}, tmp_path / "mixed.pt")
    torch.save({}, tmp_path / "empty.pt")
    for name, reason in (
        ("absent.pt", "no such file"),
        ("broken.safetensors", "cannot be read as safetensors"),
        ("broken.pt", "cannot be read|more than tensors"),
        ("weights.onnx", "has the suffix '.onnx'"),
        ("broken.tar", "cannot be read|more than tensors"),
        ("mixed.pt", r"not tensors \(step\)"),
        ("empty.pt", "no dictionary of tensors"),
    ):
        with pytest.raises(InputError, match=rf"{name}: .*({reason}).* Fix: "):
            create_model("tcgn_tiny", num_classes=3, checkpoint=tmp_path / name)


def test_weights_for_other_genes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "genes.safetensors"
    safetensors.torch.save_file(create_model("tcgn_tiny", num_classes=3).state_dict(), path)
    with pytest.raises(
        InputError, match=r"genes.safetensors: 2 tensors do not fit .*head.fc2.weight is \(3, 256\)"
    ):
        create_model("tcgn_tiny", num_classes=4, checkpoint=path)


def test_unknown_model_names_the_choices() -> None:
    with pytest.raises(InputError, match="tcgn_ti, tcgn_xs, tcgn_tiny"):
        create_model("tcgn_huge", num_classes=3)


def test_a_cmt_checkpoint_fills_the_trunk(published: dict[str, Tensor]) -> None:
    trunk = {
        name: tensor
        for name, tensor in published.items()
        if not name.startswith(("gnn", "channel", "head"))
    }
    trunk |= {"head.weight": torch.zeros(1000, 1280), "head.bias": torch.zeros(1000)}
    model = create_model("tcgn_ti", num_classes=5)
    report = load_cmt_trunk(model, trunk)
    assert len(report.filled) == len(trunk) - 2
    assert report.unused == ("head.weight", "head.bias")
    assert report.resized == ()
    assert {name.split(".")[0] for name in report.not_filled} == {
        "graph_blocks",
        "channel_attentions",
        "head",
    }
    assert torch.equal(model.final_conv.weight, published["_fc.weight"].flatten(1))
    assert torch.equal(
        model.stages[2].blocks[9].attn.k.weight, published["blocks_c.9.attn.k.weight"]
    )


@pytest.mark.parametrize("px", [160, 192])
def test_a_cmt_checkpoint_of_smaller_images_has_its_position_biases_resized(
    published: dict[str, Tensor], px: int, tmp_path: Path
) -> None:
    """The authors trained CMT-Ti on images of 160 px and CMT-XS on images of 192 px."""
    trunk = {
        name: tensor
        for name, tensor in published.items()
        if not name.startswith(("gnn", "channel", "head"))
    }
    for index, letter in enumerate("abcd"):
        heads, side = trunk[f"relative_pos_{letter}"].shape[0], px // 4 // 2**index
        keys = max(side // (8 >> index), 1)
        ramp = torch.arange(heads).view(heads, 1, 1) + torch.linspace(0, 1, side).view(
            1, side, 1
        )  # over query rows
        trunk[f"relative_pos_{letter}"] = (
            ramp.repeat_interleave(side, 1).reshape(heads, side**2, 1).repeat(1, 1, keys**2)
        )
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in trunk.items()}, tmp_path / "cmt.safetensors"
    )
    model = create_model("tcgn_ti", num_classes=5)
    report = load_trunk(model, tmp_path / "cmt.safetensors")
    assert report.resized == tuple(f"stages.{index}.position_bias" for index in range(4))
    assert set(report.resized) <= set(report.filled)
    for index, stage in enumerate(model.stages):
        side = 56 >> index
        rows = stage.position_bias.detach().reshape(-1, side, side, stage.position_bias.shape[2])
        assert torch.allclose(rows, rows[:, :, :1, :1].expand_as(rows), atol=1e-5)
        torch.testing.assert_close(
            rows[:, 0, 0, 0], torch.arange(len(rows)).float(), atol=1e-5, rtol=0
        )
        assert (rows.diff(dim=1) >= -1e-6).all()
        assert torch.allclose(rows[:, -1] - rows[:, 0], torch.ones(()), atol=1e-5)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    tensors = create_model("tcgn_tiny", num_classes=3).state_dict()
    tensors["head.fc2.bias"][1] = float("nan")
    safetensors.torch.save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(
        InputError,
        match=r"nan.safetensors: 1 tensors hold values that are not finite: head.fc2.bias",
    ):
        create_model("tcgn_tiny", num_classes=3, checkpoint=tmp_path / "nan.safetensors")
    with pytest.raises(InputError, match=r"nan.safetensors: .*not finite"):
        load_trunk(create_model("tcgn_tiny", num_classes=3), tmp_path / "nan.safetensors")


def test_a_misshapen_trunk_changes_nothing(published: dict[str, Tensor]) -> None:
    model = create_model("tcgn_tiny", num_classes=5)
    before = model.stem.conv1.weight.clone()
    with pytest.raises(InputError, match=r"do not fit the trunk"):
        load_cmt_trunk(model, published)
    with pytest.raises(InputError, match="no tensor of the CMT trunk"):
        load_cmt_trunk(model, {"fc.weight": torch.zeros(1)})
    assert torch.equal(model.stem.conv1.weight, before)
