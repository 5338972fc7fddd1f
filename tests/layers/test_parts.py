"""Convolution and attention layers agree with plain formulas."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcgn_mil.layers.attention import CMTBlock, ReducedAttention, SelfAttention
from tcgn_mil.layers.checkpointing import checkpointed
from tcgn_mil.layers.convolution import (
    BatchNorm,
    InvertedResidualMLP,
    Pointwise,
    ResidualDepthwise,
    as_map,
    as_tokens,
)


def randomise(module: nn.Module) -> nn.Module:
    """Set running statistics and scales to values that change the result."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.is_floating_point() and not name.endswith("identity"):
            nn.init.normal_(tensor, std=0.5)
    return module


def test_tokens_and_maps_are_views_of_each_other() -> None:
    maps = torch.randn(2, 5, 3, 4).contiguous(memory_format=torch.channels_last)
    tokens = as_tokens(maps)
    assert tokens.is_contiguous()
    assert as_map(tokens, (3, 4)).data_ptr() == maps.data_ptr()
    assert torch.equal(as_map(tokens, (3, 4)), maps)


def test_pointwise_is_a_linear_layer() -> None:
    layer, tokens = Pointwise(6, 9), torch.randn(3, 10, 6)
    torch.testing.assert_close(layer(tokens), F.linear(tokens, layer.weight, layer.bias))


def test_residual_depthwise_adds_its_input() -> None:
    layer, maps = ResidualDepthwise(4), torch.randn(2, 4, 6, 6)
    expected = maps + F.conv2d(maps, layer.weight, layer.bias, padding=1, groups=4)
    torch.testing.assert_close(layer(maps), expected)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("contiguous", [True, False])
def test_batch_norm_and_its_gradient_in_any_memory_format(
    batch: int, training: bool, contiguous: bool
) -> None:
    torch.manual_seed(0)
    norm = randomise(BatchNorm(5)).train(training)
    reference = copy.deepcopy(norm).double()
    tokens = torch.randn(batch, 12, 5, requires_grad=True)
    upstream = (
        torch.randn(batch, 12, 5) if contiguous else torch.randn(batch, 5, 12).transpose(1, 2)
    )
    found = norm(tokens)
    wide = tokens.double()
    if training:
        mean, variance = wide.mean((0, 1)), wide.var((0, 1), unbiased=False)
    else:
        mean, variance = reference.running_mean, reference.running_var
    expected = (wide - mean) / (variance + norm.eps).sqrt() * reference.weight + reference.bias
    torch.testing.assert_close(found, expected.float())
    ours = torch.autograd.grad(found, [tokens, norm.weight, norm.bias], upstream)
    theirs = torch.autograd.grad(
        expected, [tokens, reference.weight, reference.bias], upstream.double()
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.float(), rtol=1e-4, atol=1e-5)
    if training:
        moved = 0.9 * reference.running_mean + 0.1 * mean
        torch.testing.assert_close(norm.running_mean, moved.detach().float())
        assert norm.num_batches_tracked == 1


def test_inverted_residual_mlp_is_its_formula_in_eval_mode() -> None:
    torch.manual_seed(0)
    mlp, tokens = randomise(InvertedResidualMLP(4, 10)).eval(), torch.randn(2, 9, 4)

    def normed(x: Tensor, norm: BatchNorm) -> Tensor:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    x = as_map(tokens, (3, 3))
    x = normed(
        F.gelu(F.conv2d(x, mlp.expand.weight[..., None, None], mlp.expand.bias)), mlp.expand_norm
    )
    x = x + F.conv2d(x, mlp.depthwise.weight, mlp.depthwise.bias, padding=1, groups=10)
    x = normed(F.gelu(x), mlp.depthwise_norm)
    x = normed(F.conv2d(x, mlp.project.weight[..., None, None], mlp.project.bias), mlp.project_norm)
    torch.testing.assert_close(mlp(tokens, (3, 3)), as_tokens(x), rtol=1e-4, atol=1e-5)


def test_reduced_attention_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = randomise(ReducedAttention(6, heads=2, reduction=2)).eval()
    tokens, bias = torch.randn(2, 16, 6), torch.randn(2, 16, 4)
    coarse = layer.reduce_norm(as_tokens(layer.reduce(as_map(tokens, (4, 4)))))
    q, k, v = (
        x.view(2, -1, 2, 3).transpose(1, 2)
        for x in (layer.q(tokens), layer.k(coarse), layer.v(coarse))
    )
    weights = (q @ k.transpose(2, 3) / 3**0.5 + bias).softmax(-1)
    expected = layer.proj((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(tokens, (4, 4), bias), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("diagonal", [0.0, 1.0])
def test_self_attention_scales_by_the_full_width_and_adds_the_diagonal_before(
    diagonal: float,
) -> None:
    torch.manual_seed(0)
    layer = randomise(SelfAttention(6, heads=2, diagonal=diagonal, dropout=0.1)).eval()
    tokens = torch.randn(2, 5, 6)
    q, k, v = (x.view(2, 5, 2, 3).transpose(1, 2) for x in layer.qkv(tokens).chunk(3, dim=2))
    weights = ((q @ k.transpose(2, 3) + diagonal * torch.eye(5)) / 6**0.5).softmax(-1)
    expected = (weights @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(tokens), expected, rtol=1e-4, atol=1e-5)


def test_checkpointing_changes_neither_gradients_nor_running_statistics() -> None:
    torch.manual_seed(0)
    plain = CMTBlock(4, 2, 2.0, reduction=2).train()
    saving = copy.deepcopy(plain)
    tokens, bias = torch.randn(2, 16, 4), torch.zeros(2, 16, 4)
    plain(tokens, (4, 4), bias).square().sum().backward()
    checkpointed(saving, tokens, (4, 4), bias).square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for a, b in zip(plain.buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(a, b)
