"""The layout of HEST: an .h5ad file with its patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata_sections import read
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.io.spot_files import read_patches, read_spots
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import detect_format, find_section_sources
from tcgn_mil.types.tile_geometry import PatchSize

pytestmark = [
    pytest.mark.usefixtures("plain_overlays"),
    pytest.mark.filterwarnings(
        "ignore:Variable names are not unique", "ignore:Use `squidpy", "ignore::FutureWarning"
    ),
]


@pytest.fixture
def make_hest(make_h5ad: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a HEST sample of the section: patches of 32 px at 0.5 µm/px, for all spots but one."""

    def write(name: str = "S1", *, slide: bool = False) -> Path:
        root = tmp_path / "hest"

        def as_hest(adata: anndata.AnnData) -> None:
            library = adata.uns["spatial"].pop(f"lib_{name}")
            adata.uns["spatial"]["ST"] = {
                "images": {"downscaled_fullres": library["images"]["lowres"]},
                "scalefactors": {
                    "tissue_downscaled_fullres_scalef": 0.1,
                    "spot_diameter_fullres": 65.0,
                },
            }

        path = make_h5ad(name, as_hest, under="hest/st")
        adata = anndata.read_h5ad(path)
        image = np.asarray(Image.open(tmp_path / "visium" / f"{name}.png"))
        corners = np.rint(adata.obsm["spatial"] - 8).astype(np.int64)[1:]
        (root / "patches").mkdir(exist_ok=True)
        with h5py.File(root / "patches" / f"{name}.h5", "w") as file:
            cut = [
                image[y : y + 16, x : x + 16].repeat(2, axis=0).repeat(2, axis=1)
                for x, y in corners
            ]
            file["img"] = np.stack(cut)[::-1]  # in an order of their own
            file["coords"] = corners[::-1]
            names = [[name] for name in adata.obs_names[1:][::-1]]
            file.create_dataset("barcode", data=names, dtype=h5py.string_dtype())
            file["img"].attrs.update(
                patch_size_src=16.0, patch_size_target=32, downsample=0.5, pixel_size=1.0, name=name
            )
        if slide:
            write_pyramid(root / "wsis" / f"{name}.tif", image, mpp=1.0, quality=95)
        return root

    return write


def test_hest_patches_of_the_asked_size_are_used_as_they_are(
    make_hest: Callable[..., Path], tmp_path: Path
) -> None:
    root, out = make_hest(), tmp_path / "out"
    assert detect_format(root) == detect_format(root / "st" / "S1.h5ad") == "hest"
    done, failures, _ = write_spots(root, out, SpotsConfig(patch=PatchSize(32, 0.5)))
    assert (done, failures) == (["S1"], [])
    found = read_spots(out / "S1.h5ad")
    with h5py.File(root / "patches" / "S1.h5") as file:
        stored = {
            name[0].decode(): pixels
            for name, pixels in zip(file["barcode"][:], file["img"][:], strict=True)
        }
    for name, pixels in zip(found.adata.obs_names, read_patches(found.patches_path), strict=True):
        assert np.array_equal(pixels, stored[name])
    dropped = pd.read_csv(out / "dropped_spots.csv").to_numpy().tolist()
    missing = anndata.read_h5ad(root / "st" / "S1.h5ad").obs_names[0]
    assert dropped == [["S1", missing, "has no patch in S1.h5"]]
    assert "tissue_fraction" in found.adata.obs  # by the small picture, where there is no slide


def test_hest_patches_of_another_size_are_cut_from_the_slide(
    make_hest: Callable[..., Path], tmp_path: Path
) -> None:
    root, out = make_hest(), tmp_path / "out"
    _, (failure,), _ = write_spots(root, out, SpotsConfig(patch=PatchSize(16, 1.5)))
    assert (
        "its patches are 16.0 µm (32 px at 0.5 µm/px), asked are 24.0 µm (16 px at 1.5 µm/px)"
        in failure.reason
    )
    assert "--patch-px 32 --patch-mpp 0.5" in failure.likely_fix
    make_hest("S2", slide=True)
    done, _, _ = write_spots(root, out, SpotsConfig(patch=PatchSize(16, 1.5), sections=["S2"]))
    assert done == ["S2"]
    assert read_patches(out / "S2_patches.h5").shape[1:] == (16, 16, 3)


def hest_file(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with h5py.File(root / "patches" / "S1.h5", "r+") as file:
            change(file)

    return damage


def replaced(name: str, values: Callable[[np.ndarray], object]) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        attributes, stored = dict(file[name].attrs), values(file[name][:])
        del file[name]
        file[name] = stored
        file[name].attrs.update(attributes)

    return hest_file(change)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            hest_file(lambda file: file["img"].attrs.pop("pixel_size")),
            "does not state pixel_size of its patches",
        ),
        (
            hest_file(lambda file: file.pop("barcode")),
            "is not a HEST patch file: it has no barcode",
        ),
        (
            replaced("coords", lambda xy: xy[:, ::-1]),
            r"its patches lie \d+ px from the spots of their barcodes",
        ),
        (replaced("coords", lambda xy: xy[:-1]), r"holds patches .* and coords \(\d+, 2\)"),
        (
            replaced("barcode", lambda names: [[b"x" + name] for name in names[:, 0]]),
            "none of its .* is of a spot",
        ),
        (replaced("barcode", lambda names: [names[0]] * len(names)), "more than once"),
        (replaced("img", lambda pixels: pixels / 255), "has pixels of float64, not uint8"),
        (
            hest_file(lambda file: file["img"].attrs.update(pixel_size=0.5)),
            "give 1 µm/px, but 0.5 is stated",
        ),
    ],
)
def test_a_broken_pair_says_why(
    make_hest: Callable[..., Path], tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    root = make_hest()
    damage(root)
    _, (failure,), _ = write_spots(root, tmp_path / "out", SpotsConfig(patch=PatchSize(32, 0.5)))
    with pytest.raises(InputError, match=reason):
        raise InputError(failure.reason)


def test_hest_states_its_resolution_in_its_metadata(
    make_hest: Callable[..., Path], tmp_path: Path
) -> None:
    """Cells that HEST pooled on a square grid once had 200 µm between them."""
    root = make_hest(slide=True)
    (root / "patches" / "S1.h5").unlink()
    path = root / "st" / "S1.h5ad"
    adata = anndata.read_h5ad(path)
    columns, rows = np.divmod(np.arange(adata.n_obs), 6)
    adata.obs["array_col"], adata.obs["array_row"] = columns, rows
    adata.obsm["spatial"] = np.column_stack([columns, rows]) * 50.0 + 100
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["uns/spatial/ST/images"]
    (source,) = find_section_sources(root)
    assert read(source).mpp == pytest.approx(1.0)  # the tag of the slide, where nothing else is
    (root / "metadata").mkdir()
    (root / "metadata" / "S1.json").write_text('{"pixel_size_um_estimated": 0.5}')
    (source,) = find_section_sources(root)
    assert read(source).mpp == 0.5
