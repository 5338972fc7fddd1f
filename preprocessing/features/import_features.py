"""``tcgn-mil import-features``: other tools' features as our own files, so that all later stages read one layout.

Streamed in blocks of rows; the values and their dtype stay as they are. The encoder's identity is ``<layout>:<name>``,
for example ``trident:uni_v1``, so that models refuse features of another encoder as they do among our own. A ``.pt``
file holds no positions: those of the ``h5_files`` beside its folder are taken, else the feature file says that there
are none, and no map is drawn of it.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.io.feature_files import FeatureInfo, read_feature_info, write_feature_blocks
from tcgn_mil.preprocessing.features.foreign_features import (
    MAX_BYTES,
    ForeignFeatures,
    check_features,
    open_foreign,
    place,
)
from tcgn_mil.preprocessing.slides.names import SlideFacts
from tcgn_mil.text import duplicates, preview

if TYPE_CHECKING:
    import torch

_UNREADABLE = (  # what a damaged file makes of torch's reader
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
_TENSOR_SUFFIX, _HDF5_SUFFIX = ".pt", ".h5"


@dataclass(frozen=True)
class ImportSettings:
    """What the files may not say of themselves.

    Attributes
    ----------
    encoder
        Name of the encoder; where a file names it, it must be this one.
    patch_px, patch_mpp
        Size of a tile, see :func:`~tcgn_mil.preprocessing.features.foreign_features.place`.
    """

    encoder: str | None = None
    patch_px: int | None = None
    patch_mpp: float | None = None


def find_sources(source: str | Path) -> dict[str, Path]:
    """Slide id (the file's name without suffix) -> feature file, sorted.

    Parameters
    ----------
    source
        One file; or a folder: CLAM's with ``h5_files`` and ``pt_files`` (a slide's .pt is taken where it has no .h5), a
        TRIDENT job with one ``features_*`` in it or a folder below, any folder of .h5 or .pt files, or, as STAMP keeps
        the folders of its slides, one that has such files anywhere below.

    Raises
    ------
    InputError
        If there is none, two files are of one slide id, or a TRIDENT job has features of several encoders.
    """
    source = Path(source)
    if not source.exists():
        raise InputError("no such file or folder of features", path=source, fix="check the path")
    if source.is_file():
        return {safe_file_name(source.stem, what="slide id"): source}
    jobs = sorted(
        path
        for pattern in ("features_*", "*/features_*")
        for path in source.glob(pattern)
        if path.is_dir()
    )
    if len(jobs) > 1:
        names = preview([str(path.relative_to(source)) for path in jobs])
        raise InputError(
            f"holds features of several encoders: {names}",
            path=source,
            fix="give one of these folders",
        )
    places = (
        jobs
        or [path for name in ("h5_files", "pt_files") if (path := source / name).is_dir()]
        or [source]
    )
    found = [path for place in places for path in _files_in(place, "*")] or _files_in(
        source, "**/*"
    )
    hdf5 = [path for path in found if path.suffix == _HDF5_SUFFIX]
    has_hdf5 = {path.stem for path in hdf5}
    chosen = hdf5 + [
        path for path in found if path.suffix == _TENSOR_SUFFIX and path.stem not in has_hdf5
    ]
    if not chosen:
        raise InputError(
            "holds no feature file (*.h5, *.pt)", path=source, fix="give the folder that holds them"
        )
    if repeated := duplicates([path.stem for path in chosen]):
        raise InputError(
            f"two files are of slide {preview(repeated)}",
            path=source,
            fix="give a folder with one file a slide",
        )
    return {
        safe_file_name(path.stem, what="slide id"): path
        for path in sorted(chosen, key=lambda path: path.stem)
    }


def _files_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix in (_HDF5_SUFFIX, _TENSOR_SUFFIX)
        and path.is_file()
        and not path.name.startswith(".")
    )


def import_cohort(
    sources: Mapping[str, Path],
    facts_of: Callable[[str], SlideFacts],
    settings: ImportSettings,
    out_dir: str | Path,
) -> tuple[list[FeatureInfo], list[Failure]]:
    """Convert each file; one that cannot be used is a row of failures.csv, the rest go on.

    Parameters
    ----------
    sources
        See :func:`find_sources`.
    facts_of
        Patient and resolution of a slide; may raise InputError.

    Returns
    -------
    What the files made now or before say of themselves, and failures. All are of the encoder, width and tile size of
    the first that can be used.
    """
    out_dir = Path(out_dir)
    if any(path.parent.resolve() == out_dir.resolve() for path in sources.values()):
        raise InputError("is the folder that is imported", path=out_dir, fix="give another --out")
    done: list[FeatureInfo] = []
    failures: list[Failure] = []
    for slide, path in tqdm(sources.items(), desc="import-features", unit="slide"):
        try:
            done.append(
                _import_slide(
                    slide, path, facts_of(slide), settings, out_dir, done[0] if done else None
                )
            )
        except InputError as error:
            failures.append(Failure(slide, "import-features", error.reason, error.fix or ""))
    write_failures(out_dir, failures)
    return done, failures


def _import_slide(
    slide: str,
    path: Path,
    facts: SlideFacts,
    settings: ImportSettings,
    out_dir: Path,
    first: FeatureInfo | None,
) -> FeatureInfo:
    with _open(path) as found:
        placed = place(
            found, mpp=facts.mpp, patch_px=settings.patch_px, patch_mpp=settings.patch_mpp
        )
        rows, width = found.features.shape
        encoder = f"{found.layout}:{_encoder(found, settings)}"
        info = FeatureInfo(
            slide, facts.patient_id, rows, width, encoder, placed.spec, positions=placed.positions
        )
        _check_alike(info, first or info)
        target = out_dir / f"{slide}{_HDF5_SUFFIX}"
        if not _is_current(target, info, path):
            write_feature_blocks(
                target,
                found.blocks(),
                placed.coords,
                info,
                dtype=found.features.dtype,
                imported_from=path.name,
            )
    return info


def _encoder(found: ForeignFeatures, settings: ImportSettings) -> str:
    given = (settings.encoder or "").strip()
    if not (found.encoder or given):
        raise InputError("does not name its encoder", fix="give it with --encoder")
    if found.encoder and given not in ("", found.encoder):
        raise InputError(
            f"is of encoder {found.encoder}, not {given}",
            fix="leave --encoder out, or give its files",
        )
    return found.encoder or given


def _check_alike(info: FeatureInfo, first: FeatureInfo) -> None:
    if (info.encoder, info.width) != (first.encoder, first.width):
        raise InputError(
            f"features of {info.encoder} ({info.width} wide), but those of {first.slide_id} are of {first.encoder}"
            f" ({first.width} wide)",
            fix="import each encoder's features into a folder of their own",
        )
    if not info.patch.matches(first.patch):
        raise InputError(
            f"tiles of {info.patch}, but those of {first.slide_id} are {first.patch}",
            fix="give --patch-mpp if this is one nominal size on scanners that differ; else tile at one size",
        )


def _is_current(target: Path, info: FeatureInfo, source: Path) -> bool:
    """Whether `target` was made from `source` as it is, with the same settings."""
    if not target.is_file() or target.stat().st_mtime < source.stat().st_mtime:
        return False
    try:
        return read_feature_info(target) == info
    except InputError:
        return False


@contextmanager
def _open(path: Path) -> Iterator[ForeignFeatures]:
    if path.suffix != _TENSOR_SUFFIX:
        with open_foreign(path) as found:
            yield found
        return
    features = _read_tensor(path)
    beside = path.parent.parent / "h5_files" / f"{path.stem}{_HDF5_SUFFIX}"
    coords = None
    if path.parent.name == "pt_files" and beside.is_file():
        with open_foreign(beside) as found:
            coords = found.coords
        if coords is None or len(coords) != len(features):
            raise InputError(
                f"has {len(features)} tiles, its h5_files/{beside.name} another number",
                path=path,
                fix="encode it again",
            )
    yield ForeignFeatures("clam", features, coords)


def _read_tensor(path: Path) -> np.ndarray:
    """(N, D) of a file that ``torch.save`` wrote, mapped into memory where its format allows; no pickle is run."""
    import torch

    if not path.is_file():
        raise InputError("no such feature file", path=path, fix="check the path")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(
            f"is over {MAX_BYTES // 2**30} GiB", path=path, fix="check that it is a feature file"
        )
    try:
        tensor = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"cannot be read as a tensor ({reason})", path=path, fix="save the tensor again"
        ) from error
    return _as_array(tensor, path)


def _as_array(tensor: torch.Tensor | object, path: Path) -> np.ndarray:
    import torch

    if (
        not isinstance(tensor, torch.Tensor)
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
    ):
        raise InputError(
            f"holds a {type(tensor).__name__}, not one dense tensor",
            path=path,
            fix="save the tensor",
        )
    if tensor.dtype not in (torch.float16, torch.float32):
        raise InputError(
            f"features are {tensor.dtype}, not float16 or float32", path=path, fix="encode it again"
        )
    values = tensor.detach().numpy()
    check_features(values.shape, values.dtype, path=path)
    return values
