"""Making a model, with weights from a file: published or own layout, safetensors or a pickle of tensors alone."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.published import (
    TrunkReport,
    check_tensors,
    convert_published_state_dict,
    is_published,
    load_cmt_trunk,
)
from tcgn_mil.models.tcgn import CONFIGS, TCGN, tcgn_ti, tcgn_tiny, tcgn_xs

_ENTRY_POINTS = {entry.__name__: entry for entry in (tcgn_ti, tcgn_xs, tcgn_tiny)}
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


def create_model(
    name: str, num_classes: int, checkpoint: str | Path | None = None, **kwargs: Any
) -> TCGN:
    """Make a TCGN for `num_classes` genes, its weights random or from a file.

    Parameters
    ----------
    name
        "tcgn_ti", "tcgn_xs" or "tcgn_tiny".
    num_classes
        G, the number of genes; 0 for no head.
    checkpoint
        File of weights, in the published or our own layout; it must fit the model exactly.
    **kwargs
        For `TCGN`, such as `drop_rate`.

    Returns
    -------
    The model in training mode, as torch makes it: call ``eval()`` before you predict.

    Raises
    ------
    InputError
        If the name is unknown, or the file cannot be read safely or does not fit.
    """
    if name not in _ENTRY_POINTS:
        raise InputError(f"unknown model {name!r}", fix=f"choose one of {', '.join(CONFIGS)}")
    model = _ENTRY_POINTS[name](num_classes=num_classes, **kwargs)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    return model


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a model, exactly; a TCGN's may be in the published layout."""
    try:
        tensors = read_tensors(path)
        if isinstance(model, TCGN) and is_published(tensors):
            tensors = convert_published_state_dict(tensors)
        check_tensors(
            tensors,
            {name: tensor.shape for name, tensor in model.state_dict().items()},
            "the model",
        )
        check_finite(tensors)
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None
    model.load_state_dict(tensors)


def load_trunk(model: TCGN, path: str | Path) -> TrunkReport:
    """Fill the trunk of a model from a file of CMT's ImageNet weights; see `load_cmt_trunk`."""
    tensors = read_tensors(path)
    try:
        check_finite(tensors)
        return load_cmt_trunk(model, tensors)
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise an `InputError` that names tensors with NaN or infinity."""
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(
            f"{len(broken)} tensors hold values that are not finite: {', '.join(broken[:3])}",
            fix="its training diverged; take an earlier checkpoint",
        )


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read named tensors from a .safetensors file, or from a pickle that holds nothing to execute.

    A wrapping dict ("state_dict", "model_state_dict" or "model") and the prefixes of DistributedDataParallel and
    torch.compile are taken off.

    Raises
    ------
    InputError
        If the file is absent, of another kind, damaged, or a pickle with more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", path=path, fix="check the path of the checkpoint")
    if path.suffix == ".safetensors":
        try:
            return _strip_prefixes(safetensors.torch.load_file(path))
        except SafetensorError as error:
            raise InputError(
                f"not a safetensors file ({error})", path=path, fix="download or save it again"
            ) from None
    if path.suffix not in _PICKLES:
        known = ", ".join((".safetensors", *_PICKLES))
        raise InputError(
            f"unknown kind of checkpoint {path.suffix!r}", path=path, fix=f"give a file of {known}"
        )
    return _strip_prefixes(_unwrap(_unpickle(path), path))


def _unpickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"its pickle holds more than tensors, which could run code ({str(error).splitlines()[0]})",
            path=path,
            fix="where you trust the file, load it and save its state_dict alone, best with "
            "safetensors.torch.save_file(model.state_dict(), ...)",
        ) from None
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, AttributeError) as error:
        raise InputError(
            f"cannot be read ({error})", path=path, fix="download or save it again"
        ) from None


def _unwrap(loaded: object, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
            break
    tensors = (
        {str(name): value for name, value in loaded.items()} if isinstance(loaded, Mapping) else {}
    )
    others = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if not tensors or others:
        what = (
            f"entries that are no tensors ({', '.join(others[:3])})"
            if others
            else "no dict of tensors"
        )
        raise InputError(
            f"holds {what}", path=path, fix="save model.state_dict() alone, or under 'state_dict'"
        )
    return tensors


def _strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
