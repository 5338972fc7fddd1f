"""Feature files of other tools, told apart by what is in them: CLAM, TRIDENT and STAMP.

What a file does not say is asked for, never guessed: CLAM gives neither encoder nor tile size, TRIDENT sizes in pixels
and nominal magnifications, which are not looked at, STAMP positions in µm. Level-0 pixels and µm are joined by the
slide's µm per pixel, which none of them holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import LEVEL0, SCALED, UNKNOWN
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.preprocessing.interop.tile_readers import MAX_TILES, read_layout
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

MAX_WIDTH = 65_536
MAX_BYTES = 64 * 2**30  # of one slide's features, or of a file of them
_MAX_CHUNK_BYTES = 2**30
_BLOCK_BYTES = 16 * 2**20
_MAX_POSITION = 1e8
_SAME_SIZE = 0.02  # relative: two statements of one tile size
_NOMINAL_SIZE = 0.1  # relative: a nominal size (0.5 µm/px for 20x) and that of the scanner

# What h5py raises, beside OSError, where a file's structure is damaged.
_DAMAGE = (
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)


@dataclass(frozen=True, eq=False)
class ForeignFeatures:
    """Another tool's features of one slide, checked but not yet read.

    Attributes
    ----------
    layout
        clam, trident or stamp.
    features
        (N, D) float16 or float32, N and D at least 1; read by slices.
    coords
        (N, 2) top-left corners, integer level-0 pixels, or µm (STAMP); None where there are none.
    encoder
        As the file names it; empty where it does not.
    patch_px, patch_um
        Side of a tile in the pixels the encoder was given, and in µm; None where the file does not say.
    level0_px
        Side of a tile in level-0 pixels; None where the file does not say.
    stride_px
        Step in pixels as of `patch_px`; None where the file does not say.
    """

    layout: str
    features: h5py.Dataset | NDArray[np.floating]
    coords: NDArray[Any] | None
    encoder: str = ""
    patch_px: int | None = None
    patch_um: float | None = None
    level0_px: float | None = None
    stride_px: int | None = None

    def blocks(self) -> Iterator[NDArray[np.floating]]:
        """Blocks (·, D) of rows of about 16 MiB."""
        rows, width = self.features.shape
        step = max(1, _BLOCK_BYTES // (width * self.features.dtype.itemsize))
        for first in range(0, rows, step):
            yield np.asarray(self.features[first : first + step])


class PlacedTiles(NamedTuple):
    """``coords`` (N, 2) int64, their ``spec``, and ``positions``, what the coords are in (see FeatureInfo)."""

    coords: NDArray[np.int64]
    spec: TileSpec
    positions: str


@contextmanager
def open_foreign(path: str | Path) -> Iterator[ForeignFeatures]:
    """Open an HDF5 file of CLAM, TRIDENT or STAMP; its features are read while it is open.

    Raises
    ------
    InputError
        If it is missing, damaged or of none of these; holds no tile, features that are not (N, D) float16 or float32,
        or more than the bounds of this module; or coords that do not belong to them.
    """
    with open_hdf5(path, kind="feature") as file:
        try:
            found = _recognise(file, path)
        except InputError:
            raise
        except _DAMAGE as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:120]
            raise InputError(
                f"is damaged ({reason})", path=path, fix="encode the slide again"
            ) from error
        yield found


def _recognise(file: h5py.File, path: str | Path) -> ForeignFeatures:
    if "spec" in file.attrs and "encoder" in file.attrs:
        raise InputError("is a feature file of this package", path=path, fix="use it as it is")
    return _stamp(file, path) if "feats" in file else _clam_or_trident(file, path)


def check_features(shape: tuple[int, ...], dtype: np.dtype, *, path: str | Path) -> None:
    """Refuse features that are not (N, D) float16 or float32 within bounds; errors as :func:`open_foreign`."""
    if shape and not math.prod(shape):
        raise InputError(
            "holds no tile",
            path=path,
            fix="check that tool's tissue mask of the slide, or leave the slide out",
        )
    if len(shape) != 2:
        raise InputError(
            f"features have shape {shape}, not (N, D)",
            path=path,
            fix="give features of tiles, not of slides",
        )
    if dtype not in (np.float16, np.float32):
        raise InputError(
            f"features are {dtype}, not float16 or float32", path=path, fix="encode the slide again"
        )
    if (
        shape[0] > MAX_TILES
        or shape[1] > MAX_WIDTH
        or math.prod(shape) * dtype.itemsize > MAX_BYTES
    ):
        raise InputError(
            f"features of shape {shape} are over {MAX_TILES} tiles, a width of {MAX_WIDTH} or {MAX_BYTES // 2**30} GiB",
            path=path,
            fix="check that it is a feature file",
        )


def place(
    found: ForeignFeatures,
    *,
    mpp: float | None = None,
    patch_px: int | None = None,
    patch_mpp: float | None = None,
) -> PlacedTiles:
    """Where tiles lie and how large they are.

    Parameters
    ----------
    mpp
        µm per pixel of the slide's level 0.
    patch_px, patch_mpp
        Size of a tile, where the file does not say. In a file that gives level-0 pixels `patch_mpp` may be nominal, up
        to 10 % off what `mpp` makes of them; without `mpp` the slide's resolution follows from it.

    Raises
    ------
    InputError
        If something needed is neither in the file nor given, or both are there and disagree.
    """
    if found.patch_px is not None and patch_px not in (None, found.patch_px):
        raise InputError(
            f"says its tiles are of {found.patch_px} px, not {patch_px}", fix="leave --patch-px out"
        )
    px = found.patch_px or patch_px
    if px is None:
        raise InputError(
            f"is of a {found.layout.upper()} layout that does not say how large its tiles are",
            fix="give --patch-px, the pixels of a tile as it was cut, and --patch-mpp",
        )
    patch = PatchSize(px, _patch_mpp(found, px, mpp, patch_mpp))
    slide_mpp = patch.um / found.level0_px if mpp is None and found.level0_px else mpp
    in_um = found.layout == "stamp"
    if slide_mpp is None and found.coords is not None and not in_um:
        raise InputError(
            "places tiles in level-0 pixels, but does not say how large those are",
            fix="give --mpp, or a column mpp in the table of --patients",
        )
    spec = _spec(found, patch, slide_mpp)
    if found.coords is None:
        return PlacedTiles(np.full((len(found.features), 2), -1, dtype=np.int64), spec, UNKNOWN)
    if not in_um:
        return PlacedTiles(found.coords.astype(np.int64), spec, LEVEL0)
    pixels = np.rint(found.coords.astype(np.float64) / spec.slide_mpp).astype(np.int64)
    return PlacedTiles(pixels, spec, SCALED if slide_mpp is None else LEVEL0)


def _spec(found: ForeignFeatures, patch: PatchSize, slide_mpp: float | None) -> TileSpec:
    """As tiles of our own, but of just the level-0 pixels that the file states; without `slide_mpp`, of tile pixels."""
    spec = TileSpec.for_slide(
        patch, slide_mpp=slide_mpp or patch.mpp, level_downsamples=[1.0], stride_px=found.stride_px
    )
    if not found.level0_px:
        return spec
    step = spec.stride_px * found.level0_px / patch.px
    return replace(
        spec,
        level0_px=found.level0_px,
        read_px=max(1, round(found.level0_px)),
        level0_stride_px=step,
    )


def _patch_mpp(found: ForeignFeatures, px: int, mpp: float | None, given: float | None) -> float:
    """µm per pixel of a tile: given, or from what the file says; refused where these disagree."""
    side_um, tolerance = found.patch_um, _SAME_SIZE
    if found.level0_px and mpp is not None:
        side_um, tolerance = found.level0_px * mpp, _NOMINAL_SIZE
    if given is None and side_um is None:
        raise InputError(
            "does not say how large its tiles are in µm",
            fix="give --patch-mpp, the µm per pixel of a tile"
            + (", or the slide's --mpp" if found.level0_px else ""),
        )
    if given is None or side_um is None:
        return given if given is not None else (side_um or math.nan) / px
    if not math.isclose(given * px, side_um, rel_tol=tolerance):
        raise InputError(
            f"its tiles are {side_um:.1f} µm wide, but {px} px of {given:g} µm are {given * px:.1f}",
            fix="check --patch-mpp and the slide's µm per pixel",
        )
    return given


def _clam_or_trident(file: h5py.File, path: str | Path) -> ForeignFeatures:
    """TRIDENT copies the attributes of its tile files to ``coords``, also where those are CLAM's; CLAM writes none."""
    features = _features(file, "features", path)
    coords = _coords(file, len(features), "iu", path)
    if not {"patch_size_level0", "patch_level"} & set(file["coords"].attrs):
        return ForeignFeatures("clam", features, coords)
    laid = read_layout(path)
    names = {laid.name, _text(features.attrs, "name")} - {"", Path(path).stem}
    if names:
        raise InputError(
            f"says it is of slide {names.pop()!r}, not {Path(path).stem!r}",
            path=path,
            fix="give each slide its own feature file",
        )
    return ForeignFeatures(
        "trident",
        features,
        coords,
        encoder=_text(features.attrs, "encoder"),
        patch_px=laid.tile_px,
        level0_px=laid.level0_px,
        stride_px=laid.stride_px,
    )


