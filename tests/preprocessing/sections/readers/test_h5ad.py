"""Visium sections in .h5ad, and the layout of HEST with its patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy
from PIL import Image
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.io.spot_files import read_patches, read_spots
from tcgn_mil.preprocessing.sections import writer as section_writer
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.lattice import MIRRORED
from tcgn_mil.preprocessing.sections.raw_section import RawSection, ReadSettings, SectionSource
from tcgn_mil.preprocessing.sections.readers.tenx.visium import read_section
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import detect_format, find_section_sources
from tcgn_mil.types.tile_geometry import PatchSize

MakeVisium = Callable[..., Path]
Change = Callable[[anndata.AnnData], None]
PATCH = PatchSize(16, 2.0)  # what the hires picture of the synthetic sections can show
pytestmark = pytest.mark.filterwarnings(
    "ignore:Variable names are not unique", "ignore:Use `squidpy", "ignore::FutureWarning"
)


@pytest.fixture(autouse=True)
def plain_overlays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, half a second per section."""
    monkeypatch.setattr(
        section_writer, "write_overlay", lambda path, *args, **kwargs: path.write_bytes(b"picture")
    )


@pytest.fixture
def make_h5ad(make_visium: MakeVisium, tmp_path: Path) -> Callable[..., Path]:
    """Write a section as scanpy.read_visium gives it to ``{name}.h5ad``, with unique names."""

    def write(name: str = "S1", change: Change | None = None, *, under: str = "") -> Path:
        folder = make_visium(name, matrix="h5")
        adata = scanpy.read_visium(folder, library_id=f"lib_{name}")
        adata.var_names_make_unique()
        if change is not None:
            change(adata)
        path = tmp_path / under / f"{name}.h5ad"
        path.parent.mkdir(parents=True, exist_ok=True)
        adata.write_h5ad(path)
        return path

    return write


def read(source: SectionSource, **settings: object) -> RawSection:
    return source.read(ReadSettings(PATCH, **settings))  # type: ignore[arg-type]


def only(path: Path, **options: object) -> SectionSource:
    (source,) = find_section_sources(path, **options)  # type: ignore[arg-type]
    return source


def test_scanpy_s_file_gives_the_section_that_its_folder_gives(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    found = read(only(make_h5ad()))
    folder = read_section(
        tmp_path / "visium" / "S1", ReadSettings(PATCH), section="S1", patient="S1"
    )
    assert (found.section, found.patient, found.mpp) == (
        "S1",
        "S1",
        pytest.approx(folder.mpp, rel=1e-6),
    )
    assert found.genes.names == folder.genes.names  # PLCXD1-1, as AnnData marks it, is PLCXD1 again
    assert found.genes.ids == folder.genes.ids
    assert np.array_equal(
        found.counts.toarray(), folder.counts[folder.spots.get_indexer(found.spots)].toarray()
    )
    assert np.allclose(found.centres(), folder.positions.loc[found.spots, ["pixel_x", "pixel_y"]])
    assert found.image.kind == "hires image"
    assert found.image.scale == 0.5


def test_its_picture_is_that_of_the_folder_whether_stored_as_bytes_or_shares(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    """scanpy stores a PNG as floats from 0 to 1, squidpy as bytes, and some files have alpha."""

    def as_bytes(adata: anndata.AnnData) -> None:
        images = adata.uns["spatial"]["lib_S2"]["images"]
        shown = np.rint(images["hires"] * 255).astype(np.uint8)
        images["hires"] = np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)])

    for name, change in (("S1", None), ("S2", as_bytes)):
        raw = read(only(make_h5ad(name, change)))
        with raw.image.open(raw.image_mpp) as slide:
            pixels = slide.read(0, 0, 0, *slide.size)
        known = np.asarray(
            Image.open(tmp_path / "visium" / name / "spatial" / "tissue_hires_image.png")
        )
        assert np.array_equal(pixels, known)


