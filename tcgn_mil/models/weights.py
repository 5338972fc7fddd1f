"""Create a TCGN, and read weights from files.

Weights may be in our own layout or in the published one, in a safetensors file or in a pickle that
holds tensors alone.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.archive import check_archive
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.models.published import (
    TrunkReport,
    check_tensors,
    convert_published_state_dict,
    is_published,
    load_cmt_trunk,
)
from tcgn_mil.models.tcgn import TCGN
from tcgn_mil.models.tcgn_variants import CONFIGS, tcgn_ti, tcgn_tiny, tcgn_xs

_ENTRY_POINTS = {entry.__name__: entry for entry in (tcgn_ti, tcgn_xs, tcgn_tiny)}
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
# Training by self-distillation (DINO) keeps a teacher and a student; the teacher is what is used.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher")
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile


def create_model(
    name: str, num_classes: int, checkpoint: str | Path | None = None, **kwargs: Any
) -> TCGN:
    """Create a TCGN with random weights, or with weights from a file.

    Parameters
    ----------
    name
        ``tcgn_ti`` (the published network), ``tcgn_xs`` or ``tcgn_tiny``.
    num_classes
        G, the number of genes; 0 for a model without a head, which returns its features.
    checkpoint
        File of weights in the published layout or in ours. It must fit the model exactly.
    **kwargs
        Further arguments of :class:`~tcgn_mil.models.tcgn.TCGN`, such as `drop_rate`.

    Returns
    -------
    The model in training mode, as is usual in torch. Call ``eval()`` before you predict.

    Raises
    ------
    InputError
        If the name is unknown, or the file cannot be read safely or does not fit.

    Examples
    --------
    >>> import torch
    >>> model = create_model("tcgn_tiny", num_classes=3).eval()
    >>> images = torch.randn(1, 3, 224, 224)
    >>> with torch.inference_mode():
    ...     model(images).shape
    torch.Size([1, 3])
    """
    if name not in _ENTRY_POINTS:
        raise InputError(
            f"there is no TCGN of the name {name!r}", fix=f"choose one of {', '.join(CONFIGS)}"
        )
    model = _ENTRY_POINTS[name](num_classes=num_classes, **kwargs)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    return model


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights from a file into a model.

    The tensors must have exactly the names and shapes of the model's. Weights of a TCGN may be in
    the published layout.

    Raises
    ------
    InputError
        If the file cannot be read safely, does not fit, or holds values that are not finite.
    """
    try:
        tensors = read_tensors(path)
        if isinstance(model, TCGN) and is_published(tensors):
            tensors = convert_published_state_dict(tensors)
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        check_tensors(tensors, expected, "the model")
        check_finite(tensors)
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None
    model.load_state_dict(tensors)


def load_trunk(model: TCGN, path: str | Path) -> TrunkReport:
    """Fill the trunk of a TCGN from a file of CMT's ImageNet weights.

    Raises
    ------
    InputError
        If the file cannot be read safely, or its tensors do not fit the trunk.

    See Also
    --------
    tcgn_mil.models.published.load_cmt_trunk : the same for tensors in memory.
    """
    tensors = read_tensors(path)
    try:
        check_finite(tensors)
        return load_cmt_trunk(model, tensors)
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from None


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise an `InputError` that names the tensors with NaN or infinity, if there are any."""
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(
            f"{len(broken)} tensors hold values that are not finite: {', '.join(broken[:3])};"
            " the training that wrote them diverged",
            fix="use an earlier checkpoint",
        )


def weights_digest(model: nn.Module) -> str:
    """Return the identity of a model's weights.

    It is the first 12 hex digits of the SHA-256 of the names, dtypes, shapes and bytes of all
    tensors in the model's state dict.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(1, 1)
    >>> _ = torch.nn.init.ones_(layer.weight), torch.nn.init.zeros_(layer.bias)
    >>> weights_digest(layer)
    'b74659681208'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # As bytes, since numpy does not know bfloat16.
        as_bytes = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(as_bytes.numpy().tobytes())
    return digest.hexdigest()[:12]


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read named tensors from a safetensors file, or from a pickle that holds nothing to execute.

    If the tensors are in a dictionary under ``state_dict``, ``model_state_dict``, ``model`` or
    ``teacher``, they are taken from there. Name prefixes of DistributedDataParallel and of
    torch.compile are removed.

    Parameters
    ----------
    path
        File that ends in ``.safetensors``, ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` or ``.tar``.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind, or is a pickle with more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", path=path, fix="check the path of the checkpoint")
    if path.suffix == ".safetensors":
        with describe_damage(path, what="safetensors", fix="download or save the file again"):
            return _strip_prefixes(safetensors.torch.load_file(path))
    if path.suffix not in _PICKLES:
        suffixes = ", ".join((".safetensors", *_PICKLES))
        raise InputError(
            f"has the suffix {path.suffix!r}, which no kind of checkpoint has",
            path=path,
            fix=f"give a file that ends in one of {suffixes}",
        )
    return _strip_prefixes(_unwrap(_unpickle(path), path))


def _unpickle(path: Path) -> object:
    # An ordinary pickle can run any code when it is loaded; weights_only allows tensors and plain
    # containers alone.
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_archive(archive, path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            "its pickle holds more than tensors, which could run code"
            f" ({str(error).splitlines()[0]})",
            path=path,
            fix="if you trust the file, load it yourself and save its tensors by"
            " safetensors.torch.save_file(model.state_dict(), ...)",
        ) from None
    except Exception as error:  # torch lets the errors of many parts of its reader through
        raise InputError(
            f"cannot be read ({error})", path=path, fix="download or save the file again"
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
        content = (
            f"entries that are not tensors ({', '.join(others[:3])})"
            if others
            else "no dictionary of tensors"
        )
        raise InputError(
            f"holds {content}",
            path=path,
            fix="save model.state_dict() alone, or under the key 'state_dict'",
        )
    return tensors


def _strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
