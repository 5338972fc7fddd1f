"""`tcgn-mil encode` on tiles of other tools: the same features as from our own tile files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tcgn_mil.experiments import main as cli
from tcgn_mil.io.feature_files import read_features
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.io.tile_files import write_tiles
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.tiles.grid import lay_grid
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (90, 90, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    path = tmp_path_factory.mktemp("slides") / "a.tiff"
    write_pyramid(path, image, mpp=0.5)
    return path


@pytest.fixture(scope="module")
def tiles(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with our own tile file of all tiles of the slide."""
    folder = tmp_path_factory.mktemp("tiles")
    with open_slide(slide) as opened:
        spec = TileSpec.for_slide(
            PatchSize(), slide_mpp=opened.mpp, level_downsamples=opened.level_downsamples
        )
        coords = lay_grid(opened.size, spec)
        tiles = TileSet("a", coords, np.ones(len(coords), np.float32), spec, opened.size)
    write_tiles(folder / "a.h5", tiles, slide_file=slide.name)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("layout", ["clam", "trident", "hest"])
def test_exported_tiles_encode_to_the_same_features(
    monkeypatch: pytest.MonkeyPatch, slide: Path, tiles: Path, tmp_path: Path, layout: str
) -> None:
    exported = (
        "export-tiles",
        tiles,
        "--format",
        layout,
        "--slides",
        slide,
        "--out",
        tmp_path / layout,
    )
    assert run(monkeypatch, *exported) == 0
    found = {}
    for name, folder in (("tiles", tiles), (layout, tmp_path / layout)):
        out = tmp_path / f"features-{name}"
        options = (
            "--tiles",
            folder,
            "--encoder",
            "timm:test_resnet",
            "--untrained",
            "--device",
            "cpu",
            "--out",
            out,
        )
        assert run(monkeypatch, "encode", slide, *options) == 0
        found[name] = read_features(out / "a.h5")
    (ours, our_coords, our_info), (theirs, their_coords, info) = found["tiles"], found[layout]
    assert np.array_equal(our_coords, their_coords)
    assert info.spec == our_info.spec
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_an_unknown_layout_and_missing_slides_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiles: Path, tmp_path: Path
) -> None:
    for layout, part in (("zarr", "unknown tile layout"), ("hest", "--slides")):
        assert (
            run(monkeypatch, "export-tiles", tiles, "--format", layout, "--out", tmp_path / "o")
            == 2
        )
        assert part in capsys.readouterr().err
