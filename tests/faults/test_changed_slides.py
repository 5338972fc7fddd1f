"""Tiles, features and predictions of slides that changed are made again, and it is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import pytest
from changing_slides import Cohort, ask, edit_in_place, made_again, paint, write_encoder

from tcgn_mil.io.tile_files import read_tiles


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200_000])


def replaced(path: Path) -> None:
    """Put another slide in the place, with an older time."""
    paint(path, seed=9)
    os.utime(path, (1, 1))


def move_tiles(path: Path) -> None:
    """Move all tiles of a tile file by one pixel; their number stays."""
    with h5py.File(path, "r+") as file:
        file["coords"][:] = file["coords"][:] + 1


class TestTile:
    @pytest.mark.parametrize("change", [edit_in_place, replaced])
    def test_a_slide_with_other_pixels_is_tiled_again(
        self, cohort: Cohort, change: Callable[[Path], None]
    ) -> None:
        before = cohort.files_in("tiles")
        change(cohort.slide("S2"))
        answer = cohort.tile()
        assert (
            "1 slide changed since the last run, or the settings did, and is tiled again: S2"
            in (answer.err)
        )
        assert made_again(before, cohort.files_in("tiles")) == ["S2"]
        assert "again" not in cohort.tile().err

    def test_a_slide_that_is_cut_off_fails_and_leaves_no_old_tiles(self, cohort: Cohort) -> None:
        cut_off(cohort.slide("S2"))
        answer = cohort.tile()
        assert answer.code == 1
        assert sorted(cohort.files_in("tiles")) == ["S1", "S3"]
        assert "1 slide failed" in answer.err

    def test_a_slide_that_is_gone_comes_back_without_work(self, cohort: Cohort) -> None:
        before, away = cohort.files_in("tiles"), cohort.folder / "away.tiff"
        cohort.slide("S2").rename(away)
        assert cohort.tile().code == 1
        assert sorted(cohort.files_in("tiles")) == ["S1", "S3"]
        away.rename(cohort.slide("S2"))
        assert cohort.tile().code == 0
        assert cohort.files_in("tiles") == before

    @pytest.mark.parametrize("options", [("--min-tissue", 0.9), ("--stride-px", 16)])
    def test_other_options_tile_every_slide_again(
        self, cohort: Cohort, options: tuple[object, ...]
    ) -> None:
        before = cohort.files_in("tiles")
        assert "3 slides changed since" in cohort.tile(*options).err
        assert made_again(before, cohort.files_in("tiles")) == ["S1", "S2", "S3"]

    def test_another_patient_and_a_row_that_left(self, cohort: Cohort) -> None:
        cohort.list_slides("S1", "S2", patient="P")
        answer = cohort.tile()
        assert "1 slide is no longer listed" in answer.err
        assert sorted(cohort.files_in("tiles")) == ["S1", "S2"]
        assert read_tiles(cohort.tiles_of("S1")).patient_id == "P"
        assert (cohort.folder / "tiles" / "set-aside" / "S3_thumbnail.jpg").is_file()

    def test_a_copy_of_the_slides_is_recognised(self, cohort: Cohort) -> None:
        before = cohort.files_in("tiles")
        for path in (cohort.folder / "slides").iterdir():
            os.utime(path)
        assert "again" not in cohort.tile().err
        assert cohort.files_in("tiles") == before


class TestEncode:
    def test_nothing_is_done_again_without_a_change(self, cohort: Cohort) -> None:
        before = cohort.files_in("features")
        assert "again" not in cohort.encode().err
        assert cohort.files_in("features") == before

    def test_tiles_that_moved_are_encoded_again(self, cohort: Cohort) -> None:
        before = cohort.files_in("features")
        move_tiles(cohort.tiles_of("S2"))
        answer = cohort.encode()
        assert "1 slide has other pixels, tiles or options" in answer.err
        assert made_again(before, cohort.files_in("features")) == ["S2"]

    def test_another_patient_is_encoded_again(self, cohort: Cohort) -> None:
        before = cohort.files_in("features")
        cohort.list_slides("S1", "S2", "S3", patient="P")
        cohort.tile()
        cohort.encode()
        assert made_again(before, cohort.files_in("features")) == ["S1", "S2", "S3"]

    def test_a_changed_slide_is_refused_until_it_is_tiled_again(self, cohort: Cohort) -> None:
        before = cohort.files_in("features")
        edit_in_place(cohort.slide("S2"))
        assert cohort.encode().code == 1
        failures = (cohort.folder / "features" / "failures.csv").read_text()
        assert "changed since its tiles were laid" in failures
        assert sorted(cohort.files_in("features")) == ["S1", "S3"]
        cohort.tile()
        assert cohort.encode().code == 0
        assert made_again(before, cohort.files_in("features")) == ["S2"]

    def test_a_slide_that_is_gone_has_no_features(self, cohort: Cohort) -> None:
        cohort.slide("S2").unlink()
        assert cohort.encode().code == 1
        assert sorted(cohort.files_in("features")) == ["S1", "S3"]

    def test_another_precision_encodes_again_if_it_is_given(self, cohort: Cohort) -> None:
        before = cohort.files_in("features")
        answer = cohort.encode("--precision", "bf16-mixed")
        assert "3 slides have other pixels, tiles or options" in answer.err
        half = cohort.files_in("features")
        assert made_again(before, half) == ["S1", "S2", "S3"]
        # auto keeps what another machine made, and says so.
        assert "of an earlier run with precision bf16-mixed kept" in cohort.encode().err
        assert cohort.files_in("features") == half

    def test_another_encoder_encodes_again(self, cohort: Cohort, tmp_path: Path) -> None:
        before = cohort.files_in("features")
        other = write_encoder(tmp_path / "other", mean=0.7)
        assert "3 slides have other" in cohort.encode(encoder=other).err
        assert made_again(before, cohort.files_in("features")) == ["S1", "S2", "S3"]

    def test_a_row_that_left_leaves_no_features(self, cohort: Cohort) -> None:
        cohort.list_slides("S1", "S2")
        assert "1 slide is no longer listed" in cohort.encode().err
        assert sorted(cohort.files_in("features")) == ["S1", "S2"]

    @pytest.mark.parametrize("young", [False, True])
    def test_files_of_an_earlier_version_count_if_their_slide_is_older(
        self, cohort: Cohort, young: bool
    ) -> None:
        for part in ("tiles", "features"):
            for path in (cohort.folder / part).glob("*.h5"):
                forget(path)
        before = cohort.files_in("features")
        if young:
            os.utime(cohort.slide("S2"), (4e9, 4e9))
        cohort.encode()
        assert made_again(before, cohort.files_in("features")) == (["S2"] if young else [])
        before = cohort.files_in("tiles")
        cohort.tile()
        assert made_again(before, cohort.files_in("tiles")) == (["S2"] if young else [])


class TestExportTiles:
    @pytest.mark.parametrize("layout", ["geojson", "clam", "trident"])
    def test_a_slide_whose_tiles_left_is_not_exported_any_more(
        self, cohort: Cohort, tmp_path: Path, layout: str
    ) -> None:
        def exported() -> tuple[str, list[str]]:
            tiles = cohort.folder / "tiles"
            answer = ask("export-tiles", tiles, "--format", layout, "--out", tmp_path / "out")
            files = (path for path in (tmp_path / "out").rglob("S*") if path.is_file())
            return answer.err, sorted(f"{path.parent.name}/{path.stem[:2]}" for path in files)

        before = exported()[1]
        cohort.tiles_of("S2").unlink()
        said, after = exported()
        assert "1 slide is no longer listed" in said
        assert len(after) == len(before) == 3
        assert [name for name in after if name not in before] == ["set-aside/S2"]

    def test_pixels_of_a_changed_slide_are_not_exported(
        self, cohort: Cohort, tmp_path: Path
    ) -> None:
        edit_in_place(cohort.slide("S2"))
        slides, out = ("--slides", cohort.folder / "slides.csv"), tmp_path / "out"
        options = (cohort.folder / "tiles", "--format", "hest", *slides, "--out", out)
        assert ask("export-tiles", *options).code == 1
        assert "S2" in (out / "failures.csv").read_text()
        assert "changed since its tiles were laid" in (out / "failures.csv").read_text()


def forget(path: Path) -> None:
    """Remove from a file what it was made from, as in files of earlier versions."""
    with h5py.File(path, "r+") as file:
        for name in ("made_from", "slide_digest"):
            file.attrs.pop(name, None)
        file.attrs["provenance"] = str(file.attrs["provenance"]).replace("made_from", "unknown")


@pytest.mark.slow
class TestPredict:
    def test_slides_that_changed_left_or_cannot_be_read_are_not_predicted_from_old_features(
        self, cohort: Cohort, slide_model: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "predictions"

        def predict() -> tuple[dict[str, list[float]], str]:
            options = ("--encoder", cohort.encoder, "--keep-features", "--out", out)
            slides = cohort.folder / "slides"
            answer = ask("predict", "--model", slide_model, "--slides", slides, *options)
            table = anndata.read_h5ad(out / "predicted.h5ad").to_df()
            return {str(name): list(row) for name, row in table.iterrows()}, answer.err

        first, _ = predict()
        assert sorted(first) == ["S1", "S2", "S3"]
        edit_in_place(cohort.slide("S1"))
        cut_off(cohort.slide("S2"))
        cohort.slide("S3").rename(cohort.slide("S4"))
        second, said = predict()
        assert sorted(second) == ["S1", "S4"]
        assert second["S1"] != first["S1"]
        assert second["S4"] == first["S3"]
        assert "1 slide has other pixels" in said
        assert "the results of an earlier run were moved" in said
        assert sorted(path.stem for path in (out / "maps").glob("*.png")) == ["S1", "S4"]
        assert (out / "set-aside" / "maps" / "S3.png").is_file()

    def test_maps_of_a_patient_who_left_the_features_do_not_stay(
        self, cohort: Cohort, slide_model: Path, tmp_path: Path
    ) -> None:
        features, out = tmp_path / "features", tmp_path / "out"
        shutil.copytree(cohort.folder / "features", features)
        options = ("--model", slide_model, "--features", features, "--allow-other-size")
        assert ask("predict", *options, "--out", out).code == 0
        (features / "S2.h5").unlink()
        answer = ask("predict", *options, "--out", out)
        assert "because features changed since" in answer.err
        assert sorted(path.stem for path in (out / "maps").glob("*.png")) == ["S1", "S3"]
