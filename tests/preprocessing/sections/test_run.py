"""Sections written as spot sets: patches, resuming without reading, and errors."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tcgn_mil import plotting
from tcgn_mil.errors import InputError
from tcgn_mil.io.spot_files import read_patches, read_spots
from tcgn_mil.preprocessing.sections import writer as section_writer
from tcgn_mil.preprocessing.sections.readers import her2st
from tcgn_mil.preprocessing.sections.run import CohortSpots, SpotsConfig, write_spots
from tcgn_mil.preprocessing.slides.readers import open_slide, plain
from tcgn_mil.types.tile_geometry import PatchSize

MakeHer2st = Callable[..., Path]
PATCH = PatchSize(16, 1.0)


@pytest.fixture(autouse=True)
def plain_overlays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, half a second per section, where it is not what is tested."""
    if "overlay" not in request.node.name and "realdata" not in request.keywords:
        monkeypatch.setattr(
            section_writer,
            "write_overlay",
            lambda path, *args, **kwargs: path.write_bytes(b"picture"),
        )


def write(root: Path, out: Path, **options: object) -> CohortSpots:
    settings: dict = {"patch": PATCH, "mpp": 1.0, "spot_pitch_um": 40.0, **options}
    return write_spots(root, out, SpotsConfig(**settings))


def failure(root: Path, out: Path, **options: object) -> str:
    """Reason and fix of the one section, which fails."""
    done, failures, _ = write(root, out, **options)
    assert not done
    assert [row["slide"] for row in pd.read_csv(out / "failures.csv").to_dict("records")] == [
        failures[0].slide
    ]
    return f"{failures[0].reason} Fix: {failures[0].likely_fix}"


def image_of(root: Path, section: str = "A1") -> Path:
    return next((root / "ST-imgs" / section[0] / section).glob("*.png"))


def contents(*folders: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for folder in folders for path in sorted(folder.iterdir())}


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to make every later reading of an image or a count table fail."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("read again")

    def arm() -> None:
        monkeypatch.setattr(plain, "read_image", refuse)
        monkeypatch.setattr(her2st, "read_section", refuse)

    return arm


def test_a_section_becomes_a_spot_set(make_her2st: MakeHer2st, tmp_path: Path) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    left_out = "A1: 2 of 31 spots left out: 1 (no position in the spot file), 1 (no counts)"
    assert write(root, out) == (["A1"], [], [left_out])
    found = read_spots(out / "A1.h5ad")
    assert (found.section, found.patient, found.patch) == ("A1", "A", PATCH)
    counts = pd.read_csv(root / "ST-cnts" / "A1.tsv.gz", sep="\t", index_col=0)
    assert np.array_equal(found.adata.X.toarray(), counts.loc[found.adata.obs_names])
    assert (
        found.adata.obs["total_counts"].tolist()
        == counts.loc[found.adata.obs_names].sum(axis=1).tolist()
    )


