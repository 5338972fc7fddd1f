"""Tests of the contact sheet: numbers, outliers, escaping of ids, sorting and size."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from page_structure import PageStructure
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure
from tcgn_mil.io.tile_files import write_tiles
from tcgn_mil.preprocessing.tiles import contact_sheet, summary
from tcgn_mil.preprocessing.tiles.contact_sheet import write_contact_sheet
from tcgn_mil.preprocessing.tiles.summary import (
    read_and_keep_facts,
    robust_z,
    summarise_folder,
    summarise_slide,
    tiling_facts,
)
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import RejectedTiles, TileQuality, TileSet

SPEC = TileSpec.for_slide(PatchSize(100, 0.5), slide_mpp=0.25, level_downsamples=(1.0,))
NASTY = "<b>&amp;\"'"


def slide_tiles(
    name: str, kept: int = 100, rejected: int = 6, *, focus: float = 1.0, spec: TileSpec = SPEC
) -> TileSet:
    rng = np.random.default_rng(kept)

    def quality(count: int) -> TileQuality:
        jitter = rng.normal(0, 0.01, count)
        return TileQuality(
            (focus + jitter).astype(np.float32),
            np.zeros(count, np.float32),
            np.full(count, 0.1, np.float32),
            np.zeros(count, np.float32),
        )

    verdict = (np.arange(rejected) % 3 + 1).astype(np.uint8)
    lost = RejectedTiles(
        np.zeros((rejected, 2), int), np.ones(rejected, np.float32), quality(rejected), verdict
    )
    half = np.full(kept, 0.5, np.float32)
    return TileSet(
        name,
        np.zeros((kept, 2), int),
        half,
        spec,
        (40_000, 20_000),
        f"P-{name}",
        quality(kept),
        lost,
    )


def write(folder: Path, tiles: TileSet) -> None:
    write_tiles(folder / f"{tiles.slide_id}.h5", tiles, slide_file="x.svs")
    Image.effect_noise((1600, 1200), 90).convert("RGB").save(
        folder / f"{tiles.slide_id}.jpg", quality=90
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write ten ordinary slides, three odd ones and a failed one.

    Of the odd ones one has few tiles, one is out of focus, and the quality of one is unknown.
    """
    folder = tmp_path_factory.mktemp("tiles")
    for index in range(10):
        write(folder, slide_tiles(f"s{index}", 900 + 20 * index, focus=1 + index / 100))
    write(folder, slide_tiles("sparse", 20))
    write(folder, slide_tiles(f"blurred{NASTY}", 1000, 90, focus=0.3))
    plain = slide_tiles("plain", 950, 0)
    write(folder, TileSet("plain", plain.coords, plain.tissue_fraction, SPEC, plain.slide_size))
    write_tiles(folder / "stale.h5", slide_tiles("stale", 5), slide_file="x.svs")
    write_contact_sheet(folder, [Failure("stale", "tile", f"is damaged {NASTY}", "copy it again")])
    return folder


def test_numbers_of_a_slide() -> None:
    found = summarise_slide(slide_tiles("a", 100, 7))
    assert (found.kept, found.pen, found.out_of_focus, found.fold) == (100, 3, 2, 2)
    assert found.tissue_mm2 == pytest.approx(100 * 0.5 * 0.05**2)
    assert found.tissue_share == pytest.approx(found.tissue_mm2 / (10 * 5), abs=1e-4)
    assert found.median_focus == pytest.approx(1.0, abs=0.01)
    assert found.pen_share == pytest.approx(0.1)
    assert found.rejected_share == pytest.approx(7 / 107)


def test_overlapping_tiles_share_their_tissue() -> None:
    dense = TileSpec.for_slide(
        PatchSize(100, 0.5), slide_mpp=0.25, level_downsamples=(1.0,), stride_px=50
    )
    assert (
        summarise_slide(slide_tiles("a", 400, spec=dense)).tissue_mm2
        == summarise_slide(slide_tiles("a", 100)).tissue_mm2
    )


