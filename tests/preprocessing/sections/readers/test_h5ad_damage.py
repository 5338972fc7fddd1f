"""Sections in .h5ad that cannot be used, and the reason that is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
import scanpy
from anndata_sections import PATCH, Change, as_cellxgene, library_of, only, read

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections import writer as section_writer
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.raw_section import SectionSource
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import detect_format, find_section_sources

pytestmark = [
    pytest.mark.usefixtures("plain_overlays"),
    pytest.mark.filterwarnings(
        "ignore:Variable names are not unique", "ignore:Use `squidpy", "ignore::FutureWarning"
    ),
]


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
    assert "ZeroDivisionError: division by zero (test_h5ad_damage.py, line" in failure.reason
