"""Images of sections of Space Ranger: which one is used, and whether it fits the spots."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from visium_folders import PATCH, MakeVisium, edit_positions, full_image

from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.io.spot_files import read_patches, read_spots
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.types.tile_geometry import PatchSize

pytestmark = [
    pytest.mark.usefixtures("plain_overlays"),
    pytest.mark.filterwarnings("ignore:Variable names are not unique"),
]


def test_swapped_x_and_y_are_an_alarm_in_every_report(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    swapped = {
        "pxl_col_in_fullres": "pxl_row_in_fullres",
        "pxl_row_in_fullres": "pxl_col_in_fullres",
    }
    edit_positions(folder, lambda table: table.rename(columns=swapped))
    image = np.asarray(Image.open(full_image(folder)))
    wide = np.full((1200, 1200, 3), 240, dtype=np.uint8)  # so that all spots stay on the image
    wide[: image.shape[0]] = image
    Image.fromarray(wide).save(full_image(folder))
    _, failures, notes = write_spots(
        folder, out, SpotsConfig(image=full_image(folder), patch=PATCH)
    )
    assert not failures
    assert "S1: spots and image do not fit: with the spots x and y swapped" in notes[0]
    (row,) = pd.read_csv(out / "sections.csv").to_dict("records")
    assert (row["alignment"], row["better_orientation"]) == ("misplaced", "x and y swapped")
    assert row["darkness_margin"] < 1
    ranks = pd.read_csv(out / "alignment.csv").set_index("orientation")["rank"]
    assert ranks["x and y swapped"] == 1
    assert len(ranks) == 8


def test_the_full_resolution_image_gives_patches_round_the_spots(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    done, failures, notes = write_spots(
        folder, out, SpotsConfig(image=full_image(folder), patch=PATCH)
    )
    assert (done, failures) == (["S1"], [])
    assert not [note for note in notes if "µm/px" in note]
    found = read_spots(out / "S1.h5ad")
    image = np.asarray(Image.open(full_image(folder)))
    shown = read_patches(found.patches_path)
    for patch, (x, y) in zip(shown[:5], found.adata.obsm["spatial"][:5], strict=True):
        left, top = int(np.floor(x - 7.5)), int(np.floor(y - 7.5))
        assert np.array_equal(patch, image[top : top + 16, left : left + 16])
    assert found.adata.var["gene_id"].tolist()[2] == "ENSG00000182378;ENSG00000182379"
    (row,) = pd.read_csv(out / "sections.csv").to_dict("records")
    assert (row["alignment"], row["image"], row["flagged"]) == ("fits", "full-resolution image", 0)
    (genes,) = pd.read_csv(out / "gene_report.csv").to_dict("records")
    assert (genes["ids"], genes["genes"], genes["merged"], genes["other_features"]) == (5, 4, 1, 1)
    assert (
        write_spots(folder, out, SpotsConfig(image=full_image(folder), patch=PATCH)).notes == notes
    )  # kept, and told again


def test_a_pyramid_serves_as_the_image_and_its_resolution_is_compared(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder = make_visium()
    image = np.asarray(Image.open(full_image(folder)))
    for name, mpp, warned in (("fits.tiff", 1.0, False), ("other.tiff", 0.5, True)):
        write_pyramid(tmp_path / name, image, mpp=mpp, quality=95)
        out = tmp_path / name.split(".")[0]
        _, failures, notes = write_spots(
            folder, out, SpotsConfig(image=tmp_path / name, patch=PATCH)
        )
        assert not failures
        assert any(f"{name} states 0.5 µm/px, its spots give 1" in note for note in notes) == warned
        patches = read_patches(out / "S1_patches.h5")
        assert patches.std(axis=(1, 2, 3)).min() > 10  # tissue, at the spots' own resolution


def test_without_it_the_hires_picture_serves_where_it_is_fine_enough(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    _, failures, notes = write_spots(folder, out, SpotsConfig(patch=PatchSize(16, 2.0)))
    assert not failures
    assert (
        "the hires image has 2 µm/px and shows nuclei as specks:"
        " a patch of 32.0 µm is 16.0 of its pixels" in notes[0]
    )
    found = read_spots(out / "S1.h5ad")
    hires = np.asarray(Image.open(folder / "spatial" / "tissue_hires_image.png"))
    x, y = found.adata.obsm["spatial"][0] / 2  # positions stay in the full-resolution frame
    left, top = int(np.floor(x - 7.5)), int(np.floor(y - 7.5))
    assert np.array_equal(
        read_patches(found.patches_path)[0], hires[top : top + 16, left : left + 16]
    )
    with h5py.File(found.patches_path) as file:
        assert np.abs(file["coords"][0] + 16 - found.adata.obsm["spatial"][0]).max() <= 1
        assert file["img"].attrs["pixel_size"] == pytest.approx(1.0, rel=1e-3)
        assert file["img"].attrs["patch_size_src"] == pytest.approx(32.0, rel=1e-3)


def test_a_picture_too_coarse_is_an_error_unless_allowed(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    (folder / "spatial" / "tissue_hires_image.png").unlink()
    _, (failure,), _ = write_spots(folder, out, SpotsConfig(patch=PATCH))
    assert "the lowres image has 10 µm/px and shows no nuclei, only regions" in failure.reason
    assert "too coarse for patches at 1 µm/px" in failure.reason
    assert "--image" in failure.likely_fix
    _, failures, notes = write_spots(
        folder, out, SpotsConfig(patch=PatchSize(64, 1.0), allow_coarse=True)
    )
    assert not failures
    assert "enlarged 10.0 times" in notes[0]
    assert "enlarged 10.0 times" in pd.read_csv(out / "sections.csv")["warnings"][0]


def test_enlarged_patches_keep_place_and_size(make_visium: MakeVisium, tmp_path: Path) -> None:
    """A ramp tells where each pixel of a patch comes from, to a tenth of the picture's pixels."""
    folder, out = make_visium(), tmp_path / "out"
    (folder / "spatial" / "tissue_hires_image.png").unlink()
    ramp = np.add.outer(np.zeros(104), np.arange(120) * 2 + 4).astype(np.uint8)
    Image.fromarray(np.dstack([ramp] * 3)).save(folder / "spatial" / "tissue_lowres_image.png")
    write_spots(folder, out, SpotsConfig(patch=PatchSize(64, 1.0), allow_coarse=True))
    found = read_spots(out / "S1.h5ad")
    x = found.adata.obsm["spatial"][:, 0] / found.adata.uns["mpp"]
    expected = ((x[:, None] - 32 + np.arange(64) + 0.5) / 10 - 0.5) * 2 + 4
    shown = read_patches(found.patches_path)[:, 32, :, 0]
    assert np.abs(shown - expected).max() < 1


