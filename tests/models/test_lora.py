"""Low-rank adapters: training starts from the encoder, and reaches them alone."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import timm
import torch

from tcgn_mil.errors import InputError
from tcgn_mil.models.lora import ADAPTER, add_adapters, attention_layers, merge_adapters
from tcgn_mil.settings.encoder import LoraSettings


def small_vit() -> Any:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=3,
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
    ).eval()


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_adapters_start_from_nothing_train_alone_and_are_merged() -> None:
    model = small_vit()
    names = list(model.state_dict())
    with torch.no_grad():
        before = model(IMAGES)
    add_adapters(model, LoraSettings(rank=2, alpha=4))
    torch.testing.assert_close(model(IMAGES), before)
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    assert trained
    assert all(ADAPTER in name for name in trained)
    assert attention_layers(small_vit()) == [
        f"blocks.{block}.attn.{part}" for block in (0, 1) for part in ("qkv", "proj")
    ]
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=5.0)
    for _ in range(3):
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        tuned = model(IMAGES)
    assert (tuned - before).abs().max() > 1e-3
    merge_adapters(model)
    assert list(model.state_dict()) == names
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), tuned, atol=1e-5, rtol=1e-4)
    plain = small_vit()
    for name, tensor in model.state_dict().items():
        is_adapted = "attn.qkv.weight" in name or "attn.proj.weight" in name
        assert torch.equal(tensor, plain.state_dict()[name]) != is_adapted


def test_a_convolutional_network_has_nothing_to_adapt() -> None:
    model = timm.create_model("resnet10t", num_classes=2)
    with pytest.raises(InputError, match=r"ResNet has no attention .* train=all or train=head"):
        add_adapters(model, LoraSettings())


def test_without_peft_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"peft, which is not installed.* 'tcgn-mil\[lora\]'"):
        add_adapters(small_vit(), LoraSettings())
