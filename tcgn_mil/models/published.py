"""Translate checkpoints between the published layout of TCGN and ours.

The published layout is that of the authors' code, and its trunk has the names of the CMT ImageNet
checkpoints. Every tensor has one published name and one of ours. Two kinds of tensors also change
their form, and both changes can be undone:

- 1x1 convolutions (out, in, 1, 1) are matrices (out, in) here;
- the rows of the encoders' `qkv` are in the order (q/k/v, head, channel) here, and in the order
  (head, channel, q/k/v) there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tcgn_mil.errors import InputError
from tcgn_mil.models.tcgn import TCGN
from tcgn_mil.models.tcgn_variants import CONFIGS

_Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


def _letter(match: re.Match[str]) -> str:
    return "abcd"[int(match[1])]


def _next_digit(prefix: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{prefix}{int(match[1]) + 1}."


# Our name -> published name. Every pattern that matches is replaced, in this order.
_BLOCK: _Rules = (
    (r"\.local\.", ".proj."),
    (r"\.reduce\.", ".sr.0."),
    (r"\.reduce_norm\.", ".sr.1."),
    (r"\.mlp\.expand\.", ".mlp.conv1.0."),
    (r"\.mlp\.expand_norm\.", ".mlp.conv1.2."),
    (r"\.mlp\.depthwise\.", ".mlp.proj."),
    (r"\.mlp\.depthwise_norm\.", ".mlp.proj_bn."),
    (r"\.mlp\.project\.", ".mlp.conv2.0."),
    (r"\.mlp\.project_norm\.", ".mlp.conv2.1."),
)
_ENCODER: _Rules = (
    (r"encoder\.norm([12])\.", r"encoder.layernorm\1."),
    (r"encoder\.attn\.", "encoder.Attention."),
    (r"encoder\.expand\.", "encoder.FFN.0."),
    (r"encoder\.project\.", "encoder.FFN.3."),
)
_GRAPH: _Rules = (
    (r"\.bottlenecks\.(\d+)\.", _next_digit(".")),
    (r"(\.convnext\.\d\.\d)\.gamma", r"\1.layer_scaler.gamma"),
    (r"(\.convnext\.\d\.\d)\.depthwise\.", r"\1.block.0."),
    (r"(\.convnext\.\d\.\d)\.norm\.", r"\1.block.1."),
    (r"(\.convnext\.\d\.\d)\.expand\.", r"\1.block.2."),
    (r"(\.convnext\.\d\.\d)\.project\.", r"\1.block.4."),
    (r"(\.convnext\.\d)\.norm\.", r"\1.0.0."),
    (r"(\.convnext\.\d)\.downsample\.", r"\1.0.1."),
    (r"\.convnext\.(\d)\.", _next_digit(".convnext")),
    (r"\.patch_embed\.", ".patch_embedding."),
    (r"\.token_block\.", ".CMT_encoder1."),
    (r"\.attention\.value\.", ".MHSA.value_transform."),
    (r"\.attention\.", ".MHSA."),
    (r"\.node_edge\.nodes1\.", ".censnet.gc1."),
    (r"\.node_edge\.edges\.", ".censnet.gc2."),
    (r"\.node_edge\.nodes2\.", ".censnet.gc3."),
    (r"\.fusion\.linear\.", ".transformer_fusion_encoder.linear_fusion."),
    (r"\.fusion\.node_block\.", ".transformer_fusion_encoder.node_transformer."),
    (r"\.fusion\.edge_encoder\.", ".transformer_fusion_encoder.edge_transformer."),
    (r"\.fusion\.channel_encoder\.", ".transformer_fusion_encoder.channel_attention_196."),
    (r"\.position_bias$", ".relative_pos"),
    (r"^graph_blocks\.", "gnn_block"),
)
_TOP: _Rules = (
    (r"^stem\.", "stem_"),
    (r"^stages\.(\d)\.position_bias$", lambda match: f"relative_pos_{_letter(match)}"),
    (r"^stages\.(\d)\.patch_embed\.", lambda match: f"patch_embed_{_letter(match)}."),
    (r"^stages\.(\d)\.blocks\.", lambda match: f"blocks_{_letter(match)}."),
    (r"^channel_attentions\.(\d)\.encoder\.", r"channel_attention\1.transformer."),
    (r"^final_conv\.", "_fc."),
    (r"^final_norm\.", "_bn."),
    (r"^head\.fc1\.", "head.0."),
    (r"^head\.fc2\.", "head.2."),
)
_RULES = tuple((re.compile(pattern), new) for pattern, new in _BLOCK + _ENCODER + _TOP + _GRAPH)
_CONV_1X1 = re.compile(
    r"(\.mlp|\.bottlenecks\.\d+)\.(expand|project)\.weight$|^final_conv\.weight$"
)
_QKV = re.compile(r"\.qkv\.(weight|bias)$")
_TRUNK = re.compile(r"(stem_|patch_embed_|blocks_|relative_pos_[abcd]$|_fc\.|_bn\.)")
_POSITION_BIAS = re.compile(r"relative_pos_[abcd]$")
_LISTED = 10
_FIX = (
    "create the variant and the number of genes that the checkpoint was saved from"
    " (and then call reset_classifier for other genes)"
)


class TrunkReport(NamedTuple):
    """Tensors that :func:`load_cmt_trunk` filled, left as they were, or did not use.

    Attributes
    ----------
    filled, not_filled
        Our names of the model's tensors that were filled, and of those that were not.
    unused
        Names of the checkpoint's tensors that have no place in the trunk.
    resized
        Our names of the position biases among `filled` that were interpolated, because the
        checkpoint was trained on images of another size.
    """

    filled: tuple[str, ...]
    not_filled: tuple[str, ...]
    unused: tuple[str, ...]
    resized: tuple[str, ...]


def published_name(name: str) -> str:
    """Translate one of our tensor names to its name in a published checkpoint.

    Examples
    --------
    >>> published_name("stages.0.blocks.1.mlp.expand.weight")
    'blocks_a.1.mlp.conv1.0.weight'
    """
    for pattern, new in _RULES:
        name = pattern.sub(new, name)
    return name


def is_published(names: Iterable[str]) -> bool:
    """Return whether tensor names are in the published layout."""
    return any(
        name.startswith(("stem_", "gnn_block", "blocks_", "relative_pos_")) for name in names
    )


def convert_published_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a published TCGN checkpoint to the layout of ``TCGN.state_dict``.

    Raises
    ------
    InputError
        If a tensor is missing, unknown or of another shape, for the variant that fits best.
    """
    shapes = _best_fit(state_dict, published=True)
    return {name: _from_published(name, state_dict[published_name(name)]) for name in shapes}


