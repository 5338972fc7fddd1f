"""Start an encoder with the weights that a user asked for; weights are never random unasked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.encoders.architecture import (
    Architecture,
    build,
    build_trunk,
    check_size,
    load_pooled_weights,
    own_pooling,
)
from tcgn_mil.models.encoders.configuration import (
    merged_architecture,
    merged_input,
    naming_the_folder,
)
from tcgn_mil.models.encoders.create import create_encoder, input_of, load_timm_weights
from tcgn_mil.models.encoders.registered import ENCODERS
from tcgn_mil.models.encoders.sources import (
    EncoderSource,
    LocalWeights,
    find_config,
    find_weights,
    parse_source,
)
from tcgn_mil.models.encoders.token_pooling import PooledEncoder
from tcgn_mil.models.network_input import EncoderInput
from tcgn_mil.pathology import PathologyEncoder, Pooling, Scalar
from tcgn_mil.settings.model_names import TIMM_PREFIX
from tcgn_mil.types.tile_geometry import PatchSize


@dataclass(frozen=True)
class StartedEncoder:
    """An encoder that was built and given its weights.

    Attributes
    ----------
    model
        The encoder, on the CPU and in training mode.
    name
        Name in the registry, ``timm:<model>``, or that of a network of your own.
    input_spec
        Size and normalisation of the images that it reads.
    architecture
        Facts from which it is built again; None if its name is enough.
    entry
        Its entry in the registry, if it has one.
    is_untrained
        Whether its weights are random.
    record
        Source, revision and licence of the weights, for files that are made with it.
    patch
        Physical size of the patches of a checkpoint of this package; None for other encoders.
    """

    model: nn.Module
    name: str
    input_spec: EncoderInput
    architecture: Architecture | None = None
    entry: PathologyEncoder | None = None
    is_untrained: bool = False
    record: Mapping[str, str] = field(default_factory=dict)
    patch: PatchSize | None = None


def start_encoder(
    source: str,
    num_classes: int = 0,
    *,
    checkpoint: str | Path | None = None,
    model: str | None = None,
    pooling: Pooling | None = None,
    arguments: Mapping[str, Scalar] | None = None,
    pretrained: bool = False,
    untrained: bool = False,
    input_px: int | None = None,
    trains: bool = False,
) -> StartedEncoder:
    """Build an encoder and give it the weights that were asked for.

    Parameters
    ----------
    source
        Name in the registry, YAML file with an entry, ``hf-hub:owner/name``, ``local-dir:folder``,
        ``timm:name``, a bare name of timm or of a registered network, or a file of weights.
    num_classes
        G, the number of genes; 0 for no head.
    checkpoint
        File of weights in place of those that the source implies.
    model
        Name in the registry or of timm that a folder or file of weights belongs to.
    pooling
        Pooling of tokens; None for that of the encoder.
    arguments
        Arguments of the model that replace those of the registry and of the configuration.
    pretrained
        Download the weights of a model of timm.
    untrained
        Use random weights.
    input_px
        Side of the images; None for the encoder's own.
    trains
        Whether all of the encoder is trained afterwards. A network of this package, which has no
        weights to download, may then start from random ones without `untrained`.

    Raises
    ------
    InputError
        If there is no such encoder, its weights are missing, cannot be downloaded or do not fit, or
        a name of timm stands without weights.

    Examples
    --------
    >>> started = start_encoder("timm:vit_tiny_patch16_224", pooling="cls+mean", untrained=True)
    >>> started.name, started.model.num_features, started.is_untrained
    ('timm:vit_tiny_patch16_224', 384, True)
    """
    named = parse_source(source, model)
    if untrained and (checkpoint is not None or pretrained or named.file is not None):
        raise InputError(
            "untrained weights and "
            + ("pretrained ones" if pretrained else "a file of weights")
            + " are both asked for, but a model has one set of weights",
            fix="remove untrained, or the other weights",
        )
    arguments = dict(arguments or {})
    if input_px is None and "img_size" in arguments:
        input_px = _side_of(arguments["img_size"])
    if not named.is_described:
        return _start_by_name(
            named,
            num_classes,
            named.file or (Path(checkpoint) if checkpoint else None),
            pooling,
            arguments,
            pretrained=pretrained,
            input_px=input_px,
            may_be_random=untrained or (trains and named.name in ENCODERS),
        )
    if checkpoint is not None:
        weights: LocalWeights | None = LocalWeights(
            Path(checkpoint), find_config(named), {"source": Path(checkpoint).name}
        )
    else:
        weights = None if untrained else find_weights(named)
    return _start_described(named, num_classes, weights, pooling, arguments, input_px)


def _side_of(img_size: Scalar) -> int:
    if isinstance(img_size, bool) or not str(img_size).isdecimal():
        raise InputError(
            f"argument img_size of the encoder is {img_size!r}",
            fix="give the side of its images in pixels, such as 224",
        )
    return int(img_size)


def _start_by_name(
    named: EncoderSource,
    num_classes: int,
    file: Path | None,
    pooling: Pooling | None,
    arguments: dict[str, Scalar],
    *,
    pretrained: bool,
    input_px: int | None,
    may_be_random: bool,
) -> StartedEncoder:
    """Start a model of timm, or a registered network."""
    is_timm = named.name not in ENCODERS
    if file is None and not (pretrained or may_be_random):
        raise InputError(
            f"nothing says which weights {named.name} is to have",
            fix="give --pretrained to download those of timm, or --untrained for random ones (as"
            " config keys encoder_options.pretrained and encoder_options.untrained)"
            if is_timm
            else "give a checkpoint, or --untrained (encoder_options.untrained) for random weights",
        )
    shown = f"{TIMM_PREFIX}{named.name}" if is_timm else named.name
    random = file is None and not pretrained
    record = {"source": "random" if random else file.name if file else "timm"}
    if pooling is None and "global_pool" in arguments and arguments["global_pool"] == "":
        pooling = own_pooling(Architecture("timm", named.name, None, arguments))
    if file is not None and is_timm:
        check_size(Architecture("timm", named.name, None, arguments).for_input(input_px), file)
    if pooling is None:
        encoder = create_encoder(
            named.name,
            num_classes,
            checkpoint=file,
            pretrained=pretrained,
            input_px=input_px,
            **cast(dict[str, Any], arguments),
        )
        spec = input_of(encoder, named.name, input_px)
        own_architecture = None
        if arguments and is_timm:  # without them, the name is enough to build it again
            own_architecture = Architecture("timm", named.name, None, arguments)
            own_architecture = own_architecture.for_input(input_px)
        return StartedEncoder(encoder, shown, spec, own_architecture, None, random, record)
    if not is_timm:
        raise InputError(
            f"{named.name} pools its features itself",
            fix="give no --pooling",
        )
    architecture = Architecture("timm", named.name, pooling, arguments).for_input(input_px)
    if pretrained:
        own: dict[str, Any] = {k: v for k, v in arguments.items() if k != "global_pool"}
        trunk = create_encoder(named.name, 0, pretrained=True, input_px=input_px, **own)
        pooled = PooledEncoder(trunk, pooling, num_classes)
    else:
        pooled = build(architecture, num_classes)
        if file is not None:
            load_pooled_weights(pooled, file, named.name)
    spec = input_of(pooled.trunk, named.name, input_px)
    return StartedEncoder(pooled, shown, spec, architecture, is_untrained=random, record=record)


def _start_described(
    named: EncoderSource,
    num_classes: int,
    weights: LocalWeights | None,
    pooling: Pooling | None,
    arguments: dict[str, Scalar],
    input_px: int | None,
) -> StartedEncoder:
    """Start an encoder of the registry, of the hub, or of a folder."""
    entry = named.entry
    config = weights.config if weights else find_config(named)
    folder = weights.file.parent if weights else named.folder
    with naming_the_folder(folder):
        architecture = merged_architecture(named, config, pooling, arguments)
        architecture = architecture.for_input(input_px)
    if weights is not None:
        check_size(architecture, weights.file)
    if weights is not None and architecture.library == "transformers":
        with torch.device("meta"):  # its weights are not drawn at random only to be replaced
            empty = build_trunk(architecture)
        assert architecture.pooling is not None  # models of transformers give tokens
        model: Any = PooledEncoder(empty, architecture.pooling, num_classes)
    else:
        model = build(architecture, num_classes)
    trunk = model if architecture.pooling is None else model.trunk
    with naming_the_folder(folder):
        spec = merged_input(entry, config, trunk, input_px)
    if weights is not None and architecture.pooling is None:
        load_timm_weights(model, weights.file, architecture.name)
    elif weights is not None:
        load_pooled_weights(model, weights.file, architecture.name)
    name = entry.name if entry else f"{architecture.library}:{architecture.name}"
    if entry is not None and trunk.embed_dim != entry.token_width:
        raise InputError(
            f"the weights of {entry.name} have {trunk.embed_dim} features a token, but its"
            f" entry in the registry says {entry.token_width}",
            path=weights.file if weights else None,
            fix="check the repository, or correct width and pooling in the entry",
        )
    record = {"source": "random"} if weights is None else dict(weights.record)
    if entry is not None:
        record |= {"licence": entry.licence, "citation": entry.citation}
    return StartedEncoder(model, name, spec, architecture, entry, weights is None, record)
