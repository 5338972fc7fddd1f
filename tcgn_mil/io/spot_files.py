"""spots/<section>.h5ad and spots/<section>_patches.h5: the SpotSet of one section.

Patches follow the HEST layout (Jaume et al. 2024, NeurIPS): ``img`` (S, px, px, 3) uint8, ``coords`` (S, 2) level-0
top-left, ``barcode`` (S, 1); so HEST's own tools read them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.io.hdf5 import check_pixels, create_hdf5, open_hdf5
from tcgn_mil.provenance import provenance
from tcgn_mil.types.tile_geometry import PatchSize, check_mpp

if TYPE_CHECKING:
    from anndata import AnnData


PATCHES_SUFFIX = "_patches.h5"


@contextmanager
def create_patch_file(
    path: str | Path, barcodes: list[str], patch: PatchSize, *, section: str, pixel_size: float
) -> Iterator[h5py.File]:
    """Yield an HDF5 file with empty ``img`` and ``coords`` to fill; written atomically.

    `pixel_size` is the source image's µm per pixel.
    """
    count = len(barcodes)
    with create_hdf5(path) as file:
        file.create_dataset(
            "img",
            shape=(count, patch.px, patch.px, 3),
            dtype="uint8",
            chunks=(1, patch.px, patch.px, 3),
        )
        file.create_dataset("coords", shape=(count, 2), dtype="int64")
        file.create_dataset("barcode", data=np.char.encode(barcodes, "utf-8").reshape(-1, 1))
        source_px = patch.um / pixel_size
        file["img"].attrs.update(
            patch_size_src=source_px,
            patch_size_target=patch.px,
            downsample=patch.mpp / pixel_size,
            pixel_size=pixel_size,
            name=section,
        )
        file.attrs["patch_px"], file.attrs["patch_mpp"] = patch.px, patch.mpp
        yield file


def write_spot_table(path: str | Path, spots: SpotSet) -> None:
    """Write ``<section>.h5ad`` atomically, with patch size and provenance in ``uns["tcgn_mil"]`` (JSON)."""
    adata = spots.adata.copy()
    adata.uns["tcgn_mil"] = json.dumps(
        provenance(
            patch_px=spots.patch.px,
            patch_mpp=spots.patch.mpp,
            patches=Path(spots.patches_path).name,
            counts="raw",
        )
    )
    with atomic_path(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip")


def read_spots(path: str | Path) -> SpotSet:
    """Read one section and check that counts and patches belong together.

    Raises
    ------
    InputError
        If a file is missing or broken, or the spots of table and patches differ.
    """
    import anndata

    path = Path(path)
    if not path.is_file():
        raise InputError("no such spot file", path=path, fix="run tcgn-mil spots first")
    try:
        adata = anndata.read_h5ad(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"cannot be read as AnnData ({error})", path=path, fix="run tcgn-mil spots again"
        ) from error
    absent = [name for name in ("patient", "section") if name not in adata.obs]
    if absent or "spatial" not in adata.obsm or "tcgn_mil" not in adata.uns:
        raise InputError(
            "is no spot file of this package (obs patient and section, obsm spatial, uns tcgn_mil are needed)",
            path=path,
            fix="make it with tcgn-mil spots",
        )
    patch = _patch_size(adata.uns["tcgn_mil"], path)
    patches_path = path.with_name(path.stem + PATCHES_SUFFIX)
    _check_patches(patches_path, list(adata.obs_names), patch, table=path)
    return SpotSet(adata, str(patches_path), patch)


def _patch_size(made_by: object, path: Path) -> PatchSize:
    try:
        made = json.loads(str(made_by))
        return PatchSize(int(made["patch_px"]), float(made["patch_mpp"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            "does not state its patch size", path=path, fix="run tcgn-mil spots again"
        ) from error


def _check_patches(path: Path, spots: list[str], patch: PatchSize, *, table: Path) -> None:
    """Refuse patches of other spots or of another size, as a run that was killed between two files may leave."""
    with open_hdf5(path, kind="patch", needs=("img", "barcode")) as file:
        barcodes = [name.decode() for name in file["barcode"][:].reshape(-1)]
        stored = (file["img"].shape, file.attrs.get("patch_px"), file.attrs.get("patch_mpp"))
        check_pixels(file["img"], barcodes, path=path)
    if barcodes != spots:
        raise InputError(
            f"its spots are not those of {table.name}", path=path, fix="run tcgn-mil spots again"
        )
    if stored != ((len(spots), patch.px, patch.px, 3), patch.px, patch.mpp):
        raise InputError(
            f"its patches are not those of {table.name}: {patch}",
            path=path,
            fix="run tcgn-mil spots again",
        )


def find_sections(folder: str | Path) -> dict[str, Path]:
    """Section id -> .h5ad path, sorted, for a folder that tcgn-mil spots wrote."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            "no such folder of spot files", path=folder, fix="run tcgn-mil spots first"
        )
    found = {
        path.stem: path for path in sorted(folder.glob("*.h5ad")) if not path.name.startswith(".")
    }
    if not found:
        raise InputError("holds no section (*.h5ad)", path=folder, fix="run tcgn-mil spots first")
    return found


def read_patches(path: str | Path, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
    """(S, px, px, 3) uint8 patches; `rows`, sorted and unique, selects spots."""
    with open_hdf5(path, kind="patch", needs=("img",)) as file:
        stored = file["img"]
        if rows is None:
            return stored[:]
        return (
            np.stack([stored[row] for row in rows]) if len(rows) else stored[:0]
        )  # h5py's own way is 80 times slower


def image_mpp(path: str | Path) -> float:
    """µm per pixel of the image that patches were cut from and spot positions are in."""
    with open_hdf5(path, kind="patch", needs=("img",)) as file:
        return check_mpp(
            float(file["img"].attrs.get("pixel_size", np.nan)), what="image resolution", path=path
        )


@dataclass
class SpotSet:
    """Spots of one section: counts and where their patches lie.

    Attributes
    ----------
    adata
        AnnData (S, G) of raw counts; obs ``patient``, ``section``; obsm["spatial"] (S, 2) level-0 spot centres,
        x then y.
    patches_path
        HDF5 in the HEST layout with ``img`` (S, px, px, 3) uint8 in the order of `adata`.
    patch
        Physical size of the stored patches.
    """

    adata: AnnData
    patches_path: str
    patch: PatchSize

    @property
    def section(self) -> str:
        """Section id."""
        return str(self.adata.obs["section"].iloc[0])

    @property
    def patient(self) -> str:
        """Patient id."""
        return str(self.adata.obs["patient"].iloc[0])
