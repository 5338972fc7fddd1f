"""Training patients are recognised by hashed names, and their names cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.inference.fold_models import relation_to_models
from tcgn_mil.inference.training_names import (
    NAMES_FILE,
    TrainingNames,
    hash_name,
    names_to_store,
    read_training_names,
    rename_fold,
)
from tcgn_mil.types.folds import Fold

FOLD = Fold(0, ("P1", "P2"), ("P3",), ("P4",))
SLIDES = {"S1": "P1", "S2": "P2", "S3": "P3", "S4": "P4"}


def stored(treatment: Any) -> tuple[TrainingNames, list[Any]]:
    """Return names as a published model holds them, and its fold."""
    names = names_to_store(["P1", "P2", "P3", "P4"], SLIDES, treatment)
    fold = rename_fold(FOLD, names.patients)
    read = TrainingNames(treatment, names.salt, names.slides)
    return read, [SimpleNamespace(info=SimpleNamespace(fold=fold))]


def test_a_patient_is_found_by_its_name_or_by_its_slide() -> None:
    names, models = stored("hashed")
    # S4 is a training slide, whose feature file does not name its patient. P2 has a new slide.
    found = names.recognise({"S4": "S4", "new": "P2", "X": "X"}, models)
    assert found.patient_of == {"S4": "S4", "new": "P2"}
    fold = rename_fold(models[0].info.fold, found.names)
    assert fold.test == ("S4",)
    assert "P2" in fold.train
    assert all(name.startswith("hashed-") for name in fold.val)


def test_two_training_patients_under_one_name_are_kept_apart() -> None:
    names, models = stored("hashed")
    found = names.recognise({"S1": "all", "S4": "all"}, models)
    assert len(set(found.patient_of.values())) == 2
    rename_fold(models[0].info.fold, found.names)  # which refuses a name that occurs twice


def test_hashes_do_not_hold_the_names_and_depend_on_the_salt() -> None:
    names, _ = stored("hashed")
    again, _ = stored("hashed")
    assert not set(names.slides) & set(again.slides)
    assert hash_name("P1", names.salt) in names.slides.values()
    assert hash_name("P9", names.salt) not in names.slides.values()


def test_removed_names_are_numbers_and_recognise_nobody() -> None:
    names, models = stored("removed")
    found = names.recognise({"S1": "P1"}, models)
    assert (found.patient_of, found.names, names.slides) == ({}, {}, {})
    members = {name for part in models[0].info.fold.parts().values() for name in part}
    assert members == {f"removed-{number}" for number in range(1, 5)}
    assert relation_to_models("P1", models) == "not known"


def test_names_that_are_kept_are_those_of_the_run() -> None:
    names, models = stored("kept")
    assert names.recognise({"S1": "x"}, models).patient_of == SLIDES
    assert models[0].info.fold == FOLD


@pytest.mark.parametrize("content", ["no JSON", "{}", '{"names": "rot13"}', "[]"])
def test_a_file_that_cannot_be_understood_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / NAMES_FILE).write_text(content)
    with pytest.raises(InputError, match=r"patients\.json: (cannot be read as|is not) the names"):
        read_training_names(tmp_path)


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    names = names_to_store(["P1"], {"S1": "P1"}, "hashed")
    (tmp_path / NAMES_FILE).write_text(json.dumps(names.as_json()))
    assert read_training_names(tmp_path) == TrainingNames("hashed", names.salt, names.slides)
