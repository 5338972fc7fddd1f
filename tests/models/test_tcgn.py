"""TCGN behaves as a timm model."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import timm
import torch
from PIL import Image
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tcgn_mil.models import CONFIGS, TCGN, create_model


@pytest.fixture
def tiny() -> TCGN:
    torch.manual_seed(0)
    return create_model("tcgn_tiny", num_classes=7)


@pytest.fixture
def batch() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 224, 224)


def test_registers_three_models_with_timm() -> None:
    assert (
        sorted(timm.list_models("tcgn*")) == ["tcgn_ti", "tcgn_tiny", "tcgn_xs"] == sorted(CONFIGS)
    )
    model = timm.create_model("tcgn_tiny", num_classes=4, drop_rate=0.3)
    assert isinstance(model, TCGN)
    assert model.dropout.p == 0.3


@pytest.mark.parametrize(
    ("name", "parameters"), [("tcgn_ti", 22_547_073), ("tcgn_xs", None), ("tcgn_tiny", None)]
)
def test_shapes_of_features_and_predictions(
    name: str, parameters: int | None, batch: Tensor
) -> None:
    model = create_model(name, num_classes=785).eval()
    with torch.no_grad():
        last_map = model.forward_features(batch)
        assert last_map.shape == (2, model.num_features, 7, 7)
        assert model.num_features == (256 if name == "tcgn_tiny" else 1280)
        assert torch.equal(model(batch), model.forward_head(last_map))
        assert model.forward_head(last_map).shape == (2, 785)
        features = model.forward_head(last_map, pre_logits=True)
        assert features.shape == (2, model.num_features)
        assert torch.allclose(features, last_map.mean((2, 3)), atol=1e-6)
    if parameters:
        assert sum(p.numel() for p in model.parameters()) == parameters


def test_data_config_gives_the_published_transform(tiny: TCGN) -> None:
    config = timm.data.resolve_model_data_config(tiny)
    assert config["input_size"] == (3, 224, 224)
    assert config["interpolation"] == "bicubic"
    assert config["crop_pct"] == 1.0
    assert config["mean"] == timm.data.IMAGENET_DEFAULT_MEAN
    assert config["std"] == timm.data.IMAGENET_DEFAULT_STD
    image = Image.new("RGB", (112, 112))
    assert timm.data.create_transform(**config)(image).shape == (3, 224, 224)


def test_classifier_can_be_removed_and_replaced(tiny: TCGN, batch: Tensor) -> None:
    tiny.eval().reset_classifier(0)
    assert isinstance(tiny.get_classifier(), nn.Identity)
    with torch.no_grad():
        assert torch.equal(
            tiny(batch), tiny.forward_head(tiny.forward_features(batch), pre_logits=True)
        )
    tiny.reset_classifier(3)
    assert tiny(batch).shape == (2, 3)
    assert tiny.get_classifier().fc1.weight.shape == (256, 256)
    assert isinstance(create_model("tcgn_tiny", num_classes=0).get_classifier(), nn.Identity)
    with pytest.raises(ValueError, match="global_pool"):
        tiny.reset_classifier(3, "max")


@pytest.mark.parametrize("name", ["tcgn_ti", "tcgn_tiny"])
def test_every_parameter_of_a_new_model_receives_a_gradient(name: str, batch: Tensor) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=5).train()
    model(batch).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if not parameter_name.endswith(("attn.k.bias", "attention.k.bias")):
            assert parameter.grad.abs().sum() > 0, parameter_name


def test_a_batch_equals_its_images_one_by_one(tiny: TCGN, batch: Tensor) -> None:
    tiny.eval()
    with torch.no_grad():
        alone = torch.cat([tiny(image[None]) for image in batch])
        torch.testing.assert_close(tiny(batch), alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(tiny(batch.flip(0)), alone.flip(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", ["tcgn_ti", "tcgn_tiny"])
def test_constant_images_stay_finite(name: str, training: bool) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3).train(training)
    predictions = model(torch.ones(2, 3, 224, 224))
    predictions.square().sum().backward()
    assert predictions.isfinite().all()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 224, 224),
        torch.zeros(1, 3, 112, 112),
        torch.zeros(1, 4, 224, 224),
        torch.zeros(1, 3, 224, 224, dtype=torch.uint8),
        torch.zeros(0, 3, 224, 224),
    ],
    ids=["unbatched", "small", "four channels", "bytes", "none"],
)
def test_other_inputs_are_refused_with_a_remedy(tiny: TCGN, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, 224, 224\).*create_transform"):
        tiny(images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_refused_with_a_remedy(
    tiny: TCGN, dtype: torch.dtype
) -> None:
    half = copy.deepcopy(tiny).to(dtype)
    with pytest.raises(ValueError, match=rf"{dtype}.*autocast.*fold_for_inference"):
        half(torch.zeros(1, 3, 224, 224, dtype=dtype))


@pytest.mark.parametrize(
    "wrong", [{"in_chans": 4}, {"img_size": 256}, {"features_only": True}, {"global_pool": "max"}]
)
def test_options_that_tcgn_lacks_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"TCGN (has no|is built for)"):
        timm.create_model("tcgn_tiny", **wrong)


def test_gradient_checkpointing_keeps_gradients_and_statistics(batch: Tensor) -> None:
    torch.manual_seed(0)
    plain = create_model("tcgn_tiny", num_classes=3, drop_rate=0.0).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    for model in (plain, saving):
        model(batch).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6, msg=name)
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_gradient_checkpointing_keeps_fewer_activations(tiny: TCGN, batch: Tensor) -> None:
    def kept() -> int:
        sizes = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = tiny.train()(batch)
        assert output.requires_grad
        return sum(sizes.values())

    everything = kept()
    tiny.set_grad_checkpointing()
    assert kept() < everything / 2


def test_layer_groups_follow_depth(tiny: TCGN) -> None:
    groups = param_groups_layer_decay(
        tiny, 0.05, no_weight_decay_list=tiny.no_weight_decay(), layer_decay=0.5
    )
    names = {id(p): name for name, p in tiny.named_parameters()}
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    order = [
        "stem.conv1.weight",
        "stages.0.patch_embed.proj.weight",
        "stages.0.blocks.0.attn.q.weight",
        "graph_blocks.0.attention.q.weight",
        "stages.1.blocks.0.attn.q.weight",
        "graph_blocks.1.attention.q.weight",
        "stages.2.blocks.0.attn.q.weight",
        "stages.3.blocks.0.attn.q.weight",
        "head.fc2.weight",
    ]
    scales = [scale[name] for name in order]
    assert scales == sorted(scales)
    assert len(set(scales)) == len(scales)
    assert scale["head.fc2.weight"] == 1.0
    assert len(scale) == len(names)
    assert decay["stages.0.position_bias"] == 0.0
    assert decay["graph_blocks.1.position_bias"] == 0.0
    assert decay["stages.0.blocks.0.attn.q.weight"] == 0.05
    assert set(tiny.group_matcher(coarse=True)) == {"stem", "blocks"}


def test_a_state_dict_restores_the_model(tiny: TCGN, batch: Tensor) -> None:
    other = create_model("tcgn_tiny", num_classes=7).eval()
    other.load_state_dict(tiny.state_dict())
    with torch.no_grad():
        assert torch.equal(other(batch), tiny.eval()(batch))


def test_overfits_two_images(tiny: TCGN, batch: Tensor) -> None:
    torch.manual_seed(0)
    targets = torch.randn(2, 7)
    optimiser = torch.optim.AdamW(tiny.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = (tiny.train()(batch) - targets).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_tiny_costs_at_most_four_percent_of_ti() -> None:
    counts = {}
    for name in ("tcgn_ti", "tcgn_tiny"):
        model = create_model(name, num_classes=785).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, 224, 224))
        counts[name] = counter.get_total_flops()
    assert 3.5e9 < counts["tcgn_ti"] < 4.2e9
    assert counts["tcgn_tiny"] <= 0.04 * counts["tcgn_ti"]


def test_layers_know_no_models() -> None:
    code = "import sys, tcgn_mil.layers.graph_block; sys.exit('tcgn_mil.models' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_compiles_as_one_graph(tiny: TCGN, batch: Tensor) -> None:
    torch.compiler.reset()
    tiny.eval()
    compiled = torch.compile(tiny, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(batch), tiny(batch), rtol=1e-4, atol=1e-5)