def test_unknown_numbers_stay_unknown(cohort: Path) -> None:
    (plain,) = (slide for slide in summarise_folder(cohort).slides if slide.slide == "plain")
    assert plain.median_focus is None
    assert plain.pen_share is None
    foreign = TileSet(
        "f", np.zeros((2, 2), int), np.full(2, np.nan, np.float32), SPEC, (9000, 9000)
    )
    assert summarise_slide(foreign).tissue_mm2 is None


class TestKeptFacts:
    """A file that was checked is not read again for the page, unless it changed since."""

    LONG_AGO = (1, 1)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        write_tiles(tmp_path / "a.h5", slide_tiles("a", 7), slide_file="x")
        os.utime(tmp_path / "a.h5", self.LONG_AGO)
        return tmp_path / "a.h5"

    def test_a_file_is_read_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read_and_keep_facts(path)
        monkeypatch.delattr(summary, "read_tile_record")
        assert tiling_facts(path).summary.kept == 7
        assert [slide.kept for slide in summarise_folder(path.parent).slides] == [7]
        assert "1 slides tiled" in write_contact_sheet(path.parent).read_text(encoding="utf-8")

    def test_another_file_in_its_place_is_read(self, path: Path) -> None:
        read_and_keep_facts(path)
        write_tiles(path, slide_tiles("a", 8), slide_file="x")
        os.utime(path, self.LONG_AGO)
        assert tiling_facts(path).summary.kept == 8
        path.unlink()
        with pytest.raises(InputError, match="no such tile file"):
            tiling_facts(path)

    def test_a_young_file_may_change_without_a_sign(self, path: Path) -> None:
        os.utime(path)
        read_and_keep_facts(path)
        state = path.stat()
        other = slide_tiles("a", 7, focus=0.5)
        write_tiles(path.with_name("b"), other, slide_file="x")
        path.write_bytes(path.with_name("b").read_bytes())
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_ino) == (state.st_size, state.st_ino)
        assert tiling_facts(path).summary.median_focus == pytest.approx(0.5, abs=0.01)


def test_odd_slides_are_named(cohort: Path) -> None:
    flags = {
        slide.slide: slide.flags for slide in summarise_folder(cohort, without=["stale"]).slides
    }
    assert "few tiles" in flags["sparse"]
    assert "low focus" in flags[f"blurred{NASTY}"]
    assert "many rejected" in flags[f"blurred{NASTY}"]
    assert all(not flags[f"s{index}"] for index in range(10))


def test_robust_z_of_few_or_equal_values_is_nothing() -> None:
    assert robust_z(np.array([1.0, 2, 1000])).tolist() == [0, 0, 0]
    assert robust_z(np.full(20, 3.0)).tolist() == [0] * 20
    assert robust_z(np.array([0.0] * 20 + [0.5]))[-1] > 3.5
    assert robust_z(np.array([*range(20), np.nan]))[-1] == 0
    normal = np.random.default_rng(0).normal(5, 3, 20_000)
    assert robust_z(normal) == pytest.approx((normal - 5) / 3, abs=0.15)


def test_another_tile_size_is_named(tmp_path: Path) -> None:
    other = TileSpec.for_slide(PatchSize(100, 1.0), slide_mpp=0.25, level_downsamples=(1.0,))
    for name, spec in (("a", SPEC), ("b", SPEC), ("c", other)):
        write_tiles(tmp_path / f"{name}.h5", slide_tiles(name, spec=spec), slide_file="x")
    assert [slide.flags for slide in summarise_folder(tmp_path).slides] == [
        "",
        "",
        "another tile size",
    ]


