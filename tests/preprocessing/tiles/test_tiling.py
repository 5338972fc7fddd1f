"""Tests of tiling slides: the files, failures, and resuming a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.io.tile_files import read_tile_settings, read_tiles
from tcgn_mil.preprocessing.slides.table import SlideEntry, find_slides
from tcgn_mil.preprocessing.tiles import cohort as cohort_of_tiles
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.stain import stain_target
from tcgn_mil.preprocessing.tiles.tiling import overlay_path, tile_path, tile_slide
from tcgn_mil.types.tile_geometry import PatchSize


def entry(path: Path, **given: float) -> SlideEntry:
    return SlideEntry(path.stem, path.stem, path, **given)


@pytest.fixture
def glass(make_slide: Callable[..., Path]) -> Path:
    noise = np.random.default_rng(0).normal(235, 2, size=(900, 1200, 3))
    return make_slide("glass.tiff", noise.astype(np.uint8))


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "failures.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_tiles_lie_on_tissue_and_are_written_with_an_overlay(
    pyramid: Path, painted: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    tiles = tile_slide(entry(pyramid), TileSettings(), tmp_path)
    stored = read_tiles(tile_path(tmp_path, "painted"))
    assert np.array_equal(stored.coords, tiles.coords)
    assert stored.spec == tiles.spec
    assert stored.slide_size == (2400, 1800)
    side = round(tiles.spec.level0_px)
    shares = np.array(
        [painted[1][y : y + side, x : x + side].mean() for x, y in tiles.coords.tolist()]
    )
    assert np.abs(shares - tiles.tissue_fraction).mean() < 0.05
    assert (tiles.tissue_fraction >= TileSettings().min_tissue).all()
    with Image.open(overlay_path(tmp_path, "painted")) as picture:
        assert picture.size[0] >= 1600


def test_min_tissue_selects(pyramid: Path, tmp_path: Path) -> None:
    counts = [
        len(tile_slide(entry(pyramid), TileSettings(min_tissue=least), tmp_path))
        for least in (0, 0.1, 0.95)
    ]
    assert counts[0] == 15 * 11  # the whole grid of 154.56 px tiles
    assert counts[0] > counts[1] > counts[2] > 0


def test_stride_makes_tiles_overlap(pyramid: Path, tmp_path: Path) -> None:
    plain = tile_slide(entry(pyramid), TileSettings(), tmp_path)
    dense = tile_slide(entry(pyramid), TileSettings(stride_px=56), tmp_path)
    assert 3 < len(dense) / len(plain) < 5


def test_a_cohort_goes_on_past_a_broken_slide_and_lists_it(
    pyramid: Path, glass: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.svs").write_text("no slide")
    Image.new("RGB", (500, 500), "pink").save(tmp_path / "nompp.png")
    Image.new("RGB", (10, 500), "pink").save(tmp_path / "sliver.png")
    Image.new("RGB", (500, 500), "pink").save(tmp_path / "coarse.png")
    entries = [
        entry(tmp_path / "text.svs"),
        entry(tmp_path / "gone.svs"),
        entry(tmp_path / "nompp.png"),
        entry(tmp_path / "sliver.png", mpp=0.5),
        entry(tmp_path / "coarse.png", mpp=2.0),
        entry(glass),
        entry(pyramid),
    ]
    out = tmp_path / "tiles"
    done, failures = tile_cohort(entries, TileSettings(), out)
    assert done == ["painted"]
    assert [failure.slide for failure in failures] == [
        "text",
        "gone",
        "nompp",
        "sliver",
        "coarse",
        "glass",
    ]
    told = rows(out)
    assert list(told[0]) == ["slide", "stage", "reason", "likely_fix"]
    reasons = [row["reason"] for row in told]
    expected = [
        "not a slide of a known format",
        "no such slide",
        "not say its resolution",
        "too few",
        "too coarse",
        "no tissue",
    ]
    assert all(part in reason for part, reason in zip(expected, reasons, strict=True)), reasons
    assert all(row["likely_fix"] and row["stage"] == "tile" for row in told)
    assert {path.name for path in out.iterdir()} == {
        "painted.h5",
        "painted.jpg",
        "painted_thumbnail.jpg",
        "failures.csv",
    }


def test_failures_of_an_earlier_run_are_forgotten(
    pyramid: Path, glass: Path, tmp_path: Path
) -> None:
    tile_cohort([entry(glass), entry(pyramid)], TileSettings(), tmp_path)
    assert len(rows(tmp_path)) == 1
    tile_cohort([entry(pyramid)], TileSettings(), tmp_path)
    assert not (tmp_path / "failures.csv").exists()


class TestResume:
    def test_finished_slides_are_left_alone(self, pyramid: Path, tmp_path: Path) -> None:
        tile_cohort([entry(pyramid)], TileSettings(), tmp_path)
        before = tile_path(tmp_path, "painted").stat().st_mtime_ns
        assert tile_cohort([entry(pyramid)], TileSettings(), tmp_path).done == ["painted"]
        assert tile_path(tmp_path, "painted").stat().st_mtime_ns == before

    @pytest.mark.parametrize(
        "changed",
        [
            {"patch": PatchSize(100, 0.69)},
            {"patch": PatchSize(112, 0.6)},
            {"stride_px": 80},
            {"min_tissue": 0.5},
            {"tissue_mpp": 6.0},
        ],
    )
    def test_other_settings_make_it_again(
        self, pyramid: Path, tmp_path: Path, changed: dict
    ) -> None:
        tile_cohort([entry(pyramid)], TileSettings(), tmp_path)
        settings = replace(TileSettings(), **changed)
        tile_cohort([entry(pyramid)], settings, tmp_path)
        spec, stored = read_tile_settings(tile_path(tmp_path, "painted"))
        assert spec.patch == settings.patch
        assert stored == settings.as_dict()

    def test_another_slide_under_the_same_name_makes_it_again(
        self,
        make_slide: Callable[..., Path],
        painted: tuple[np.ndarray, np.ndarray],
        tmp_path: Path,
    ) -> None:
        out = tmp_path / "tiles"
        path = make_slide("a.tiff", painted[0])
        tile_cohort([entry(path)], TileSettings(), out)
        make_slide("a.tiff", painted[0][:, :2000])
        tile_cohort([entry(path)], TileSettings(), out)
        assert read_tiles(tile_path(out, "a")).slide_size == (2000, 1800)

    def test_a_damaged_tile_file_is_made_again(self, pyramid: Path, tmp_path: Path) -> None:
        tile_cohort([entry(pyramid)], TileSettings(), tmp_path)
        path = tile_path(tmp_path, "painted")
        path.write_bytes(path.read_bytes()[:500])
        assert tile_cohort([entry(pyramid)], TileSettings(), tmp_path).done == ["painted"]
        assert len(read_tiles(path)) > 0

    def test_a_redo_that_fails_keeps_the_old_file_whole_and_away_from_the_next_verb(
        self, pyramid: Path, tmp_path: Path
    ) -> None:
        tile_slide(entry(pyramid), TileSettings(), tmp_path)
        _, failures = tile_cohort([entry(pyramid)], TileSettings(PatchSize(4096, 8.0)), tmp_path)
        assert len(failures) == 1
        assert not tile_path(tmp_path, "painted").exists()
        away = tmp_path / "set-aside"
        assert read_tiles(tile_path(away, "painted")).spec.tile_px == 112
        # With the former settings it is used again.
        assert tile_cohort([entry(pyramid)], TileSettings(), tmp_path).done == ["painted"]
        assert not away.exists()


@pytest.fixture(scope="module")
def slides(
    painted: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> list[SlideEntry]:
    """List good and bad slides in turn."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "text.svs").write_text("no slide")
    Image.new("RGB", (10, 500), "pink").save(folder / "sliver.png")
    Image.fromarray(painted[0][500:1300, 600:1800]).save(folder / "good.png")
    good = [SlideEntry(name, "patient", folder / "good.png", mpp=0.5) for name in "abc"]
    return [entry(folder / "text.svs"), good[0], entry(folder / "sliver.png", mpp=0.5), *good[1:]]


