"""Low-rank adapters (LoRA, by the package peft): tune a large encoder through few weights.

The weight W (out, in) of a linear layer of attention stays as it is, and the product of two small
matrices is trained beside it::

    y = W x + (alpha / rank) B A x,    A (rank, in), B (out, rank)

B starts from zero, so that training starts from the encoder as it is. After training the product is
added to W (:func:`merge_adapters`), and the encoder has its own layers again.

References
----------
Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022.
"""

from __future__ import annotations

from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.extras import need_extra
from tcgn_mil.settings.encoder import LoraSettings

ADAPTER = "lora_"  # part of the names of the parameters of adapters, which peft gives them
# Linear layers of attention in timm (qkv, proj), in transformers, and in TCGN.
_ATTENTION = ("qkv", "attn.proj", "query", "key", "value", "q_proj", "k_proj", "v_proj")


def attention_layers(model: nn.Module) -> list[str]:
    """Return the names of the linear layers of attention in a model.

    Raises
    ------
    InputError
        If the model has no such layer.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(_ATTENTION)
    ]
    if not names:
        raise InputError(
            f"{type(model).__name__} has no attention whose layers could be adapted",
            fix="use train=all or train=head; adapters are for vision transformers",
        )
    return names


def add_adapters(model: nn.Module, settings: LoraSettings) -> None:
    """Add adapters to the attention of a model, in place, and freeze all other parameters.

    Parameters
    ----------
    model
        A vision transformer.
    settings
        Rank, scale and dropout of the adapters.

    Raises
    ------
    InputError
        If the package peft is not installed, or the model has no attention.

    Examples
    --------
    >>> from tcgn_mil.models import create_encoder
    >>> vit = create_encoder("vit_tiny_patch16_224", num_classes=2)
    >>> add_adapters(vit, LoraSettings(rank=2))
    >>> sum(parameter.numel() for parameter in vit.parameters() if parameter.requires_grad)
    27648
    """
    need_extra("peft", "training low-rank adapters")
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=attention_layers(model),
    )
    inject_adapter_in_model(config, model)


def merge_adapters(model: nn.Module) -> None:
    """Add the adapters to the weights beside them and remove them, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.get_base_layer())
    model.requires_grad_(True)
