"""A folder that rests is listed once, and one that changed is listed again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcgn_mil.file_formats.folder_listing import remembered
from tcgn_mil.preprocessing.interop.tile_readers import find_tile_file
from tcgn_mil.preprocessing.slides.folder import existing_spelling


def rest(folder: Path) -> None:
    """Make a folder look as if nothing changed in it for long."""
    os.utime(folder, (1e9, 1e9))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_a_folder_at_rest_is_remembered(tmp_path: Path) -> None:
    calls = []

    @remembered
    def names(folder: Path) -> list[str]:
        calls.append(folder)
        return names_in(folder)

    assert names(tmp_path) == names(tmp_path) == []
    assert len(calls) == 2  # it was made just now and may change without a sign
    rest(tmp_path)
    assert names(tmp_path) == names(tmp_path) == []
    assert len(calls) == 3
    (tmp_path / "new").touch()
    assert names(tmp_path) == ["new"]


def test_another_folder_of_the_same_name_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = remembered(names_in)
    for name in ("one", "two"):
        inner = tmp_path / name / "tiles"
        inner.mkdir(parents=True)
        (inner / name).touch()
        rest(inner)
        monkeypatch.chdir(tmp_path / name)
        assert listing(Path("tiles")) == [name]


def test_a_missing_folder_raises_the_error_of_the_function(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remembered(names_in)(tmp_path / "missing")


def test_tile_files_are_found_without_listing_the_folder_for_each_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "20x_224px_0px_overlap" / "patches"
    inner.mkdir(parents=True)
    names = [f"S{number}" for number in range(5)]
    for name in names:
        (inner / f"{name}_patches.h5").touch()
    rest(tmp_path)
    listed = []
    glob = Path.glob
    monkeypatch.setattr(
        Path, "glob", lambda self, pattern: (listed.append(self), glob(self, pattern))[1]
    )
    assert [find_tile_file(tmp_path, [name]).stem for name in names] == [
        f"{name}_patches" for name in names
    ]
    assert listed == [tmp_path]


def test_a_spelling_that_appears_later_is_found(tmp_path: Path) -> None:
    missing = tmp_path / "Mu\u0308ller.svs"
    rest(tmp_path)
    assert existing_spelling(missing) == missing
    there = tmp_path / "M\u00fcller.svs"
    there.touch()
    assert existing_spelling(missing) in (there, missing)
    assert existing_spelling(missing).is_file()
