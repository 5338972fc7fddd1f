"""A slide that left its cohort is noticed, and its files are set aside."""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.resume.cohort_list import FILE_NAME, CohortUpdate, plan_cohort
from tcgn_mil.resume.set_aside import FOLDER, check_files


def update(folder: Path, source: str, *members: str, choice: str = "") -> CohortUpdate:
    planned = plan_cohort(folder, source, members, choice=choice)
    planned.apply(lambda name: [folder / f"{name}.jpg", folder / f"{name}.h5"])
    for name in members:
        (folder / f"{name}.h5").touch()
        (folder / f"{name}.jpg").touch()
    return planned


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.h5"))


def test_a_slide_that_its_source_no_longer_lists_is_set_aside(tmp_path: Path) -> None:
    update(tmp_path, "a.csv", "S1", "S2")
    second = update(tmp_path, "a.csv", "S1", "S3")
    assert (second.left, second.others) == (["S2"], [])
    assert names(tmp_path) == ["S1", "S3"]
    assert (tmp_path / FOLDER / "S2.h5").is_file()
    assert (tmp_path / FOLDER / "S2.jpg").is_file()
    assert "1 slide is no longer listed" in second.sentences()[0]


def test_slides_of_another_source_stay_and_are_named(tmp_path: Path) -> None:
    update(tmp_path, "a.csv", "S1", "S2")
    second = update(tmp_path, "b.csv", "S2", "S3")
    assert (second.left, second.others) == ([], ["S1"])
    assert "1 slide of other runs stays" in second.sentences()[0]
    assert update(tmp_path, "a.csv", "S1").left == []  # b.csv lists S2 as well
    assert names(tmp_path) == ["S1", "S2", "S3"]
    assert update(tmp_path, "a.csv", "S1", choice="one section").left == []


def test_files_from_before_there_was_a_list_are_named(tmp_path: Path) -> None:
    (tmp_path / "old.h5").touch()
    assert plan_cohort(tmp_path, "a.csv", ["S1"]).others == ["old"]
    (tmp_path / FILE_NAME).write_text("{damaged")
    assert plan_cohort(tmp_path, "a.csv", ["S1"]).others == ["old"]


def test_outdated_files_are_set_aside_and_come_back_when_they_are_current(tmp_path: Path) -> None:
    files = {name: [tmp_path / f"{name}.jpg", tmp_path / f"{name}.h5"] for name in ("S1", "S2")}
    for paths in files.values():
        for path in paths:
            path.write_text("first")

    def check(wanted: str) -> tuple[set[str], list[str]]:
        checked = check_files(tmp_path, files, lambda name, path: path.read_text() == wanted)
        return set(checked.current), checked.changed

    assert check("first") == ({"S1", "S2"}, [])
    assert check("other") == (set(), ["S1", "S2"])
    assert not list(tmp_path.glob("*.h5"))
    assert check("other") == (set(), [])
    files["S2"][1].write_text("other")
    assert check("other") == ({"S2"}, [])
    assert check("first") == ({"S1"}, ["S2"])
    assert names(tmp_path) == ["S1"]


def test_a_project_that_was_moved_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "a" / "tiles").mkdir(parents=True)
    update(tmp_path / "a" / "tiles", str(tmp_path / "a" / "slides.csv"), "S1", "S2")
    (tmp_path / "a").rename(tmp_path / "b")
    moved = update(tmp_path / "b" / "tiles", str(tmp_path / "b" / "slides.csv"), "S1")
    assert (moved.left, moved.others) == (["S2"], [])
    (tmp_path / "b" / "tiles").rename(tmp_path / "tiles")
    assert update(tmp_path / "tiles", str(tmp_path / "b" / "slides.csv"), "S3").left == ["S1"]