def test_the_image_of_another_section_is_refused_where_spots_lie_off_it(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder = make_visium()
    Image.new("RGB", (50, 50), "white").save(tmp_path / "other.png")
    _, (failure,), _ = write_spots(
        folder, tmp_path / "out", SpotsConfig(image=tmp_path / "other.png", patch=PATCH)
    )
    assert "other.png: none of" in failure.reason
    assert "lies on the image of 50 x 50 px" in failure.reason
    _, (failure,), _ = write_spots(
        folder, tmp_path / "out", SpotsConfig(image=tmp_path / "none.png", patch=PATCH)
    )
    assert "none.png: no such image" in failure.reason


@pytest.mark.realdata
def test_a_real_folder_without_a_usable_image(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "visium_mouse_placenta"
    _, (failure,), _ = write_spots(source, tmp_path / "out")
    assert "lowres image has 23.3 µm/px and shows no nuclei" in failure.reason
    done, _, notes = write_spots(source, tmp_path / "out", SpotsConfig(allow_coarse=True))
    assert done == ["visium_mouse_placenta"]
    assert "a patch of 77.3 µm is 3.3 of its pixels, enlarged 33.8 times" in notes[0]
    found = read_spots(tmp_path / "out" / "visium_mouse_placenta.h5ad")
    assert found.adata.shape == (2898, 19454)  # 11 of 19,465 ids share a symbol
    assert found.adata.uns["mpp"] == pytest.approx(4.67, abs=0.01)
    assert len(pd.read_csv(tmp_path / "out" / "dropped_spots.csv")) == 2094
    (row,) = pd.read_csv(tmp_path / "out" / "sections.csv").to_dict("records")
    assert row["alignment"] == "fits"
    assert json.loads(str(found.adata.uns["section"]))["genes"]["merged"] == 11


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_an_image_of_another_size_is_refused(
    make_visium: MakeVisium, tmp_path: Path, share: float
) -> None:
    """The high-resolution picture was once taken for the full one, and most spots were dropped."""
    folder = make_visium()
    with Image.open(full_image(folder)) as full:
        size = (round(full.width * share), round(full.height * share))
        full.resize(size).save(tmp_path / "small.png")
    config = SpotsConfig(image=str(tmp_path / "small.png"), patch=PatchSize(8, 1.0))
    done, (failure,), _ = write_spots(folder, tmp_path / "out", config)
    assert not done
    assert f"lie beyond the image of {size[0]} x {size[1]} px" in failure.reason
    assert "full-resolution image" in failure.likely_fix


@pytest.mark.parametrize("share", [0.8, 2])
def test_an_image_out_of_scale_that_holds_the_spots_is_a_warning_in_every_report(
    make_visium: MakeVisium, tmp_path: Path, share: float
) -> None:
    folder = make_visium()
    with Image.open(full_image(folder)) as full:
        size = (round(full.width * share), round(full.height * share))
        full.resize(size).save(tmp_path / "other.png")
    config = SpotsConfig(image=str(tmp_path / "other.png"), patch=PATCH)
    done, _, notes = write_spots(folder, tmp_path / "out", config)
    assert done == ["S1"]
    assert "S1: the scale of spots and image does not fit: with all positions times" in notes[0]
    (row,) = pd.read_csv(tmp_path / "out" / "sections.csv").to_dict("records")
    assert row["alignment"] == "misplaced"
    assert row["fitting_scale"] == pytest.approx(share, rel=0.1)


def test_a_small_difference_of_scale_is_in_the_table(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    """Spots mark tissue to about one pitch, so that 6 % are no alarm, but can be seen."""
    folder, scales = make_visium(), {}
    for share in (1.0, 1.06):
        out = tmp_path / f"out{share}"
        with Image.open(full_image(folder)) as full:
            size = (round(full.width * share), round(full.height * share))
            pixels = np.asarray(full.convert("RGB").resize(size))
        write_pyramid(tmp_path / "full.tiff", pixels, mpp=1.03, quality=90)
        write_spots(folder, out, SpotsConfig(image=str(tmp_path / "full.tiff"), patch=PATCH))
        (row,) = pd.read_csv(out / "sections.csv").to_dict("records")
        assert row["fitting_scale"] == 1
        assert row["stated_mpp"] == pytest.approx(1.03, rel=1e-3)
        scales[share] = row["extent_scale"]
    assert scales[1.06] / scales[1.0] == pytest.approx(1.06, rel=0.02)


def test_spots_beyond_a_cropped_image_are_counted_everywhere(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    edit_positions(folder, lambda t: t.assign(pxl_col_in_fullres=t["pxl_col_in_fullres"] - 300))
    with Image.open(full_image(folder)) as full:
        full.crop((300, 0, full.width, full.height)).save(tmp_path / "cropped.png")
    config = SpotsConfig(image=str(tmp_path / "cropped.png"), patch=PATCH)
    done, _, notes = write_spots(folder, out, config)
    assert done == ["S1"]
    (row,) = pd.read_csv(out / "sections.csv").to_dict("records")
    listed = pd.read_csv(out / "dropped_spots.csv")["reason"].value_counts().to_dict()
    off = listed["its patch is off the image"]
    assert off > 5
    assert row["dropped"] == sum(listed.values())
    assert row["fitting_scale"] == 1
    assert f"{off} (its patch is off the image)" in row["dropped_because"]
    total = row["spots"] + row["dropped"]
    assert f"S1: {row['dropped']} of {total} spots left out: {row['dropped_because']}" in notes
    assert any("lie beyond the image" in note for note in notes)