def test_spots_off_tissue_are_listed(make_h5ad: Callable[..., Path]) -> None:
    def mark(adata: anndata.AnnData) -> None:
        adata.obs.iloc[:3, adata.obs.columns.get_loc("in_tissue")] = 0

    raw = read(only(make_h5ad("S1", mark)))
    assert [reason for _, reason in raw.dropped] == ["not under tissue (in_tissue 0)"] * 3
    assert not {name for name, _ in raw.dropped} & set(raw.spots)


def test_several_libraries_of_one_file_are_sections(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = (anndata.read_h5ad(make_h5ad(name)) for name in ("S1", "S2"))
    for adata, patient in ((first, "P1"), (second, "P2")):
        adata.obs["patient"] = patient
    both = anndata.concat(
        [first, second],
        label="library_id",
        keys=["lib_S1", "lib_S2"],
        uns_merge="unique",
        index_unique="-",
        merge="same",
    )
    path = tmp_path / "both.h5ad"
    both.write_h5ad(path)
    done, failures, _ = write_spots(path, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert (done, failures) == (["lib_S1", "lib_S2"], [])
    for name, adata, patient in (("lib_S1", first, "P1"), ("lib_S2", second, "P2")):
        found = read_spots(tmp_path / "out" / f"{name}.h5ad")
        assert found.patient == patient
        assert np.array_equal(found.adata.obsm["spatial"], adata.obsm["spatial"])
    assert write_spots(
        path, tmp_path / "one", SpotsConfig(patch=PATCH, sections=["lib_S2"])
    ).done == ["lib_S2"]
    del both.obs["library_id"]
    both.write_h5ad(path)
    _, failures, _ = write_spots(path, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert [one.slide for one in failures] == ["lib_S1", "lib_S2"]
    assert "holds several libraries, but no obs['library_id']" in failures[0].reason


@pytest.mark.parametrize("place", ["layer", "raw"])
@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_counts_are_found_where_x_was_normalised(
    make_h5ad: Callable[..., Path], place: str, form: str
) -> None:
    kept: list[np.ndarray] = []

    def normalise(adata: anndata.AnnData) -> None:
        shape = {
            "csr": sparse.csr_matrix,
            "csc": sparse.csc_matrix,
            "dense": lambda x: x.toarray(),
        }[form]
        adata.X = shape(adata.X)
        kept.append(np.asarray(adata.X.sum(axis=1)).ravel())
        if place == "layer":
            adata.layers["counts"] = adata.X.copy()
        else:
            adata.raw = adata.copy()
        adata.obs["in_tissue"] = [0] + [1] * (adata.n_obs - 1)
        scanpy.pp.normalize_total(adata, target_sum=1e4)
        scanpy.pp.log1p(adata)

    raw = read(only(make_h5ad("S1", normalise)))
    assert (raw.counts.data == np.floor(raw.counts.data)).all()
    (warning,) = raw.warnings
    assert warning.startswith(
        "X holds no counts: they were taken from "
        + ("layers['counts']" if place == "layer" else "raw")
    )
    assert raw.totals().tolist() == kept[0][1:].tolist()


def test_features_that_are_no_genes_are_left_out_and_counted(
    make_h5ad: Callable[..., Path],
) -> None:
    def relabel(adata: anndata.AnnData) -> None:
        adata.var["feature_types"] = ["Gene Expression"] * 4 + ["Antibody Capture"]

    genes = read(only(make_h5ad("S1", relabel))).genes
    assert genes.names == ("TP53", "ERBB2", "PLCXD1")
    assert genes.other_features == {"Antibody Capture": 1}


def test_ensembl_names_find_their_symbols_and_stay_if_asked(make_h5ad: Callable[..., Path]) -> None:
    def swap(adata: anndata.AnnData) -> None:
        adata.var["symbol"] = ["TP53", "ERBB2", "PLCXD1", "PLCXD1", "HLA_A"]
        adata.var_names = [f"{name}.7" for name in adata.var.pop("gene_ids")]

    path = make_h5ad("S1", swap)
    by_symbol = read(only(path)).genes
    assert by_symbol.names == ("TP53", "ERBB2", "PLCXD1", "HLA-A")
    assert (by_symbol.report.versions, by_symbol.report.renamed, by_symbol.report.merged) == (
        5,
        1,
        1,
    )
    by_id = read(only(path), gene_ids="ensembl").genes
    assert by_id.names[0] == "ENSG00000141510"
    assert by_id.ids is not None
    assert by_id.ids[0] == "ENSG00000141510.7"


def test_the_user_s_image_takes_the_picture_s_place(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_h5ad()
    full = tmp_path / "visium" / "S1.png"
    done, _, _ = write_spots(
        path, tmp_path / "out", SpotsConfig(image=full, patch=PatchSize(16, 1.0))
    )
    assert done == ["S1"]
    image = np.asarray(Image.open(full))
    found = read_spots(tmp_path / "out" / "S1.h5ad")
    x, y = np.floor(found.adata.obsm["spatial"][0] - 7.5).astype(int)
    assert np.array_equal(read_patches(found.patches_path)[0], image[y : y + 16, x : x + 16])


def library_of(adata: anndata.AnnData) -> dict:
    return adata.uns["spatial"]["lib_S1"]


def set_spatial(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(adata: anndata.AnnData) -> None:
        adata.obsm["spatial"] = change(np.asarray(adata.obsm["spatial"], dtype=float))

    return apply


def normalise(adata: anndata.AnnData) -> None:
    scanpy.pp.normalize_total(adata, target_sum=1e4)


def with_nan(pixels: np.ndarray) -> np.ndarray:
    pixels[3, 1] = np.nan
    return pixels


def shuffled(adata: anndata.AnnData) -> None:
    adata.obs["array_row"] = np.random.default_rng(0).permutation(adata.obs["array_row"])


def flat_image(adata: anndata.AnnData) -> None:
    library_of(adata)["images"]["hires"] = np.zeros((20, 20))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda adata: adata.uns.pop("spatial"),
            r"S1.h5ad: holds no image.*--image",
        ),
        (
            lambda adata: adata.obsm.pop("spatial"),
            r'S1.h5ad: has no obsm\["spatial"\]: it is no spatial data',
        ),
        (
            lambda adata: library_of(adata).pop("images"),
            r'uns\["spatial"\]\["lib_S1"\] has no image.*--image',
        ),
        (
            lambda adata: library_of(adata)["scalefactors"].pop("tissue_hires_scalef"),
            r"has no tissue_hires_scalef",
        ),
        (flat_image, r"hires of shape \(20, 20\) is not an RGB picture"),
        (normalise, r"gene .*, spot .*: [\d.]+ is not a count.*raw UMI"),
        (set_spatial(with_nan), r"1 spots have no position in obsm"),
        (shuffled, r"lie on no lattice"),
        (set_spatial(lambda pixels: pixels[:, :1]), r"is not x, y for each spot"),
        (
            lambda adata: adata.obs.update({"in_tissue": 0 * adata.obs["in_tissue"]}),
            r"has no spot under tissue",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    make_h5ad: Callable[..., Path], tmp_path: Path, change: Change, reason: str
) -> None:
    _, (failure,), _ = write_spots(
        make_h5ad("S1", change), tmp_path / "out", SpotsConfig(patch=PATCH)
    )
    assert failure.slide == "S1"
    with pytest.raises(InputError, match=reason):
        raise InputError(failure.reason, fix=failure.likely_fix)


def test_a_truncated_file_and_a_good_one_cost_one_row(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    bad = make_h5ad("S1", under="files")
    make_h5ad("S2", under="files")
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    assert detect_format(tmp_path / "files") == "h5ad"
    done, (failure,), _ = write_spots(
        tmp_path / "files", tmp_path / "out", SpotsConfig(patch=PATCH)
    )
    assert (done, failure.slide) == (["S2"], "S1")
    assert "S1.h5ad: cannot be read as HDF5" in failure.reason


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


def test_a_section_without_array_positions_is_measured_by_its_neighbours(
    make_h5ad: Callable[..., Path],
) -> None:
    def without(adata: anndata.AnnData) -> None:
        del adata.obs["array_row"]

    def of_visium(adata: anndata.AnnData) -> None:
        without(adata)
        as_barcodes(adata)

    assert read(only(make_h5ad("S1", of_visium))).mpp == pytest.approx(1.0, rel=1e-3)
    # Another tool sums cells over hexagons of any size, and names them as it likes.
    path = make_h5ad("S2", without)
    with pytest.raises(
        InputError, match=r"on a hexagonal lattice, 100 px apart, and nothing"
    ) as no:
        read(only(path))
    assert "--spot-pitch-um" in str(no.value.fix)


def as_barcodes(adata: anndata.AnnData) -> None:
    """Name spots as Space Ranger does."""
    digits = [np.base_repr(row, 4).zfill(16) for row in range(adata.n_obs)]
    table = str.maketrans("0123", "ACGT")
    adata.obs_names = [f"{name.translate(table)}-1" for name in digits]


def as_cellxgene(adata: anndata.AnnData) -> None:
    """Change a section into the form of CELLxGENE's schema 5.1."""
    adata.uns["spatial"]["is_single"] = np.bool_(True)
    images = library_of(adata)["images"]
    full = np.kron(images["hires"], np.ones((2, 2, 1)))
    images["fullres"] = np.rint(full * 255).astype(np.uint8)
    del images["lowres"], library_of(adata)["scalefactors"]["tissue_lowres_scalef"]
    adata.obs["donor_id"] = "D7"


def test_cellxgene_s_flag_is_no_library_and_its_full_picture_has_scale_one(
    make_h5ad: Callable[..., Path],
) -> None:
    path = make_h5ad("S1", as_cellxgene)
    raw = read(only(path))
    assert (raw.section, raw.patient) == ("S1", "D7")
    assert (raw.image.kind, raw.image.scale) == ("fullres image", 1.0)
    assert raw.image_mpp == pytest.approx(1.0, rel=1e-3)
    assert only(path, sections=["lib_S1"]).section == "S1"  # the name in the file is known as well


def test_a_full_picture_of_another_size_than_its_hires_picture_is_refused(
    make_h5ad: Callable[..., Path],
) -> None:
    def smaller(adata: anndata.AnnData) -> None:
        as_cellxgene(adata)
        images = library_of(adata)["images"]
        images["fullres"] = images["fullres"][::2, ::2]

    with pytest.raises(InputError, match=r"picture hires .* does not fit its picture fullres"):
        read(only(make_h5ad("S1", smaller)))


def test_unnamed_sections_of_one_file_are_refused(make_h5ad: Callable[..., Path]) -> None:
    def several(adata: anndata.AnnData) -> None:
        adata.uns["spatial"] = {"is_single": np.bool_(False)}

    (failed,) = find_section_sources(make_h5ad("S1", several))
    with pytest.raises(InputError, match="is_single"):
        read(failed)


def test_a_file_without_pictures_is_read_with_the_user_s_image(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    def without(adata: anndata.AnnData) -> None:
        del adata.uns["spatial"]
        del adata.obs["array_row"]
        as_barcodes(adata)

    path = make_h5ad("S1", without)
    raw = read(only(path, image=tmp_path / "visium" / "S1.png"))
    assert (raw.section, raw.mpp) == ("S1", pytest.approx(1.0, rel=1e-3))
    with pytest.raises(InputError, match="holds no image") as caught:
        read(only(path))
    assert "--image" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("yes", "no"), [("True", "False"), ("yes", "no"), ("1.0", "0.0"), (True, False), (1.0, None)]
)
def test_in_tissue_is_read_in_all_its_spellings(
    make_h5ad: Callable[..., Path], yes: object, no: object
) -> None:
    def spell(adata: anndata.AnnData) -> None:
        column = pd.Series([no, no] + [yes] * (adata.n_obs - 2), index=adata.obs_names)
        adata.obs["in_tissue"] = column.astype("category") if isinstance(yes, str) else column

    raw = read(only(make_h5ad("S1", spell)))
    reason = "in_tissue is empty" if no is None else "not under tissue (in_tissue 0)"
    assert [why for _, why in raw.dropped] == [reason] * 2


def test_another_word_in_in_tissue_costs_one_row(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    def spell(adata: anndata.AnnData) -> None:
        adata.obs["in_tissue"] = ["maybe"] + ["1"] * (adata.n_obs - 1)

    make_h5ad("S1", spell, under="files")
    make_h5ad("S2", under="files")
    done, (failure,), _ = write_spots(
        tmp_path / "files", tmp_path / "out", SpotsConfig(patch=PATCH)
    )
    assert (done, failure.slide) == (["S2"], "S1")
    assert "is 'maybe', which is neither yes nor no" in failure.reason


def test_an_error_that_nobody_foresaw_costs_one_row(
    make_h5ad: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_h5ad("S1", under="files")
    make_h5ad("S2", under="files")
    whole = section_writer.SectionWriter.finish

    def fail(self: object, source: SectionSource, slides_out: Path | None) -> object:
        if source.section == "S1":
            raise ZeroDivisionError("division by zero")
        return whole(self, source, slides_out)  # type: ignore[arg-type]

    monkeypatch.setattr(section_writer.SectionWriter, "finish", fail)
    done, (failure,), _ = write_spots(
        tmp_path / "files", tmp_path / "out", SpotsConfig(patch=PATCH)
    )
    assert (done, failure.slide) == (["S2"], "S1")
    assert "ZeroDivisionError: division by zero (test_h5ad.py, line" in failure.reason


@pytest.mark.parametrize("names", [("pxl_row_in_fullres", "pxl_col_in_fullres"), ("y", "x")])
def test_positions_in_a_data_frame_are_read_by_their_names(
    make_h5ad: Callable[..., Path], names: tuple[str, str]
) -> None:
    def row_first(adata: anndata.AnnData) -> None:
        xy = np.asarray(adata.obsm["spatial"])
        adata.obsm["spatial"] = pd.DataFrame(
            {names[0]: xy[:, 1], names[1]: xy[:, 0]}, index=adata.obs_names
        )

    turned, plain = read(only(make_h5ad("S1", row_first))), read(only(make_h5ad("S2")))
    assert MIRRORED not in turned.warnings
    assert np.ptp(turned.centres()[:, 0]) == np.ptp(plain.centres()[:, 0])


@pytest.mark.parametrize(("layer", "taken"), [("raw_counts", True), ("spliced", False)])
def test_layers_are_counts_by_their_name_only(
    make_h5ad: Callable[..., Path], layer: str, taken: bool
) -> None:
    def normalised(adata: anndata.AnnData) -> None:
        adata.layers[layer] = adata.X.copy()
        scanpy.pp.normalize_total(adata, target_sum=1e4)

    source = only(make_h5ad("S1", normalised))
    if taken:
        assert f"taken from layers['{layer}']" in read(source).warnings[0]
        return
    with pytest.raises(InputError, match="is not a count"):
        read(source)


def test_the_column_that_names_the_libraries_is_told(make_h5ad: Callable[..., Path]) -> None:
    def second(adata: anndata.AnnData) -> None:
        adata.uns["spatial"]["lib_2"] = library_of(adata)
        adata.obs["sample"] = ["lib_S1", "lib_2"] * (adata.n_obs // 2) + ["lib_2"] * (
            adata.n_obs % 2
        )

    first, _ = find_section_sources(make_h5ad("S1", second))
    with pytest.raises(InputError, match=r"no obs\['library_id'\]") as caught:
        read(first)
    assert "rename the column sample of obs to library_id" in str(caught.value.fix)


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
