"""A folder search names what it leaves out, and finds names in either Unicode form."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import LeftOut
from tcgn_mil.preprocessing.slides.folder import BELOW, NOWHERE, OTHER_KIND
from tcgn_mil.preprocessing.slides.names import slide_facts
from tcgn_mil.preprocessing.slides.table import find_slides, search_slides


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_files_that_are_left_out_are_named_with_the_reason(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "b.BTF", "scan.vsi", "deeper/c.svs", "deeper/notes.txt", ".d/e.svs")
    (tmp_path / "f.svs").symlink_to(tmp_path / "gone.svs")
    entries, left_out = search_slides(tmp_path)
    assert [entry.slide_id for entry in entries] == ["a", "b"]
    assert set(left_out) == {
        LeftOut("scan.vsi", OTHER_KIND),
        LeftOut("deeper/c.svs", BELOW),
        LeftOut("f.svs", NOWHERE),
    }


def test_recursive_takes_the_folders_below(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "deeper/b.svs", "deeper/notes.txt")
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    entries, left_out = search_slides(tmp_path, recursive=True)
    assert [entry.slide_id for entry in entries] == ["a", "b"]
    assert left_out == [LeftOut("deeper/notes.txt", OTHER_KIND)]


def test_pictures_that_tiling_wrote_and_parts_of_a_mirax_slide_are_no_slides(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "a.mrxs", "a/Data0001.dat", "tiles/a.jpg", "tiles/tile_summary.csv")
    entries, left_out = search_slides(tmp_path, recursive=True)
    assert [entry.path.name for entry in entries] == ["a.mrxs"]
    assert left_out == []


def test_a_folder_without_slides_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "a.vsi", "b.isyntax")
    with pytest.raises(InputError, match=r"holds no slide .*other kinds: \.isyntax \.vsi"):
        find_slides(tmp_path)


@pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_are_found_in_either_unicode_form(tmp_path: Path, on_disk: str, written: str) -> None:
    name = "Zürich_7"
    touch(tmp_path, "s/" + unicodedata.normalize(on_disk, name) + ".svs")  # type: ignore[arg-type]
    spelled = unicodedata.normalize(written, name)  # type: ignore[arg-type]
    (tmp_path / "slides.csv").write_text(f"path\ns/{spelled}.svs\n", encoding="utf-8")
    (entry,) = find_slides(tmp_path / "slides.csv")
    assert entry.path.is_file()
    assert entry.slide_id == unicodedata.normalize("NFC", name)
    (tmp_path / "who.csv").write_text(f"slide_id,patient_id\n{spelled},P1\n", encoding="utf-8")
    (found,) = find_slides(tmp_path / "s")
    assert slide_facts(tmp_path / "who.csv")(found.slide_id).patient_id == "P1"
