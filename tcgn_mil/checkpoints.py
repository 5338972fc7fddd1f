"""Checkpoints: weights and what they mean in one safetensors file, with the same JSON beside it for people.

The file's header carries genes, target statistics, physical tile size and provenance, so weights and meaning cannot
part; loading is strict. An encoder's tensors are exactly its ``state_dict``, so ``create_encoder(checkpoint=...)``
reads it too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path, write_json
from tcgn_mil.models import create_encoder, load_weights
from tcgn_mil.models.encoders import TCGN_INPUT, EncoderInput
from tcgn_mil.models.published import check_tensors
from tcgn_mil.models.slide_regressor import MilConfig, SlideRegressor
from tcgn_mil.models.weights import read_tensors
from tcgn_mil.provenance import SCHEMA_VERSION, provenance
from tcgn_mil.text import preview
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize
from tcgn_mil.types.tiles import NO_STAIN

_HEADER = "tcgn_mil"
_SUFFIX = ".safetensors"
_ENCODER, _SLIDE_MODEL = "encoder", "slide-model"
_MADE_BY = {_ENCODER: "pretrain", _SLIDE_MODEL: "finetune"}


@dataclass(frozen=True)
class EncoderInfo:
    """What a spot encoder's weights mean.

    Attributes
    ----------
    model
        Name for :func:`tcgn_mil.models.create_encoder`.
    panel, scaler
        Genes of the output, and the statistics that take it from standardised to `normalisation` values.
    patch
        Physical size of the patches it was trained on.
    normalisation
        ``library`` or ``published`` (see :mod:`tcgn_mil.targets.spots`).
    provenance
        Config and versions.
    input_spec
        Side of the network's input, and the mean and standard deviation of red, green, blue that normalise it.
    """

    model: str
    panel: GenePanel
    scaler: TargetScaler
    patch: PatchSize
    normalisation: str = "library"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    input_spec: EncoderInput = TCGN_INPUT

    def __post_init__(self) -> None:
        px, mean, std = self.input_spec
        if px < 1 or not len(mean) == len(std) == 3 or min(std) <= 0:
            raise InputError(
                f"an encoder's input of {px} px, mean {mean} and std {std} makes no sense",
                fix="give a side of 1 or more, three means and three positive deviations",
            )


@dataclass(frozen=True)
class SlideModelInfo:
    """What a slide model's weights mean.

    Attributes
    ----------
    config, in_features
        Shape of the model, D.
    panel, scaler
        Genes of the output and their target statistics on the fold's training patients.
    unit
        Unit of unscaled predictions, for example ``log2(TPM + 1)``.
    encoder, patch
        Identity of the encoder whose features it reads, and the physical size of its tiles.
    fold
        Patients it was trained, validated and tested on.
    stain
        Identity of the stain normalisation of those features.
    tiling
        Step of the grid, and rules for tissue and quality, that all training slides were tiled by, as far as their
        feature files say so; new slides are tiled alike.
    provenance
        Config and versions.
    """

    config: MilConfig
    in_features: int
    panel: GenePanel
    scaler: TargetScaler
    unit: str
    encoder: str
    patch: PatchSize
    fold: Fold
    provenance: Mapping[str, Any] = field(default_factory=dict)
    stain: str = NO_STAIN
    tiling: Mapping[str, Any] = field(default_factory=dict)


def save_encoder(path: str | Path, model: nn.Module, info: EncoderInfo) -> None:
    """Write an encoder atomically."""
    network_input = {
        "px": info.input_spec.size_px,
        "mean": list(info.input_spec.mean),
        "std": list(info.input_spec.std),
    }
    meta = {
        "kind": _ENCODER,
        "model": info.model,
        "input": network_input,
        "normalisation": info.normalisation,
        **_shared(info),
    }
    _save(path, model, meta)


def read_encoder_info(path: str | Path) -> EncoderInfo:
    """What an encoder checkpoint says of itself.

    Raises
    ------
    InputError
        If the file is missing, damaged, no encoder checkpoint of this package, or of a later version of it.
    """
    meta = _read_header(path, kind=_ENCODER)
    with _complete(path):
        return EncoderInfo(
            model=meta["model"],
            normalisation=meta["normalisation"],
            provenance=meta["provenance"],
            **_restored(meta),
            input_spec=_restored_input(meta),
        )


def load_encoder(path: str | Path) -> tuple[nn.Module, EncoderInfo]:
    """The encoder in eval mode on the CPU, and its info."""
    info = read_encoder_info(path)
    with _complete(path):
        model = create_encoder(info.model, num_classes=len(info.panel), input_px=info.input_spec.size_px)
    load_weights(
        model, path
    )  # not by create_encoder, which would take a timm model's weights without a head
    return model.eval(), info


def save_slide_model(path: str | Path, model: SlideRegressor, info: SlideModelInfo) -> None:
    """Write a slide model atomically."""
    fold = {
        "index": info.fold.index,
        **{part: list(names) for part, names in info.fold.parts().items()},
    }
    meta = {
        "kind": _SLIDE_MODEL,
        "config": asdict(info.config),
        "in_features": info.in_features,
        "unit": info.unit,
        "encoder": info.encoder,
        "stain": info.stain,
        "tiling": dict(info.tiling),
        "fold": fold,
        **_shared(info),
    }
    _save(path, model, meta)


def read_slide_model_info(path: str | Path) -> SlideModelInfo:
    """What a slide model says of itself; errors as :func:`read_encoder_info`."""
    meta = _read_header(path, kind=_SLIDE_MODEL)
    with _complete(path):
        fold = meta["fold"]
        return SlideModelInfo(
            config=MilConfig(**meta["config"]),
            in_features=int(meta["in_features"]),
            unit=meta["unit"],
            encoder=meta["encoder"],
            stain=meta.get("stain", NO_STAIN),
            tiling=meta.get("tiling", {}),
            provenance=meta["provenance"],
            fold=Fold(
                int(fold["index"]), *(tuple(fold[part]) for part in ("train", "val", "test"))
            ),
            **_restored(meta),
        )


def load_slide_model(path: str | Path) -> tuple[SlideRegressor, SlideModelInfo]:
    """The slide model in eval mode on the CPU, and its info."""
    info = read_slide_model_info(path)
    model = SlideRegressor(info.in_features, len(info.panel), info.config)
    tensors = read_tensors(path)
    try:
        check_tensors(
            tensors,
            {name: tensor.shape for name, tensor in model.state_dict().items()},
            "the slide model",
        )
    except InputError as error:
        raise InputError(error.reason, path=path, fix="copy or train it again") from None
    model.load_state_dict(tensors)
    return model.eval(), info


def check_genes(path: str | Path, panel: GenePanel) -> None:
    """Refuse an encoder checkpoint of this package that was trained for other genes, or in another order.

    A file without our header (the published layout) names no genes and passes; its shapes are checked on loading.

    Raises
    ------
    InputError
        Naming genes that differ.
    """
    path = Path(path)
    if path.suffix != _SUFFIX or not _header_of(path):
        return
    found = read_encoder_info(path).panel
    if found.hash == panel.hash:
        return
    fix = "use the checkpoint's own genes (panel.file), or start from other weights"
    for have, lack, who in (
        (found, panel, "only the checkpoint"),
        (panel, found, "only the data's panel"),
    ):
        extra = [gene for gene in have.genes if gene not in set(lack.genes)]
        if extra:
            raise InputError(
                f"is a checkpoint for other genes: {who} has {preview(extra)}", path=path, fix=fix
            )
    raise InputError("is a checkpoint for the same genes in another order", path=path, fix=fix)


def weights_digest(model: nn.Module) -> str:
    """First 12 hex digits of the SHA-256 of all tensors and their names: the identity of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:12]