class TestWorkers:
    def test_files_do_not_depend_on_their_number(
        self, slides: list[SlideEntry], tmp_path: Path
    ) -> None:
        told = [tile_cohort(slides, TileSettings(), tmp_path / str(n), workers=n) for n in (1, 2)]
        assert told[0] == told[1]
        assert told[0].done == ["a", "b", "c"]
        one, two = (
            {path.name: path.read_bytes() for path in (tmp_path / str(n)).iterdir()} for n in (1, 2)
        )
        assert sorted(one) == sorted(two)
        assert {name for name in one if one[name] != two[name]} == set()
        assert "failures.csv" in one

    def test_resume_redoes_what_changed_and_no_more(
        self, slides: list[SlideEntry], tmp_path: Path
    ) -> None:
        tile_cohort(slides, TileSettings(), tmp_path)
        tile_path(tmp_path, "b").unlink()
        before = {name: tile_path(tmp_path, name).stat().st_mtime_ns for name in "ac"}
        assert tile_cohort(slides, TileSettings(), tmp_path, workers=2).done == ["a", "b", "c"]
        assert before == {name: tile_path(tmp_path, name).stat().st_mtime_ns for name in "ac"}
        assert len(read_tiles(tile_path(tmp_path, "b"))) > 0
        tile_cohort(slides, TileSettings(stride_px=100), tmp_path, workers=2)
        assert all(read_tiles(tile_path(tmp_path, name)).spec.stride_px == 100 for name in "abc")

    def test_a_slide_that_kills_its_process_costs_a_row(
        self, slides: list[SlideEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(Path(__file__).parents[1])
        from worker_tasks import DeadlyEntry

        cohort = [slides[1], DeadlyEntry("killer", "p", slides[1].path), *slides[2:]]
        (tmp_path / "killer.h5").write_bytes(b"")  # so that resume opens the slide too
        done, failures = tile_cohort(cohort, TileSettings(), tmp_path, workers=2)
        assert done == ["a", "b", "c"]
        assert [failure.slide for failure in failures] == ["killer", "sliver"]
        assert "died" in rows(tmp_path)[0]["reason"]
        assert rows(tmp_path)[0]["likely_fix"]

    def test_none_is_too_few(self, slides: list[SlideEntry], tmp_path: Path) -> None:
        with pytest.raises(InputError, match="0 workers"):
            tile_cohort(slides, TileSettings(), tmp_path, workers=0)


@pytest.mark.parametrize(
    "settings",
    [{"min_tissue": 1.1}, {"min_tissue": float("nan")}, {"stride_px": 0}, {"tissue_mpp": 50}],
)
def test_settings_are_checked(settings: dict) -> None:
    with pytest.raises(InputError):
        TileSettings(**settings)


def test_a_single_slide_raises_its_reason(glass: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"glass\.tiff: shows no tissue.*Fix: "):
        tile_slide(entry(glass), TileSettings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.realdata
def test_real_slides_of_three_kinds(real_data: Path, tmp_path: Path) -> None:
    slides = find_slides(real_data / "slides")
    done, failures = tile_cohort(slides, TileSettings(), tmp_path)
    assert done == ["A9K0_1", "A9K0_2", "CMU-1-Small-Region"]
    assert [failure.slide for failure in failures] == ["tcga-cr-7395-01a-01-ts1"]
    # A resolution that is given for the folder contradicts the slides that state another.
    done, failures = tile_cohort(
        find_slides(real_data / "slides", mpp=0.5), TileSettings(), tmp_path
    )
    assert done == ["CMU-1-Small-Region", "tcga-cr-7395-01a-01-ts1"]
    assert all("0.5 was given" in failure.reason for failure in failures)
    frozen = read_tiles(tile_path(tmp_path, "tcga-cr-7395-01a-01-ts1"))
    assert 400 < len(frozen) < 28 * 23  # a section that nearly fills its field
    regions = find_slides(real_data / "tcga_tiles", mpp=0.25)[:3]
    assert tile_cohort(regions, TileSettings(), tmp_path / "regions").failures == []
    assert all(
        len(read_tiles(tile_path(tmp_path / "regions", each.slide_id))) == 9 for each in regions
    )


@pytest.mark.parametrize("stain", [None, "macenko"])
def test_recorded_settings_tile_another_slide_alike(stain: str | None) -> None:
    target = None if stain is None else stain_target(stain)
    settings = TileSettings(
        PatchSize(100, 0.5), stride_px=50, min_tissue=0.4, max_blur=1, stain=target
    )
    recorded = json.loads(json.dumps({"stride_px": 50, **settings.as_dict()}))
    assert TileSettings.like(PatchSize(100, 0.5), recorded) == settings
    assert TileSettings.like(PatchSize(100, 0.5), {}) == TileSettings(PatchSize(100, 0.5))
    with pytest.raises(InputError, match="settings are invalid"):
        TileSettings.like(PatchSize(), {"stain": {"method": "macenko"}})


def test_an_error_that_no_reader_foresaw_costs_a_row(
    slides: list[SlideEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(cohort_of_tiles, "tile_slide", fail)
    done, failures = tile_cohort(slides[1:2], TileSettings(), tmp_path)
    assert done == []
    assert "ZeroDivisionError: division by zero" in failures[0].reason
    assert failures[0].likely_fix