def test_the_table_has_the_same_slides(cohort: Path) -> None:
    with (cohort / "tile_summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["slide"] for row in rows] == sorted(row["slide"] for row in rows)
    assert len(rows) == 13
    assert {row["slide"]: row["kept"] for row in rows}["sparse"] == "20"
    assert {row["slide"]: row["median_focus"] for row in rows}["plain"] == ""


def test_the_page_needs_nothing_but_itself_and_its_folder(cohort: Path) -> None:
    page = (cohort / "contact_sheet.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:|//)""", page)
    assert page.count("data:image/jpeg;base64,") == 13
    assert "blurred%3Cb%3E%26amp%3B%22%27.jpg" in page
    assert "<b>" not in page
    assert page.index("is damaged") < page.index('id="slides"')
    assert "P-stale" not in page  # its tile file is of an earlier run
    assert len(page) / 13 < 15_000  # 500 slides stay under 8 MB


def test_a_file_that_cannot_be_read_is_among_the_failures(tmp_path: Path) -> None:
    write_tiles(tmp_path / "a.h5", slide_tiles("a"), slide_file="x")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:700])
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    page = write_contact_sheet(tmp_path).read_text(encoding="utf-8")
    assert "cut.h5 cannot be read as HDF5" in page
    assert "<img" not in page


def test_an_empty_folder_gives_an_empty_page(tmp_path: Path) -> None:
    page = write_contact_sheet(tmp_path / "new", [Failure("a", "tile", "why", "fix")])
    assert "0 slides tiled, 1 failed" in page.read_text(encoding="utf-8")


def after(chromium: str, page: Path, script: str, tmp_path: Path) -> str:
    """Return the page after a script has run in it."""
    copy = page.with_name(f"copy-{tmp_path.name}.html")
    copy.write_text(
        page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"),
        "utf-8",
    )
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--dump-dom",
    ]
    return subprocess.run(
        [*command, copy.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def shown(dom: str) -> list[str]:
    rows = re.findall(
        r"<tr( hidden=\"\")?>\s*<td>(?:<a .*?</a>)?</td>\s*<td class=\"text\" data-value=\"(.*?)\"",
        dom,
    )
    return [name for hidden, name in rows if not hidden]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("column", "first", "last"),
    [("tiles", "sparse", "s9"), ("focus", "blurred", "plain"), ("slide", "blurred", "sparse")],
)
def test_a_click_on_a_heading_sorts(
    chromium: str, cohort: Path, tmp_path: Path, column: str, first: str, last: str
) -> None:
    click = f"heads.find(head => head.textContent === '{column}').click()"
    names = shown(after(chromium, cohort / "contact_sheet.html", click, tmp_path))
    assert len(names) == 13
    if column == "tiles":
        assert names[0] == first
    else:
        assert names[0].startswith(first)
        assert names[-1] == last  # unknown values come last


@pytest.mark.browser
def test_text_filters(chromium: str, cohort: Path, tmp_path: Path) -> None:
    script = "filter.value = 'FOCUS p-blur'; applyFilter()"
    dom = after(chromium, cohort / "contact_sheet.html", script, tmp_path)
    assert [name[:7] for name in shown(dom)] == ["blurred"]
    assert "1 of 13 slides" in dom


def test_the_page_can_be_read_with_a_keyboard_and_a_screen_reader(cohort: Path) -> None:
    text = (cohort / "contact_sheet.html").read_text(encoding="utf-8")
    assert PageStructure(text).problems == []
    assert text.count('<button type="button" class="sort">') == 15


def test_pictures_of_many_slides_are_linked_and_not_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "MOST_EMBEDDED", 2)
    for name in ("A 1", "B", "C"):
        write(tmp_path, slide_tiles(name))
    (tmp_path / "C.jpg").unlink()
    page = write_contact_sheet(tmp_path).read_text(encoding="utf-8")
    assert "base64" not in page
    assert 'src="A%201.jpg"' in page
    assert 'src="B.jpg"' in page
    assert "C.jpg" not in page.replace('href="C.jpg"', "")
