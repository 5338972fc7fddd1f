"""File format of checkpoints: a safetensors file whose header says what the weights mean.

The header is one JSON text under the key ``tcgn_mil`` of the safetensors metadata. Reading is
strict: a header that is incomplete, of another kind or of a later version is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors.torch import save_file
from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.safetensors_file import open_tensors, read_tensors_of
from tcgn_mil.io.atomic import atomic_path, write_json
from tcgn_mil.provenance import SCHEMA_VERSION, provenance
from tcgn_mil.text import preview
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize

SUFFIX = ".safetensors"
ENCODER, SLIDE_MODEL = "encoder", "slide-model"
_HEADER = "tcgn_mil"
_DAMAGED_FIX = "copy the file again, or train the model again"
_MADE_BY = {ENCODER: "pretrain", SLIDE_MODEL: "finetune or slide-cv"}


class ModelInfo(Protocol):
    """Facts that encoders and slide models share."""

    @property
    def panel(self) -> GenePanel | None:
        """Genes of the output, in order; None without a head."""

    @property
    def scaler(self) -> TargetScaler | None:
        """Statistics of the targets; None without a head."""

    @property
    def patch(self) -> PatchSize:
        """Physical size of the tiles."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Config and versions."""


def shared_header(info: ModelInfo) -> dict[str, Any]:
    """Return the part of the header that encoders and slide models share."""
    of_head: dict[str, Any] = {"genes": [], "panel_hash": None, "target": None}
    if info.panel is not None and info.scaler is not None:
        of_head = {
            "genes": list(info.panel.genes),
            "panel_hash": info.panel.hash,
            "target": {
                "transform": info.scaler.transform,
                "mean": info.scaler.mean.astype(float).tolist(),
                "std": info.scaler.std.astype(float).tolist(),
            },
        }
    return {
        **of_head,
        "patch": {"px": info.patch.px, "mpp": info.patch.mpp, "um": info.patch.um},
        "provenance": provenance(**info.provenance),
    }


def from_shared_header(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``panel``, ``scaler``, ``patch`` and ``provenance`` of a header, as arguments."""
    panel = scaler = None
    if (target := header["target"]) is not None:
        panel = GenePanel(tuple(header["genes"]))
        scaler = TargetScaler(
            target["transform"],
            np.array(target["mean"], np.float32),
            np.array(target["std"], np.float32),
        )
    return {
        "panel": panel,
        "scaler": scaler,
        "patch": PatchSize(int(header["patch"]["px"]), float(header["patch"]["mpp"])),
        "provenance": header["provenance"],
    }


def write_checkpoint(path: str | Path, model: nn.Module, header: Mapping[str, Any]) -> None:
    """Write weights and header to a temporary name, then rename it; write the JSON beside it.

    Raises
    ------
    ValueError
        If the path does not end in ``.safetensors``.
    InputError
        If a target statistic is not finite.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path.name} must end in {SUFFIX}")
    target = header["target"] or {"mean": [], "std": []}
    not_finite = [
        gene
        for gene, mean, std in zip(header["genes"], target["mean"], target["std"], strict=True)
        if not np.isfinite((mean, std)).all()
    ]
    if not_finite:
        raise InputError(
            f"target statistics of {preview(not_finite)} are not finite",
            fix="remove these genes from the panel",
        )
    # Clones, since safetensors refuses tensors that share memory.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    header = {"schema_version": SCHEMA_VERSION, **header}
    with atomic_path(path) as temporary:
        # Without NaN, which is not JSON and which other readers refuse.
        text = json.dumps(header, allow_nan=False, default=str)
        save_file(tensors, temporary, metadata={_HEADER: text})
    write_json(path.with_suffix(".json"), header)


def copy_with_header(
    source: str | Path, target: str | Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Copy a safetensors file of this package with a changed header.

    Parameters
    ----------
    source, target
        The file, and the copy, whose tensors are the same.
    change
        Makes the header of the copy from that of the file.

    Returns
    -------
    The header of the copy.
    """
    text = header_text(Path(source))
    with naming_the_file(source):
        header = change(json.loads(text or "{}"))
    _, tensors = read_tensors_of(source)
    with atomic_path(target) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(header, allow_nan=False)})
    return header


def header_text(path: Path) -> str | None:
    """Return the JSON text in the header of a safetensors file, or None if it has no such header.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    with open_tensors(path) as file:
        text: str | None = (file.metadata() or {}).get(_HEADER)
        return text


def is_own_checkpoint(source: str) -> bool:
    """Return whether an encoder or model is named by the path of a checkpoint of this package."""
    path = Path(source)
    if path.suffix != SUFFIX:
        return False
    # A path that is not there is most likely that of a checkpoint, whose error says how to make it.
    return not path.exists() or header_text(path) is not None


def read_header(path: str | Path, *, kind: str) -> dict[str, Any]:
    """Read and check the header of a checkpoint.

    Parameters
    ----------
    path
        The checkpoint.
    kind
        `ENCODER` or `SLIDE_MODEL`.

    Raises
    ------
    InputError
        If the file is missing or damaged, is not a checkpoint of this kind, was written by a later
        version of the package, or has a gene list that does not match its hash.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"no such {kind} checkpoint",
            path=path,
            fix=f"check the path, or make the file with tcgn-mil {_MADE_BY[kind]}",
        )
    text = header_text(path)
    with naming_the_file(path):
        header: dict[str, Any] = json.loads(text) if text else {}
        if not isinstance(header, dict):
            raise TypeError("it is no JSON object")
    if header.get("kind") != kind:
        instead = (
            f"it is a checkpoint of kind {header['kind']}"
            if header.get("kind")
            else "it has no header with genes and tile size"
        )
        raise InputError(
            f"is not a checkpoint of kind {kind}: {instead}",
            path=path,
            fix=f"give a file that tcgn-mil {_MADE_BY[kind]} wrote",
        )
    # An older schema is read, a later one may mean something else by the same words.
    with naming_the_file(path):
        later = header.get("schema_version", 0) > SCHEMA_VERSION
    if later:
        raise InputError(
            "was written by a later version of this package", path=path, fix="upgrade tcgn-mil"
        )
    with naming_the_file(path):
        stated = header["panel_hash"]
        if stated is not None and GenePanel(tuple(header["genes"])).hash != stated:
            raise InputError(
                "its gene list does not match its panel hash, so the header was changed",
                path=path,
                fix="copy the file again, or train the model again",
            )
    return header


@contextmanager
def naming_the_file(path: str | Path) -> Iterator[None]:
    """Turn an error about the content of a checkpoint into one that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None
    except Exception as error:  # the header may hold anything; the block reads nothing else
        raise InputError(
            f"its header cannot be understood ({type(error).__name__}: {error})",
            path=path,
            fix=_DAMAGED_FIX,
        ) from error
