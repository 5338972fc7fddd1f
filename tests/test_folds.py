"""Folds do not divide groups, test each name once, and are read back as they were written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.folds import make_folds, read_folds, write_folds
from tcgn_mil.types.folds import Fold


@given(
    sizes=st.lists(st.integers(1, 4), min_size=5, max_size=20),
    n_folds=st.integers(3, 5),
    seed=st.integers(0, 9),
)
def test_each_id_is_tested_once_and_groups_stay_together(
    sizes: list[int], n_folds: int, seed: int
) -> None:
    groups = {
        f"s{group}.{member}": f"p{group}"
        for group, size in enumerate(sizes)
        for member in range(size)
    }
    folds = make_folds(list(groups), groups, n_folds=n_folds, seed=seed)
    assert sorted(name for fold in folds for name in fold.test) == sorted(groups)
    for fold in folds:
        parts = [{groups[name] for name in part} for part in fold.parts().values()]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert sorted([*fold.train, *fold.val, *fold.test]) == sorted(groups)
    assert folds == make_folds(list(groups)[::-1], groups, n_folds=n_folds, seed=seed)


def test_seed_changes_the_folds() -> None:
    ids = [f"p{i}" for i in range(20)]
    groups = {name: name for name in ids}
    assert make_folds(ids, groups, n_folds=5, seed=0) != make_folds(ids, groups, n_folds=5, seed=1)


def test_too_few_groups() -> None:
    with pytest.raises(InputError, match="leave a part empty"):
        make_folds(["a", "b"], {"a": "a", "b": "b"}, n_folds=3, seed=0)


def test_a_test_patient_in_training_is_refused() -> None:
    fold = Fold(0, ("C2",), ("C3",), ("C4",))
    with pytest.raises(InputError, match="tests on C, also used in training"):
        fold.check_groups({"C2": "C", "C3": "C", "C4": "C"})


@pytest.mark.parametrize("parts", [((), ("b",), ("c",)), (("a",), ("a",), ("c",))])
def test_empty_or_overlapping_parts_are_refused(parts: tuple) -> None:
    with pytest.raises(InputError, match=r"empty train part|in both train and val"):
        Fold(0, *parts)


def test_folds_survive_a_round_trip(tmp_path: Path) -> None:
    folds = [Fold(0, ("a", "é,b"), ("c",), ("d",)), Fold(1, ("a", "d"), ("é,b",), ("c",))]
    write_folds(tmp_path / "folds.csv", folds)
    assert read_folds(tmp_path / "folds.csv", ids=["a", "é,b", "c", "d"]) == folds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold,part\n0,train\n", "has no column id"),
        ("fold,part,id\n0,training,a\n", "line 2.*part 'training'"),
        ("fold,part,id\n0,train,a\n0,val,b\n0,test,z\n", "names z, which have no data"),
        ("fold,part,id\n0,train,a\n0,val,b\n", "empty test part"),
        ("fold,part,id\n0,train,a\n0,val,b\n0,test,a\n", "a in both train and test"),
        ("fold,part,id\n", "holds no rows below a header"),
    ],
)
def test_bad_folds_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_folds(path, ids=["a", "b", "c"])


def test_a_small_cohort_is_spread_over_all_folds() -> None:
    ids = [f"P{i:02d}" for i in range(50)]
    cohorts = {name: "small" if i % 5 == 0 else "large" for i, name in enumerate(ids)}
    folds = make_folds(ids, {name: name for name in ids}, n_folds=5, seed=3, cohorts=cohorts)
    assert [sum(cohorts[name] == "small" for name in fold.test) for fold in folds] == [2] * 5
    assert [len(fold.test) for fold in folds] == [10] * 5


def test_folds_may_name_samples_and_slides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [f"TCGA-AA-000{number}" for number in range(3)]
    path = tmp_path / "folds.csv"
    path.write_text(
        "fold,part,id\n"
        "0,train,tcga.aa.0000.01a.11r\n"
        "0,train,TCGA-AA-0000-01Z-00-DX1\n"  # a second name of the same patient
        "0,train,TCGA-AA-0001-11A\n"  # normal tissue joins nothing
        "0,val,TCGA_AA_0001\n"
        "0,test,TCGA-AA-0002\n"
    )
    (fold,) = read_folds(path, ids=ids)
    assert (fold.train, fold.val, fold.test) == tuple((name,) for name in ids)
    assert "1 name of normal tissue or controls left out" in capsys.readouterr().err


def test_two_samples_of_a_patient_in_two_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    rows = ["0,train,TCGA-AA-0000-01A", "0,val,TCGA-AA-0001", "0,test,TCGA-AA-0000-06A"]
    path.write_text("\n".join(["fold,part,id", *rows]) + "\n")
    with pytest.raises(InputError, match="has TCGA-AA-0000 in both train and test"):
        read_folds(path, ids=["TCGA-AA-0000", "TCGA-AA-0001"])
