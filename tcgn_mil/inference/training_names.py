"""Recognise training patients by names that a published model does not spell out.

A training patient must be predicted by the fold model that did not see it, and must be called
"trained on" otherwise; for this, a model has to know the names of its training patients. Names can
identify people, so a published model holds them in one of three ways:

- ``hashed`` (the default): each name is replaced by a salted scrypt hash. Whoever has the name of a
  patient can ask whether it is among them, and that is what prediction does. Nobody can read the
  names. Names that come from a small set, such as hospital numbers of eight digits, can be guessed
  one by one; scrypt makes each guess cost some milliseconds and does not make it impossible.
- ``kept``: as they are, which suits public names such as TCGA barcodes.
- ``removed``: numbers stand for the patients. A training patient is then predicted like a new one,
  and the column ``relation`` says ``not known``.

Slide names are treated in the same way, since they often contain the name of the patient.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcgn_mil.file_formats.json_file import read_json_as
from tcgn_mil.inference.fold_models import (
    REMOVED_NAME,
    FoldModel,
    patients_of_training_slides,
)
from tcgn_mil.inference.out_of_distribution import Reference
from tcgn_mil.settings.patient_names import NameTreatment
from tcgn_mil.types.folds import Fold

NAMES_FILE = "patients.json"
_HASHED = "hashed-"
# Six milliseconds a name on one core as measured, so that a cohort is hashed in seconds.
_COST = {"n": 2**12, "r": 8, "p": 1}


@dataclass(frozen=True)
class TrainingNames:
    """Names of the training patients and slides, as a model holds them.

    Attributes
    ----------
    treatment
        ``hashed``, ``kept`` or ``removed``.
    salt
        Salt of the hashes, in hexadecimal digits.
    slides
        Patient of each training slide, both as the model holds them. Empty if removed.
    """

    treatment: NameTreatment = "kept"
    salt: str = ""
    slides: Mapping[str, str] = field(default_factory=dict)

    def recognise(
        self, patient_of: Mapping[str, str], models: Sequence[FoldModel]
    ) -> RecognisedPatients:
        """Find the training patients among slides that are to be predicted.

        Parameters
        ----------
        patient_of
            Patient of each slide, as the feature files name it.
        models
            Models of all folds.
        """
        if self.treatment == "kept":
            return RecognisedPatients(dict(self.slides), {})
        if self.treatment == "removed":
            return RecognisedPatients({}, {})
        members = {
            name for fold in models for part in fold.info.fold.parts().values() for name in part
        }
        given = {*patient_of, *patient_of.values()}
        hashes = {name: hash_name(name, self.salt) for name in given}
        names: dict[str, str] = {}
        found: dict[str, str] = {}
        for slide, patient in sorted(patient_of.items()):
            member = self.slides.get(hashes[slide], hashes[patient])
            if member not in members:
                continue
            if member not in names:
                # Two training patients to whom the feature files give one name keep theirs apart.
                names[member] = member if patient in names.values() else patient
            found[slide] = names[member]
        return RecognisedPatients(found, names)


@dataclass(frozen=True)
class RecognisedPatients:
    """Training patients that were found among the slides to predict.

    Attributes
    ----------
    patient_of
        Patient of each slide that belongs to a training patient.
    names
        Name of a training patient in the model, and its real name.
    """

    patient_of: Mapping[str, str]
    names: Mapping[str, str]

    def in_models(self, models: Sequence[FoldModel]) -> list[FoldModel]:
        """Return the models with the real names of these patients in their folds."""
        return [
            dataclasses.replace(
                fold,
                info=dataclasses.replace(fold.info, fold=rename_fold(fold.info.fold, self.names)),
            )
            for fold in models
        ]

    def in_reference(self, reference: Reference) -> Reference:
        """Return the reference with the real names of these patients."""
        patients = tuple(self.names.get(name, name) for name in reference.patients)
        return dataclasses.replace(reference, patients=patients)


@dataclass(frozen=True)
class _NamesFile:
    """Schema of `NAMES_FILE`."""

    names: NameTreatment
    salt: str
    slides: dict[str, str]


def read_training_names(folder: str | Path) -> TrainingNames:
    """Read how a model holds the names of its training patients.

    The folder of a run has them in ``slides.csv`` as they are, and a published model in
    ``patients.json``.

    Raises
    ------
    InputError
        If ``patients.json`` cannot be understood.
    """
    path = Path(folder) / NAMES_FILE
    if not path.is_file():
        return TrainingNames(slides=patients_of_training_slides(folder))
    fix = "upgrade tcgn-mil, or publish the model again"
    stored = read_json_as(_NamesFile, path, what="the names of a model's patients", fix=fix)
    return TrainingNames(stored.names, stored.salt, stored.slides)


def hash_name(name: str, salt: str) -> str:
    """Return the salted scrypt hash of a name.

    Examples
    --------
    >>> hash_name("P01", "00ff")
    'hashed-...'
    >>> hash_name("P01", "00ff") == hash_name("P01", "00ee")
    False
    """
    digest = hashlib.scrypt(name.encode(), salt=bytes.fromhex(salt), dklen=16, **_COST)
    return f"{_HASHED}{digest.hex()}"


@dataclass(frozen=True)
class StoredNames:
    """Names of a run's patients and slides, as a published model will hold them.

    Attributes
    ----------
    treatment, salt
        As in :class:`TrainingNames`.
    patients
        Name in the published model of each patient.
    slides
        Patient of each slide, both as the published model holds them.
    """

    treatment: NameTreatment
    salt: str
    patients: Mapping[str, str]
    slides: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``patients.json``."""
        return {"names": self.treatment, "salt": self.salt, "slides": dict(self.slides)}


def names_to_store(
    patients: Iterable[str], slides: Mapping[str, str], treatment: NameTreatment
) -> StoredNames:
    """Replace names of patients and slides for publication.

    Parameters
    ----------
    patients
        All patients that the files of the model name.
    slides
        Patient of each training slide.
    treatment
        ``hashed``, ``kept`` or ``removed``.

    Examples
    --------
    >>> stored = names_to_store(["P01", "P02"], {"P01-1": "P01"}, "removed")
    >>> sorted(stored.patients.values()), stored.slides
    (['removed-1', 'removed-2'], {})
    """
    known = list(dict.fromkeys([*patients, *slides.values()]))
    if treatment == "kept":
        return StoredNames(treatment, "", {name: name for name in known}, dict(slides))
    if treatment == "removed":
        # Numbered in random order: numbers in the order of the names would tell something of them.
        secrets.SystemRandom().shuffle(known)
        numbers = {name: f"{REMOVED_NAME}{number}" for number, name in enumerate(known, start=1)}
        return StoredNames(treatment, "", numbers, {})
    salt = secrets.token_hex(16)
    hashes = {name: hash_name(name, salt) for name in known}
    return StoredNames(
        treatment,
        salt,
        hashes,
        {hash_name(slide, salt): hashes[patient] for slide, patient in slides.items()},
    )


def rename_fold(fold: Fold, names: Mapping[str, str]) -> Fold:
    """Return a fold with other names; a name that is not in `names` stays.

    Examples
    --------
    >>> rename_fold(Fold(0, ("a",), ("b",), ("c",)), {"a": "x"}).train
    ('x',)
    """
    parts = {
        part: tuple(names.get(name, name) for name in members)
        for part, members in fold.parts().items()
    }
    return Fold(fold.index, *parts.values(), needs_val=fold.needs_val)
