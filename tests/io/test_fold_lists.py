"""Published lists of patients are read as folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.folds import read_folds

PATIENTS = [f"TCGA-AA-{number:04d}" for number in range(20)]


def survpath(
    folder: Path, number: int, train: list[str], val: list[str], test: list[str] | None = None
) -> None:
    """Write a list as SurvPath does: an index column, and empty cells in the shorter column."""
    columns = {"train": train, "val": val} | ({} if test is None else {"test": test})
    length = max(map(len, columns.values()))
    lines = [",".join(["", *columns])]
    for row in range(length):
        lines.append(
            ",".join(
                [str(row), *(names[row] if row < len(names) else "" for names in columns.values())]
            )
        )
    (folder / f"splits_{number}.csv").write_text("\n".join(lines) + "\n")


def test_with_two_parts_the_second_is_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        test = PATIENTS[10 * number : 10 * number + 10]
        survpath(
            tmp_path,
            number,
            [name for name in PATIENTS if name not in test] + ["TCGA-ZZ-9999"],
            test,
        )
    folds = read_folds(tmp_path, ids=PATIENTS, seed=3)
    assert [fold.test for fold in folds] == [tuple(PATIENTS[:10]), tuple(PATIENTS[10:])]
    for fold in folds:
        assert len(fold.val) == 2
        assert sorted([*fold.train, *fold.val, *fold.test]) == PATIENTS
    assert "1 patients of these lists have no data here: TCGA-ZZ-9999" in capsys.readouterr().err
    assert folds == read_folds(tmp_path, ids=PATIENTS, seed=3)
    assert folds != read_folds(tmp_path, ids=PATIENTS, seed=4)


def test_lists_of_slides_become_patients(tmp_path: Path) -> None:
    slides = [f"{name}-01Z-00-DX{copy}" for name in PATIENTS for copy in (1, 2)]
    survpath(tmp_path, 0, slides[:20], slides[20:30], slides[30:])
    (fold,) = read_folds(tmp_path, ids=PATIENTS)
    assert fold.parts() == {
        "train": tuple(PATIENTS[:10]),
        "val": tuple(PATIENTS[10:15]),
        "test": tuple(PATIENTS[15:]),
    }


@pytest.mark.parametrize("suffix", ["npy", "txt"])
def test_test_lists_of_several_projects_are_put_together(tmp_path: Path, suffix: str) -> None:
    for project, offset in (("brca", 0), ("luad", 10)):
        for number in range(5):
            names = PATIENTS[offset + 2 * number : offset + 2 * number + 2]
            path = tmp_path / f"test-{project}-{number}.{suffix}"
            np.save(path, np.array(names)) if suffix == "npy" else path.write_text("\n".join(names))
    folds = read_folds(tmp_path, ids=PATIENTS)
    tests = [(*PATIENTS[2 * k : 2 * k + 2], *PATIENTS[10 + 2 * k : 12 + 2 * k]) for k in range(5)]
    assert [fold.test for fold in folds] == tests
    assert [fold.val for fold in folds] == [*tests[1:], tests[0]]
    assert all(sorted([*fold.train, *fold.val, *fold.test]) == PATIENTS for fold in folds)


def test_pickled_lists_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        np.save(
            tmp_path / f"test-brca-{number}.npy",
            np.array(PATIENTS[:4], dtype=object),
            allow_pickle=True,
        )
    with pytest.raises(InputError, match=r"test-brca-0\.npy.*without unpickling.*test-brca-0\.txt"):
        read_folds(tmp_path, ids=PATIENTS)


def test_an_empty_part_is_refused(tmp_path: Path) -> None:
    survpath(tmp_path, 0, PATIENTS[:10], ["TCGA-ZZ-0000"])
    with pytest.raises(InputError, match="empty test part"):
        read_folds(tmp_path, ids=PATIENTS)


def test_a_patient_in_two_parts_is_refused(tmp_path: Path) -> None:
    survpath(tmp_path, 0, PATIENTS[:10], PATIENTS[9:12], PATIENTS[12:])
    with pytest.raises(InputError, match=r"1 patient in two parts, for example TCGA-AA-0009"):
        read_folds(tmp_path, ids=PATIENTS)


def test_slides_of_a_patient_in_two_parts_are_leakage(tmp_path: Path) -> None:
    slides = [f"{name}-01Z-00-DX{number}" for name in PATIENTS for number in (1, 2)]
    survpath(tmp_path, 0, slides[:21], slides[21:30], slides[30:])
    message = (
        r"splits_0\.csv.*TCGA-AA-0010 \(TCGA-AA-0010-01Z-00-DX1 in train,"
        r" TCGA-AA-0010-01Z-00-DX2 in val\).*\(leakage\).*Fix: keep all slides of a patient"
    )
    with pytest.raises(InputError, match=message):
        read_folds(tmp_path, ids=PATIENTS)


def test_lists_without_validation_part_get_one(tmp_path: Path) -> None:
    columns = {"train": PATIENTS[:10], "test": PATIENTS[10:]}
    table = pd.DataFrame({name: pd.Series(part) for name, part in columns.items()})
    table.to_csv(tmp_path / "splits_0.csv")
    (fold,) = read_folds(tmp_path, ids=PATIENTS)
    assert fold.test == tuple(PATIENTS[10:])
    assert len(fold.val) == 2
    assert sorted((*fold.train, *fold.val)) == PATIENTS[:10]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("splits_0.csv", "case,part\na,train\n", "has no column train"),
        ("splits_0.csv", "train,part\na,train\n", "has no column val or test"),
        ("notes.txt", "nothing\n", "holds neither splits"),
        ("test-brca-0.txt", "TCGA-AA-0000\n", "three or more test"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_folds(tmp_path, ids=PATIENTS)


def test_normal_tissue_in_a_list_is_no_patient(tmp_path: Path) -> None:
    names = [f"TCGA-AA-000{number}" for number in range(4)]
    (tmp_path / "splits_0.csv").write_text(
        "train,val,test\n"
        + "\n".join(
            [
                f"{names[0]}-01Z-00-DX1,{names[1]},{names[2]}",
                f"{names[2]}-11A-01-TS1,,",  # normal tissue of the test patient is no leakage
            ]
        )
        + "\n"
    )
    (fold,) = read_folds(tmp_path, ids=names)
    assert fold.parts() == {"train": (names[0],), "val": (names[1],), "test": (names[2],)}
