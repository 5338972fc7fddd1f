"""Read and write the spots of one section: counts in <section>.h5ad, and <section>_patches.h5.

Patches have the layout of HEST (Jaume et al. 2024, NeurIPS), so that HEST's own tools can read
them: ``img`` (S, px, px, 3) uint8, ``coords`` (S, 2) top-left corners in level-0 pixels, and
``barcode`` (S, 1).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.anndata_file import META_KEY, open_anndata, stored_meta, write_anndata
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.hdf5 import check_pixels, create_hdf5, find_files, open_hdf5
from tcgn_mil.provenance import provenance
from tcgn_mil.types.tile_geometry import PatchSize, check_mpp

if TYPE_CHECKING:
    from anndata import AnnData


PATCHES_SUFFIX = "_patches.h5"


@dataclass
class SpotSet:
    """Spots of one section.

    Attributes
    ----------
    adata
        Raw counts of S spots and G genes. ``obs`` has the columns ``patient`` and ``section``;
        ``obsm["spatial"]`` (S, 2) holds the centres of the spots in level-0 pixels, x then y.
    patches_path
        HDF5 file of the patches, in the order of `adata`.
    patch
        Physical size of the patches.
    """

    adata: AnnData
    patches_path: str
    patch: PatchSize

    @property
    def section(self) -> str:
        """Name of the section."""
        return str(self.adata.obs["section"].iloc[0])

    @property
    def patient(self) -> str:
        """Name of the patient."""
        return str(self.adata.obs["patient"].iloc[0])


@contextmanager
def create_patch_file(
    path: str | Path, barcodes: list[str], patch: PatchSize, *, section: str, pixel_size: float
) -> Iterator[h5py.File]:
    """Create a patch file atomically, with empty ``img`` and ``coords`` to be filled.

    Parameters
    ----------
    path
        File to write.
    barcodes
        Names of the S spots.
    patch
        Physical size of the patches.
    section
        Name of the section.
    pixel_size
        Micrometres per pixel of the image that the patches are cut from.

    Yields
    ------
    h5py.File
        The file, open for writing.
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
    """Write the counts of a section atomically.

    Parameters
    ----------
    path
        The .h5ad file to write.
    spots
        The spots. Patch size and provenance are stored as JSON in ``uns["tcgn_mil"]``.
    """
    adata = spots.adata.copy()
    adata.uns[META_KEY] = json.dumps(
        provenance(
            patch_px=spots.patch.px,
            patch_mpp=spots.patch.mpp,
            patches=Path(spots.patches_path).name,
            counts="raw",
        )
    )
    write_anndata(path, adata)


@reads("spots", fix="run tcgn-mil spots again")
def read_spots(path: str | Path) -> SpotSet:
    """Read one section, and check that counts and patches belong together.

    Parameters
    ----------
    path
        The .h5ad file that ``tcgn-mil spots`` wrote. The patch file is expected beside it.

    Returns
    -------
    SpotSet

    Raises
    ------
    InputError
        If a file is missing or damaged, or the two files have different spots or patch sizes.
    """
    path = Path(path)
    adata = open_anndata(
        path,
        what="spot file",
        missing_fix="run tcgn-mil spots first",
        broken_fix="run tcgn-mil spots again",
    )
    absent = [name for name in ("patient", "section") if name not in adata.obs]
    if absent or "spatial" not in adata.obsm or META_KEY not in adata.uns:
        raise InputError(
            "is not a spot file of this package, which has patient and section in obs, spatial in"
            f" obsm, and {META_KEY} in uns",
            path=path,
            fix="make it with tcgn-mil spots",
        )
    for section in adata.obs["section"].astype(str).unique():
        safe_file_name(section, what="its section")
    patch = _patch_size(stored_meta(adata), path)
    patches_path = path.with_name(path.stem + PATCHES_SUFFIX)
    _check_patches(patches_path, list(adata.obs_names), patch, table=path)
    return SpotSet(adata, str(patches_path), patch)


def _patch_size(meta: Mapping[str, Any], path: Path) -> PatchSize:
    try:
        return PatchSize(int(meta["patch_px"]), float(meta["patch_mpp"]))
    except (KeyError, TypeError) as error:
        raise InputError(
            "does not state its patch size", path=path, fix="run tcgn-mil spots again"
        ) from error


def _check_patches(path: Path, spots: list[str], patch: PatchSize, *, table: Path) -> None:
    """Check that the patches have the spots and the size that the table of counts states.

    They differ if a run was killed after it had written one of the two files.
    """
    with open_hdf5(path, kind="patch", needs=("img", "barcode")) as file:
        barcodes = [name.decode() for name in file["barcode"][:].reshape(-1)]
        stored = (file["img"].shape, file.attrs.get("patch_px"), file.attrs.get("patch_mpp"))
        check_pixels(file["img"], barcodes, path=path)
    if barcodes != spots:
        raise InputError(
            f"its spots are not the spots of {table.name}",
            path=path,
            fix="run tcgn-mil spots again",
        )
    if stored != ((len(spots), patch.px, patch.px, 3), patch.px, patch.mpp):
        raise InputError(
            f"its patches are not the patches of {table.name}, which are {patch}",
            path=path,
            fix="run tcgn-mil spots again",
        )


def find_sections(folder: str | Path) -> dict[str, Path]:
    """Find the sections in a folder.

    Parameters
    ----------
    folder
        Folder that ``tcgn-mil spots`` wrote.

    Returns
    -------
    dict
        The .h5ad file of each section, sorted by the names of the sections.

    Raises
    ------
    InputError
        If there is no such folder or it has no section.
    """
    return find_files(folder, ".h5ad", kind="spot", fix="run tcgn-mil spots first")


@reads("spots", fix="run tcgn-mil spots again")
def read_patches(path: str | Path, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
    """Read patches.

    Parameters
    ----------
    path
        The patch file.
    rows
        Spots to read, as sorted, different row numbers. None for all spots.

    Returns
    -------
    ndarray
        (S, px, px, 3) uint8.
    """
    with open_hdf5(path, kind="patch", needs=("img",)) as file:
        stored = file["img"]
        if rows is None:
            return stored[:]
        # Each patch is a chunk of its own. h5py's selection by a list of rows is 80 times slower.
        return np.stack([stored[row] for row in rows]) if len(rows) else stored[:0]


@reads("spots", fix="run tcgn-mil spots again")
def image_mpp(path: str | Path) -> float:
    """Return the resolution of the image that the patches were cut from.

    Parameters
    ----------
    path
        The patch file.

    Returns
    -------
    float
        Micrometres per pixel. The positions of the spots are in pixels of this image.
    """
    with open_hdf5(path, kind="patch", needs=("img",)) as file:
        return check_mpp(
            float(file["img"].attrs.get("pixel_size", np.nan)), what="image resolution", path=path
        )