def to_published_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a state dict of ``TCGN`` to the published layout.

    This is the inverse of :func:`convert_published_state_dict`, with the same errors.
    """
    shapes = _best_fit(state_dict, published=False)
    return {published_name(name): _to_published(name, state_dict[name]) for name in shapes}


def check_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
    into: str,
    *,
    fix: str = _FIX,
) -> None:
    """Check that tensors have exactly the expected names and shapes.

    Parameters
    ----------
    tensors
        Tensors by name.
    expected
        Shapes by name.
    into
        Name of the network that the tensors must fit, for the message.
    fix
        Advice for the message.

    Raises
    ------
    InputError
        Listing tensors that are missing, unknown or of another shape.
    """
    problems = _problems(tensors, expected)
    if problems:
        listed = "; ".join(problems[:_LISTED])
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise InputError(
            f"{len(problems)} tensors do not fit {into}: {listed}{more}",
            fix=fix,
        )


def load_cmt_trunk(model: TCGN, state_dict: Mapping[str, Tensor]) -> TrunkReport:
    """Fill the trunk of a model from a CMT ImageNet checkpoint (Guo et al. 2022).

    Parameters
    ----------
    model
        TCGN with the same trunk as the checkpoint.
    state_dict
        Tensors under the names of the released checkpoint. Others, such as those of its
        classifier, are not used.

    Returns
    -------
    Names of the tensors that were filled, left as they were, or not used.

    Raises
    ------
    InputError
        If no tensor belongs to the trunk, or one has another shape than the model's. Nothing is
        loaded then.

    Notes
    -----
    CMT-Ti and CMT-XS were trained on images of 160 and 192 px. Position biases of such smaller
    grids are interpolated bilinearly, over the positions of the queries and over those of the keys.
    """
    own = model.state_dict()
    trunk = {published_name(name): name for name in own if _TRUNK.match(published_name(name))}
    given = {name: tensor for name, tensor in state_dict.items() if name in trunk}
    if not given:
        raise InputError(
            "holds no tensor of the CMT trunk",
            fix="give a checkpoint of CMT, with tensor names like blocks_a.0",
        )
    shapes = {name: _published_shape(trunk[name], own[trunk[name]].shape) for name in given}
    resized = {
        name: _resize_position_bias(given[name], shapes[name])
        for name in given
        if _POSITION_BIAS.match(name)
    }
    resized = {name: tensor for name, tensor in resized.items() if tensor is not given[name]}
    given |= resized
    check_tensors(given, shapes, "the trunk")
    filled = {trunk[name]: _from_published(trunk[name], tensor) for name, tensor in given.items()}
    model.load_state_dict(filled, strict=False)
    return TrunkReport(
        filled=tuple(filled),
        not_filled=tuple(name for name in own if name not in filled),
        unused=tuple(name for name in state_dict if name not in trunk),
        resized=tuple(trunk[name] for name in resized),
    )


def _resize_position_bias(bias: Tensor, shape: torch.Size) -> Tensor:
    """Interpolate a position bias (heads, queries, keys) of square grids to `shape`.

    It is returned unchanged if it has this shape already, or if the grids are not square.
    """
    sides = [math.isqrt(count) for count in (*bias.shape[1:], *shape[1:])]
    squares = bias.ndim == 3 and [side**2 for side in sides] == [*bias.shape[1:], *shape[1:]]
    if bias.shape == shape or not squares or bias.shape[0] != shape[0]:
        return bias
    queries, keys, new_queries, new_keys = sides
    over_keys = bias.float().reshape(-1, queries**2, keys, keys)
    over_keys = F.interpolate(over_keys, size=(new_keys, new_keys), mode="bilinear")
    over_queries = over_keys.flatten(2).transpose(1, 2).reshape(-1, new_keys**2, queries, queries)
    over_queries = F.interpolate(over_queries, size=(new_queries, new_queries), mode="bilinear")
    return over_queries.flatten(2).transpose(1, 2).to(bias.dtype)


@cache
def _own_shapes(variant: str, num_classes: int) -> dict[str, torch.Size]:
    with torch.device("meta"):  # shapes alone, without memory for the values
        return {
            name: tensor.shape
            for name, tensor in TCGN(CONFIGS[variant], num_classes).state_dict().items()
        }


def _best_fit(state_dict: Mapping[str, Tensor], published: bool) -> dict[str, torch.Size]:
    """Return our names and shapes of the variant that the tensors fit.

    It raises an error for the closest variant if they fit none exactly.
    """
    last = state_dict.get("head.2.weight" if published else "head.fc2.weight")
    num_classes = 1 if last is None else last.shape[0]
    candidates = []
    for variant in CONFIGS:
        shapes = _own_shapes(variant, num_classes)
        expected = (
            {published_name(n): _published_shape(n, s) for n, s in shapes.items()}
            if published
            else shapes
        )
        candidates.append((len(_problems(state_dict, expected)), variant, expected, shapes))
    _, variant, expected, shapes = min(candidates, key=lambda candidate: candidate[0])
    layout = "the published layout" if published else "the layout"
    check_tensors(state_dict, expected, f"{layout} of {variant} with {num_classes} genes")
    return shapes


def _problems(given: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> list[str]:
    return [
        *(f"{name} is missing" for name in expected if name not in given),
        *(f"{name} is unknown" for name in given if name not in expected),
        *(
            f"{name} is {tuple(given[name].shape)}, not {tuple(shape)}"
            for name, shape in expected.items()
            if name in given and given[name].shape != shape
        ),
    ]


def _published_shape(name: str, shape: torch.Size) -> torch.Size:
    return torch.Size([*shape, 1, 1]) if _CONV_1X1.search(name) else shape


def _from_published(name: str, tensor: Tensor) -> Tensor:
    if _CONV_1X1.search(name):
        return tensor.flatten(1)
    if _QKV.search(name):
        return tensor.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
    return tensor


def _to_published(name: str, tensor: Tensor) -> Tensor:
    if _CONV_1X1.search(name):
        return tensor[:, :, None, None]
    if _QKV.search(name):
        return tensor.unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)
    return tensor