def test_patches_show_the_image_at_the_spot_and_follow_hest(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    write(root, out)
    image = np.asarray(Image.open(image_of(root)))
    found = read_spots(out / "A1.h5ad")
    patches = read_patches(found.patches_path)
    with h5py.File(found.patches_path) as file:
        coords, attrs = file["coords"][:], dict(file["img"].attrs)
        assert [name.decode() for name in file["barcode"][:, 0]] == list(found.adata.obs_names)
    for patch, (x, y), centre in zip(patches, coords, found.adata.obsm["spatial"], strict=True):
        assert np.array_equal(patch, image[y : y + 16, x : x + 16])
        assert (x + 8, y + 8) == tuple(centre)
    assert attrs["patch_size_target"] == 16
    assert attrs["pixel_size"] == 1.0


def test_patches_are_cut_by_physical_size(make_her2st: MakeHer2st, tmp_path: Path) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    write(root, out, mpp=None, spot_pitch_um=20.0)  # 0.5 µm/px: 16 µm are 32 px
    image = np.asarray(Image.open(image_of(root)), dtype=float)
    found = read_spots(out / "A1.h5ad")
    row = list(found.adata.obs_names).index("3x3")
    x, y = found.adata.obsm["spatial"][row].astype(int)
    block = image[y - 16 : y + 16, x - 16 : x + 16].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(read_patches(found.patches_path)[row] - block).max() <= 1


def test_spots_whose_patch_is_off_the_image_are_dropped_and_listed(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    path = root / "ST-spotfiles" / "A1_selection.tsv"
    table = pd.read_csv(path, sep="\t")
    table["pixel_x"] -= 36  # the first column at 7 px, where a patch of 16 px needs 8
    table.to_csv(path, sep="\t", index=False)
    write(root, out)
    dropped = pd.read_csv(out / "dropped_spots.csv")
    assert dropped.to_numpy().tolist() == [
        ["A1", "9x9", "no position in the spot file"],
        ["A1", "2x2", "no counts"],
        *(["A1", f"1x{y}", "its patch is off the image"] for y in range(1, 6)),
    ]
    (report,) = pd.read_csv(out / "sections.csv").to_dict("records")
    assert (report["spots"], report["genes"], report["width_px"], report["height_px"]) == (
        24,
        8,
        288,
        240,
    )
    assert "1x1" not in read_spots(out / "A1.h5ad").adata.obs_names


def test_sections_become_slides_with_their_summed_counts(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out, slides = make_her2st("A1", "B2"), tmp_path / "out", tmp_path / "slides"
    write(root, out, slides_out=slides)
    table = pd.read_csv(slides / "slides.csv")
    assert table[["slide_id", "patient_id", "path", "donor"]].to_numpy().tolist() == [
        ["A1", "A1", "A1.tiff", "A"],
        ["B2", "B2", "B2.tiff", "B"],
    ]
    bulk = pd.read_csv(slides / "pseudobulk.csv", index_col="patient_id")
    counts = pd.read_csv(root / "ST-cnts" / "B2.tsv.gz", sep="\t", index_col=0).drop(index="9x9")
    assert bulk.loc["B2"].to_dict() == counts.sum().to_dict()
    with open_slide(slides / "A1.tiff") as slide:
        assert slide.size == (288, 240)
        assert slide.mpp == pytest.approx(1.0, rel=1e-3)


def test_sections_of_one_patient_can_be_slides_of_one_patient(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, slides = make_her2st("A1", "A2", "B2"), tmp_path / "slides"
    write(root, tmp_path / "out", slides_out=slides)
    single = pd.read_csv(slides / "pseudobulk.csv", index_col="patient_id")
    write(root, tmp_path / "out", slides_out=slides, pseudobulk_by="patient")
    table = pd.read_csv(slides / "slides.csv")
    assert table[["slide_id", "patient_id", "donor"]].to_numpy().tolist() == [
        ["A1", "A", "A"],
        ["A2", "A", "A"],
        ["B2", "B", "B"],
    ]
    bulk = pd.read_csv(slides / "pseudobulk.csv", index_col="patient_id")
    assert bulk.index.tolist() == ["A", "B"]
    assert bulk.loc["A"].tolist() == (single.loc["A1"] + single.loc["A2"]).tolist()
    with pytest.raises(InputError, match=r"'pseudobulk_by' is 'slide'.*'section' or 'patient'"):
        write(root, tmp_path / "out", pseudobulk_by="slide")


def test_a_finished_section_is_kept_without_reading_it(
    make_her2st: MakeHer2st, tmp_path: Path, no_decoding: Callable[[], None]
) -> None:
    root, out, slides = make_her2st("A1", "B2"), tmp_path / "out", tmp_path / "slides"
    write(root, out, slides_out=slides)
    before = contents(out, slides)
    no_decoding()
    write(root, out, slides_out=slides)
    assert contents(out, slides) == before


@pytest.mark.parametrize("change", [{"patch": PatchSize(12, 1.0)}, {"mpp": 1.02}])
def test_other_settings_make_a_section_again(
    make_her2st: MakeHer2st, tmp_path: Path, change: dict
) -> None:
    root, out, slides = make_her2st("A1"), tmp_path / "out", tmp_path / "slides"
    write(root, out, slides_out=slides)
    write(root, out, slides_out=slides, **change)
    found = read_spots(out / "A1.h5ad")
    assert found.patch == change.get("patch", PATCH)
    mpp = change.get("mpp", 1.0)
    assert found.adata.uns["mpp"] == mpp
    with open_slide(slides / "A1.tiff") as slide:
        assert slide.mpp == pytest.approx(mpp, rel=1e-3)


def test_a_changed_image_or_a_lost_file_makes_a_section_again(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    write(root, out)
    (out / "A1_patches.h5").unlink()
    write(root, out)
    before = read_patches(out / "A1_patches.h5")
    Image.fromarray(255 - np.asarray(Image.open(image_of(root)))).save(image_of(root))
    write(root, out)
    assert np.array_equal(read_patches(out / "A1_patches.h5"), 255 - before)


def test_an_image_of_the_same_size_and_time_makes_a_section_again(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    path = image_of(root)
    status, pixels = path.stat(), np.asarray(Image.open(path))
    bmp = path.with_suffix(".bmp.png")
    Image.fromarray(pixels).save(bmp, format="PNG", compress_level=0)
    bmp.replace(path)
    os.utime(path, (1, 1))
    write(root, out)
    before = read_patches(out / "A1_patches.h5")
    size = path.stat().st_size
    Image.fromarray(255 - pixels).save(path, format="PNG", compress_level=0)
    os.utime(path, (1, 1))
    assert path.stat().st_size == size != status.st_size
    write(root, out)
    assert np.array_equal(read_patches(out / "A1_patches.h5"), 255 - before)


def test_a_section_that_left_or_fails_leaves_no_files_for_the_next_verb(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out = make_her2st("A1", "B1", "C1"), tmp_path / "out"
    write(root, out)
    image_of(root, "B1").write_bytes(b"damaged")
    for file in sorted(root.rglob("C1*"), reverse=True):
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()
    done, failures, notes = write(root, out)
    assert (done, [failure.slide for failure in failures]) == (["A1"], ["B1"])
    assert sorted(path.stem for path in out.glob("*.h5ad")) == ["A1"]
    assert (out / "set-aside" / "C1.h5ad").is_file()
    assert any("1 section is no longer listed" in note for note in notes)


def test_a_damaged_section_file_is_made_again(make_her2st: MakeHer2st, tmp_path: Path) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    write(root, out)
    path = out / "A1.h5ad"
    path.write_bytes(path.read_bytes()[:3000])
    write(root, out)
    assert read_spots(path).section == "A1"


@pytest.mark.parametrize("damage", ["truncated", "no image"])
def test_an_unreadable_image_leaves_no_section(
    make_her2st: MakeHer2st, tmp_path: Path, damage: str
) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    path = image_of(root)
    path.write_bytes(
        path.read_bytes()[:2000] if damage == "truncated" else b"text, not pixels" * 20
    )
    assert re.search(r"A1_HE.png: .* Fix: .", reason := failure(root, out))
    assert "\n" not in reason
    assert sorted(path.name for path in out.iterdir()) == ["cohort.json", "failures.csv"]


def test_a_killed_run_leaves_nothing_under_the_final_names(
    make_her2st: MakeHer2st, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    cut = section_writer.cut_patches

    def killed(*args: object) -> object:
        patches = cut(*args)  # type: ignore[arg-type]
        yield next(patches)
        raise KeyboardInterrupt

    monkeypatch.setattr(section_writer, "cut_patches", killed)
    with pytest.raises(KeyboardInterrupt):
        write(root, out)
    assert [path.name for path in out.iterdir()] == ["cohort.json"]  # the list of sections


def test_positions_of_another_image_are_refused(make_her2st: MakeHer2st, tmp_path: Path) -> None:
    root = make_her2st("A1")
    Image.new("RGB", (30, 30)).save(image_of(root))
    assert "none of 29 spots lies on the image of 30 x 30 px" in failure(root, tmp_path / "out")


def test_an_image_too_coarse_for_the_patches_is_refused(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out, sharp = make_her2st("A1"), tmp_path / "out", PatchSize(16, 0.5)
    assert "too coarse for patches at 0.5 µm/px" in failure(root, out, patch=sharp)
    done, _, notes = write(root, out, patch=sharp, allow_coarse=True)
    assert done == ["A1"]
    assert "a patch of 8.0 µm is 8.0 of its pixels, enlarged 2.0 times" in notes[0]
    assert not (out / "failures.csv").exists()


def test_unknown_formats_and_impossible_distances_are_refused(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root = make_her2st("A1")
    with pytest.raises(InputError, match=r"unknown format 'merfish'.*her2st"):
        write(root, tmp_path / "out", format="merfish")
    with pytest.raises(InputError, match=r"'gene_ids' is 'entrez'.*'symbol'"):
        write(root, tmp_path / "out", gene_ids="entrez")
    with pytest.raises(InputError, match=r"'spot_pitch_um' is 0.*above 0"):
        write(root, tmp_path / "out", spot_pitch_um=0.0)


def test_a_broken_section_costs_a_row_and_the_rest_go_on(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out = make_her2st("A1", "B2", "C3"), tmp_path / "out"
    image_of(root, "B2").unlink()
    done, failures, _ = write(root, out)
    assert done == ["A1", "C3"]
    (row,) = pd.read_csv(out / "failures.csv").to_dict("records")
    assert (row["slide"], row["stage"]) == ("B2", "spots")
    assert "section B2 needs one image, found 0" in row["reason"]
    assert row["likely_fix"] == failures[0].likely_fix != ""
    assert pd.read_csv(out / "sections.csv")["section"].tolist() == ["A1", "C3"]


def test_spots_beside_the_tissue_are_flagged_and_kept(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    root, out = make_her2st("A1"), tmp_path / "out"
    rng = np.random.default_rng(0)
    image = np.full((240, 288, 3), (240, 236, 242), dtype=np.uint8)  # glass but for the left half
    nuclei = (rng.random((240, 144)) < 0.4)[..., None]  # a pixel each, at 10 µm/px
    image[:, :144] = np.where(nuclei, np.uint8([88, 60, 140]), np.uint8([214, 150, 190]))
    Image.fromarray(image).save(image_of(root))
    write(root, out, mpp=10.0, spot_pitch_um=400.0, patch=PatchSize(16, 10.0))
    fractions = read_spots(out / "A1.h5ad").adata.obs["tissue_fraction"]
    flagged = pd.read_csv(out / "flagged_spots.csv")
    assert flagged["spot"].tolist() == fractions.index[fractions < 0.1].tolist()
    assert {"6x1", "6x5"} <= set(flagged["spot"])
    assert not {"1x1", "2x3"} & set(flagged["spot"])
    (report,) = pd.read_csv(out / "sections.csv").to_dict("records")
    assert (report["spots"], report["flagged"]) == (29, len(flagged))


def test_a_table_names_sections_patients_and_resolutions(
    make_her2st: MakeHer2st, tmp_path: Path
) -> None:
    make_her2st("A1", "B2")
    out = tmp_path / "out"
    table = tmp_path / "sections.csv"
    table.write_text(
        "\ufeffpath,section,patient_id,mpp\r\nher2st,A1,,1.01\r\nher2st,Z9,,\r\n"
        "nowhere,N1,P7,\r\nher2st,B2,,\r\n,,,\r\n",
        encoding="utf-8",
    )
    done, failures, _ = write(table, out, mpp=None)
    assert done == ["A1", "B2"]
    assert [(one.slide, one.reason.split(": ")[1]) for one in failures] == [
        ("Z9", "has no section Z9"),
        ("N1", "no such folder or file"),
    ]
    assert pd.read_csv(out / "sections.csv")["mpp"].tolist() == pytest.approx([1.01, 1.0], rel=1e-3)
    assert pd.read_csv(out / "sections.csv")["mpp"][0] == 1.01


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("section,image\nA1,x\n", "is not a table of sections: it has no column path"),
        ("path,section\n../elsewhere,A1\n", "leads out of the table's folder"),
        (
            "path,format\nher2st,cosmx\n",
            "column format, row 2: 'cosmx' is none of auto, spatialdata, her2st",
        ),
        ("path,mpp\nher2st,fine\n", "column mpp, row 2: 'fine' is not a resolution"),
        ("path,section\n", "holds no rows below a header"),
        ("path,section\nher2st,A1\nher2st,A1\n", "two sections are named A1"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    make_her2st: MakeHer2st, tmp_path: Path, text: str, reason: str
) -> None:
    make_her2st("A1")
    (tmp_path / "sections.csv").write_text(text)
    with pytest.raises(InputError, match=reason):
        write(tmp_path / "sections.csv", tmp_path / "out")


def test_both_panels_of_the_overlay_are_of_one_size(
    make_her2st: MakeHer2st, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    save = plotting.save
    monkeypatch.setattr(plotting, "save", lambda f, path: (drawn.append(f), save(f, path)))
    write(make_her2st("A1"), tmp_path / "out")
    assert Image.open(tmp_path / "out" / "A1_spots.png").width > 1000
    left, right = (axis.get_position() for axis in drawn[0].axes[:2])
    assert (left.width, left.height, left.y0) == pytest.approx(
        (right.width, right.height, right.y0), rel=1e-3
    )


@pytest.mark.realdata
def test_section_c5_end_to_end(real_data: Path, tmp_path: Path) -> None:
    write_spots(real_data / "her2st", tmp_path, SpotsConfig(sections=["C5"]))
    found = read_spots(tmp_path / "C5.h5ad")
    assert found.adata.shape == (181, 15721)
    assert found.patient == "C"
    assert found.patch == PatchSize(112, 0.69)
    assert float(found.adata.uns["mpp"]) == pytest.approx(
        0.687, rel=0.003
    )  # by the array printed on the glass
    with h5py.File(found.patches_path) as file:
        assert (
            round(float(file["img"].attrs["patch_size_src"])) == 112
        )  # so that no pixel is interpolated
    patches = read_patches(found.patches_path)
    assert patches.shape == (181, 112, 112, 3)
    assert np.median(patches.std(axis=(1, 2, 3))) > 15  # tissue, not glass
    assert (
        anndata.read_h5ad(tmp_path / "C5.h5ad", backed="r").var["section_counts"].sum()
        == found.adata.X.sum()
    )