def _stamp(file: h5py.File, path: str | Path) -> ForeignFeatures:
    """``coords`` in µm; the tile's side in ``tile_size_um``, in older files in ``tile_size``, without its pixels."""
    kind, unit = _text(file.attrs, "feat_type") or "tile", _text(file.attrs, "unit")
    if kind != "tile":
        raise InputError(f"holds features of a {kind}", path=path, fix="give features of tiles")
    if unit != "um":
        raise InputError(
            f"gives its coords in {unit or 'an unknown unit'}, not um",
            path=path,
            fix="encode it with STAMP 2 or newer",
        )
    features = _features(file, "feats", path)
    side = "tile_size_um" if "tile_size_um" in file.attrs else "tile_size"
    return ForeignFeatures(
        "stamp",
        features,
        _coords(file, len(features), "iuf", path),
        encoder=_text(file.attrs, "extractor"),
        patch_px=round(_number(file, "tile_size_px", path))
        if "tile_size_px" in file.attrs
        else None,
        patch_um=_number(file, side, path),
    )


def _features(file: h5py.File, name: str, path: str | Path) -> h5py.Dataset:
    dataset = _dataset(file, name, path)
    check_features(dataset.shape, dataset.dtype, path=path)
    if dataset.chunks is None:
        whole = dataset.id.get_storage_size() > 0
    else:
        steps = zip(dataset.shape, dataset.chunks, strict=True)
        whole = dataset.id.get_num_chunks() == math.prod(-(-size // step) for size, step in steps)
    if not whole:
        raise InputError(
            "some of its features were never written", path=path, fix="encode the slide again"
        )
    return dataset


def _coords(file: h5py.File, rows: int, kinds: str, path: str | Path) -> NDArray[Any]:
    dataset = _dataset(file, "coords", path)
    if dataset.shape != (rows, 2) or dataset.dtype.kind not in kinds:
        raise InputError(
            f"coords are {dataset.dtype} {dataset.shape} for {rows} tiles",
            path=path,
            fix="encode the slide again",
        )
    coords = dataset[:]
    if not (np.abs(coords.astype(np.float64)) <= _MAX_POSITION).all():
        raise InputError(
            "coords hold values that are no positions", path=path, fix="encode the slide again"
        )
    return coords


def _dataset(file: h5py.File, name: str, path: str | Path) -> h5py.Dataset:
    """A dataset whose data lie in this file, in chunks that fit in memory."""
    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink) or not isinstance(file.get(name), h5py.Dataset):
        raise InputError(
            f"is no feature file of CLAM, TRIDENT or STAMP: it has no {name}",
            path=path,
            fix="check the path",
        )
    dataset = file[name]
    if dataset.external or dataset.is_virtual:
        raise InputError(
            f"its {name} lie in another file", path=path, fix="give a file that holds its own data"
        )
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > _MAX_CHUNK_BYTES:
        raise InputError(
            f"chunks of its {name} are over 1 GiB", path=path, fix="write it with smaller chunks"
        )
    return dataset


def _text(attributes: Any, name: str) -> str:
    """A short text, or nothing."""
    value = attributes.get(name)
    value = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return value.decode("utf-8", "replace").strip()[:200] if isinstance(value, bytes) else ""


def _number(file: h5py.File, name: str, path: str | Path) -> float:
    try:
        value = float(file.attrs[name])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not 1 <= value <= 1e5:
        raise InputError(
            f"its attribute {name} is no size of a tile", path=path, fix="encode the slide again"
        )
    return value
