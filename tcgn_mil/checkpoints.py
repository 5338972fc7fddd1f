"""Checkpoints: weights and what they mean in one safetensors file, with the same JSON beside it for people.

The file's header carries genes, target statistics, physical tile size and provenance, so weights and meaning cannot
part; loading is strict. An encoder's tensors are exactly its ``state_dict``, so ``create_model(checkpoint=...)`` reads
it too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tcgn_mil.artefacts import SCHEMA_VERSION, atomic_path, provenance, write_json
from tcgn_mil.contracts import Fold, GenePanel, PatchSize, TargetScaler
from tcgn_mil.errors import InputError
from tcgn_mil.models import create_model
from tcgn_mil.models.mil import MilConfig, SlideRegressor
from tcgn_mil.models.published import check_tensors
from tcgn_mil.models.weights import read_tensors

_HEADER = "tcgn_mil"


@dataclass(frozen=True)
class EncoderInfo:
    """What a spot encoder's weights mean.

    Attributes
    ----------
    model
        Name for :func:`tcgn_mil.models.create_model`.
    panel, scaler
        Genes of the output, and the statistics that take it from standardised to `normalisation` values.
    patch
        Physical size of the patches it was trained on.
    normalisation
        ``library`` or ``published`` (see :mod:`tcgn_mil.data.targets`).
    provenance
        Config and versions.
    """

    model: str
    panel: GenePanel
    scaler: TargetScaler
    patch: PatchSize
    normalisation: str = "library"
    provenance: Mapping[str, Any] = field(default_factory=dict)


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


def save_encoder(path: str | Path, model: nn.Module, info: EncoderInfo) -> None:
    """Write an encoder atomically."""
    meta = {"kind": "encoder", "model": info.model, "normalisation": info.normalisation, **_shared(info)}
    _save(path, model, meta)


def read_encoder_info(path: str | Path) -> EncoderInfo:
    """What an encoder checkpoint says of itself."""
    meta = _read_header(path, kind="encoder")
    return EncoderInfo(
        model=meta["model"], normalisation=meta["normalisation"], provenance=meta["provenance"], **_restored(meta)
    )


def load_encoder(path: str | Path) -> tuple[nn.Module, EncoderInfo]:
    """The encoder in eval mode on the CPU, and its info."""
    info = read_encoder_info(path)
    return create_model(info.model, num_classes=len(info.panel), checkpoint=path).eval(), info


def save_slide_model(path: str | Path, model: SlideRegressor, info: SlideModelInfo) -> None:
    """Write a slide model atomically."""
    fold = {"index": info.fold.index, **{part: list(names) for part, names in info.fold.parts().items()}}
    meta = {
        "kind": "slide-model", "config": vars(info.config), "in_features": info.in_features, "unit": info.unit,
        "encoder": info.encoder, "fold": fold, **_shared(info),
    }  # fmt: skip
    _save(path, model, meta)


def load_slide_model(path: str | Path) -> tuple[SlideRegressor, SlideModelInfo]:
    """The slide model in eval mode on the CPU, and its info."""
    meta = _read_header(path, kind="slide-model")
    fold = meta["fold"]
    info = SlideModelInfo(
        config=MilConfig(**meta["config"]), in_features=int(meta["in_features"]), unit=meta["unit"],
        encoder=meta["encoder"], provenance=meta["provenance"],
        fold=Fold(int(fold["index"]), *(tuple(fold[part]) for part in ("train", "val", "test"))), **_restored(meta),
    )  # fmt: skip
    model = SlideRegressor(info.in_features, len(info.panel), info.config)
    tensors = read_tensors(path)
    check_tensors(tensors, {name: tensor.shape for name, tensor in model.state_dict().items()}, "the slide model")
    model.load_state_dict(tensors)
    return model.eval(), info


def check_patch(expected: PatchSize, found: PatchSize, *, allow: bool = False) -> None:
    """Refuse tiles of another physical size than a model was trained on, unless `allow`.

    Raises
    ------
    InputError
        Naming both sizes.
    """
    if not allow and not expected.matches(found):
        raise InputError(
            f"the model was trained on patches of {expected}, these are {found}",
            fix=f"tile with --patch-px {expected.px} --patch-mpp {expected.mpp:g}, or pass --allow-other-size",
        )


def weights_digest(model: nn.Module) -> str:
    """First 12 hex digits of the SHA-256 of all tensors and their names: the identity of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
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
            target["transform"], np.array(target["mean"], np.float32), np.array(target["std"], np.float32)
        ),
        "patch": PatchSize(int(meta["patch"]["px"]), float(meta["patch"]["mpp"])),
    }


def _save(path: str | Path, model: nn.Module, meta: dict[str, Any]) -> None:
    path = Path(path)
    tensors: dict[str, Tensor] = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps({"schema_version": SCHEMA_VERSION, **meta})})
    write_json(path.with_suffix(".json"), meta)


def _read_header(path: str | Path, *, kind: str) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such {kind} checkpoint", path=path, fix="check the path, or train one first")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
    except SafetensorError as error:
        raise InputError(f"is no safetensors file ({error})", path=path, fix="copy or train it again") from error
    meta = json.loads(header) if header else {}
    if meta.get("kind") != kind:
        raise InputError(
            f"is no {kind} checkpoint of this package"
            + (f" but a {meta['kind']} one" if meta.get("kind") else " (no header with genes and tile size)"),
            path=path,
            fix="give the file that tcgn-mil " + ("pretrain" if kind == "encoder" else "finetune") + " wrote",
        )
    if GenePanel(tuple(meta["genes"])).hash != meta["panel_hash"]:
        raise InputError("its gene list does not match its panel hash", path=path, fix="copy or train it again")
    return meta