def _shared(info: EncoderInfo | SlideModelInfo) -> dict[str, Any]:
    return {
        "genes": list(info.panel.genes),
        "panel_hash": info.panel.hash,
        "target": {
            "transform": info.scaler.transform,
            "mean": info.scaler.mean.astype(float).tolist(),
            "std": info.scaler.std.astype(float).tolist(),
        },
        "patch": {"px": info.patch.px, "mpp": info.patch.mpp, "um": info.patch.um},
        "provenance": provenance(**info.provenance),
    }


def _restored(meta: Mapping[str, Any]) -> dict[str, Any]:
    target = meta["target"]
    return {
        "panel": GenePanel(tuple(meta["genes"])),
        "scaler": TargetScaler(
            target["transform"],
            np.array(target["mean"], np.float32),
            np.array(target["std"], np.float32),
        ),
        "patch": PatchSize(int(meta["patch"]["px"]), float(meta["patch"]["mpp"])),
    }


def _restored_input(meta: Mapping[str, Any]) -> EncoderInput:
    """TCGN's for a file from before encoders had another input than TCGN's."""
    if "input" not in meta:
        return TCGN_INPUT
    found = meta["input"]
    mean, std = (tuple(float(value) for value in found[key]) for key in ("mean", "std"))
    return EncoderInput(int(found["px"]), mean, std)


def _save(path: str | Path, model: nn.Module, meta: dict[str, Any]) -> None:
    path = Path(path)
    if path.suffix != _SUFFIX:
        raise ValueError(f"{path.name} must end in {_SUFFIX}")
    unknown = [
        g
        for g, *v in zip(meta["genes"], *_statistics(meta), strict=True)
        if not np.isfinite(v).all()
    ]
    if unknown:
        raise InputError(
            f"target statistics of {preview(unknown)} are not finite", fix="leave these genes out"
        )
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    meta = {"schema_version": SCHEMA_VERSION, **meta}
    with atomic_path(path) as temporary:
        save_file(
            tensors, temporary, metadata={_HEADER: json.dumps(meta, allow_nan=False, default=str)}
        )
    write_json(path.with_suffix(".json"), meta)


def _statistics(meta: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    return meta["target"]["mean"], meta["target"]["std"]


def _header_of(path: Path) -> str | None:
    """The JSON in a safetensors file's header, None where there is none of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(_HEADER)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"cannot be read as safetensors ({error})", path=path, fix="copy or train it again"
        ) from error


def _read_header(path: str | Path, *, kind: str) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"no such {kind} checkpoint", path=path, fix="check the path, or train one first"
        )
    header = _header_of(path)
    with _complete(path):
        meta = json.loads(header) if header else {}
    if meta.get("kind") != kind:
        raise InputError(
            f"is no {kind} checkpoint of this package"
            + (
                f" but a {meta['kind']} one"
                if meta.get("kind")
                else " (no header with genes and tile size)"
            ),
            path=path,
            fix=f"give the file that tcgn-mil {_MADE_BY[kind]} wrote",
        )
    if meta.get("schema_version", 0) > SCHEMA_VERSION:
        raise InputError(
            "was written by a later version of this package", path=path, fix="upgrade tcgn-mil"
        )
    with _complete(path):
        if GenePanel(tuple(meta["genes"])).hash != meta["panel_hash"]:
            raise InputError(
                "its gene list does not match its panel hash",
                path=path,
                fix="copy or train it again",
            )
    return meta


@contextmanager
def _complete(path: str | Path) -> Iterator[None]:
    """Say which file is at fault where a header lacks something or holds nonsense."""
    try:
        yield
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"its header cannot be understood ({type(error).__name__}: {error})",
            path=path,
            fix="copy or train it again",
        ) from error
