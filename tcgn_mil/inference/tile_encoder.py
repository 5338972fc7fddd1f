"""Open the encoder that turns tiles into features, and prepare it for a device and a precision."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tcgn_mil.checkpoints import load_encoder, weights_digest
from tcgn_mil.checkpoints.published import find_checkpoint, source_name
from tcgn_mil.errors import InputError
from tcgn_mil.models import TCGN, fold_for_inference
from tcgn_mil.models.encoders import Architecture, pool_own_tokens, start_encoder
from tcgn_mil.models.network_input import TCGN_INPUT, EncoderInput, to_network_input
from tcgn_mil.pathology import Pooling, Scalar, check_encoder_tiles, pooled_name
from tcgn_mil.types.features import UNTRAINED
from tcgn_mil.types.tile_geometry import PatchSize, check_patch

AUTO = "auto"
PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class TileEncoder:
    """Model that turns tile pixels into features.

    Attributes
    ----------
    model
        Encoder without its head, in evaluation mode. It maps images (B, 3, size_px, size_px) to
        features (B, D).
    identity
        Name, pooling and digest of the weights, as feature files hold it. It starts with
        `UNTRAINED` if the weights are random.
    patch
        Physical size of the patches that it was trained on; None if unknown (timm models).
    input_spec
        Size and normalisation of the images that it reads.
    precision
        Precision in which it runs on a GPU if the user chooses none.
    record
        Source, revision, licence and citation of the weights.
    is_pathology
        Whether `patch` is that of an entry of the registry, which stands for a resolution more than
        for an exact side.
    architecture
        Facts from which a pooled transformer is built again; None if its name is enough.
    """

    model: nn.Module
    identity: str
    patch: PatchSize | None
    input_spec: EncoderInput = TCGN_INPUT
    precision: str = "32-true"
    record: Mapping[str, str] = field(default_factory=dict)
    is_pathology: bool = False
    architecture: Architecture | None = None

    def features(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, P, P, 3) uint8 to features (B, D)."""
        return pool_own_tokens(self.model, self.model(to_network_input(pixels, self.input_spec)))

    def check_tiles(self, patch: PatchSize, *, allow: bool = False) -> None:
        """Check that tiles have the physical size that the encoder was trained on.

        Raises
        ------
        InputError
            If the sizes differ and `allow` is False. An encoder of the registry has the tolerance
            of :func:`~tcgn_mil.pathology.check_encoder_tiles`.
        """
        if self.patch is None or allow:
            return
        if not self.is_pathology:
            check_patch(self.patch, patch)
            return
        check_encoder_tiles(
            self.identity.removeprefix(UNTRAINED).partition("[")[0],
            self.patch,
            patch,
            fix=f"tile with --patch-px {self.patch.px} --patch-mpp {self.patch.mpp:g} (or with"
            " --encoder and this name), or pass --allow-other-size",
        )

    def precision_on(self, device: torch.device, chosen: str = AUTO) -> str:
        """Return the precision for a device: the chosen one, or for ``auto`` the encoder's own.

        The encoder's own precision is for GPUs; on a CPU, half precision is slow.
        """
        if chosen != AUTO:
            return chosen
        return self.precision if device.type == "cuda" else "32-true"


def open_encoder(
    source: str,
    *,
    model: str | None = None,
    pooling: Pooling | None = None,
    arguments: Mapping[str, Scalar] | None = None,
    pretrained: bool = False,
    untrained: bool = False,
) -> TileEncoder:
    """Open an encoder: a checkpoint, one of the registry, of a hub or folder, or a model of timm.

    Parameters
    ----------
    source
        Path of an ``encoder.safetensors``; a name of the registry such as ``uni2-h``
        (:mod:`tcgn_mil.pathology`); ``hf-hub:owner/name@revision``; ``local-dir:folder``;
        ``timm:resnet18``; a YAML file with an entry; or a file of weights with `model`.
    model
        Name in the registry or of timm that a file or folder of weights belongs to.
    pooling
        Pooling of a transformer's tokens, ``cls``, ``mean`` or ``cls+mean``; None for its own.
    arguments
        Arguments of the model that replace those of the registry.
    pretrained
        Whether to download the weights of a timm model.
    untrained
        Whether to use random weights, always the same ones.

    Raises
    ------
    InputError
        If there is no such encoder; its weights are missing, cannot be downloaded or do not fit; or
        a timm model is named with neither `pretrained` nor `untrained`.

    Examples
    --------
    >>> import torch
    >>> encoder = open_encoder("timm:resnet10t", untrained=True)
    >>> pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    >>> with torch.inference_mode():
    ...     encoder.features(pixels).shape
    torch.Size([2, 512])
    """
    if (own := find_checkpoint(source)) is not None:
        given = (model, pooling, arguments, pretrained, untrained)
        return _open_checkpoint(source, own, has_options=any(given))
    # The CPU's generator alone is seeded, and fork_rng restores it afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        started = start_encoder(
            source,
            model=model,
            pooling=pooling,
            arguments=arguments,
            pretrained=pretrained,
            untrained=untrained,
        )
    network = started.model.eval()
    own_pooling = started.architecture.pooling if started.architecture else None
    identity = f"{pooled_name(started.name, own_pooling)}-{weights_digest(network)}"
    entry = started.entry
    return TileEncoder(
        network,
        f"{UNTRAINED}{identity}" if started.is_untrained else identity,
        entry.patch if entry else None,
        started.input_spec,
        precision=entry.precision if entry else "32-true",
        record=started.record,
        is_pathology=entry is not None,
        architecture=started.architecture,
    )


def _open_checkpoint(source: str, path: str, *, has_options: bool) -> TileEncoder:
    """Open a checkpoint of this package, which says by itself how it is built and pooled."""
    if has_options and Path(path).is_file():  # else loading says that there is no such file
        raise InputError(
            "is a checkpoint of this package, which holds its model, pooling and weights",
            path=source,
            fix="remove --encoder-model, --encoder-argument, --pooling, --pretrained and"
            " --untrained",
        )
    network, info = load_encoder(path)
    own_pooling = info.architecture.pooling if info.architecture else None
    identity = f"{pooled_name(info.model, own_pooling)}-{weights_digest(network)}"
    network.reset_classifier(0)  # type: ignore[operator]
    record = {"source": source_name(source)}
    return TileEncoder(
        network,
        identity,
        info.patch,
        info.input_spec,
        record=record,
        architecture=info.architecture,
    )


def prepared(encoder: TileEncoder, device: torch.device, precision: str) -> tuple[TileEncoder, Any]:
    """Return an encoder in its fastest form for a device and precision.

    Returns
    -------
    The encoder, and the context in which to call it. A TCGN is folded
    (:mod:`tcgn_mil.models.folded`); any other model runs under autocast.
    """
    mixed = autocast(device, precision)
    model = encoder.model.to(device).eval()
    if isinstance(model, TCGN):
        return replace(
            encoder, model=fold_for_inference(model, PRECISIONS[precision])
        ), contextlib.nullcontext()
    return encoder, mixed


def autocast(device: torch.device, precision: str) -> Any:
    """Return the context of mixed precision, which does nothing for ``32-true``.

    Raises
    ------
    InputError
        If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"precision is {precision!r}", fix=f"choose one of {', '.join(PRECISIONS)}"
        )
    return torch.autocast(device.type, dtype=PRECISIONS[precision], enabled=precision != "32-true")
