"""Which sections train, choose the epoch and test: a split for ``pretrain``, folds for ``spot-cv`` (PROTOCOL, Splits).

Test patients are in no other part, unless sections are left out one by one, as the TCGN paper did; that is labelled.
Validation is of other patients where there are three or more, else a section of the training patients, and of a single
section a block of its spots.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.folds import FOLD_COLUMNS, PARTS
from tcgn_mil.text import duplicates, preview

DISJOINT = "patient-disjoint"
HELD_OUT = "held-out section of a training patient"
BLOCK = "block of the training section's spots"
_FOLD_NAME = re.compile(r"\w[\w.+-]{0,99}")  # it names a folder
ON_TEST = "the test part (select-on-test)"


@dataclass(frozen=True)
class SectionSplit:
    """Which sections train, choose the epoch and test, and how validation relates to training.

    Attributes
    ----------
    train, val, test
        Section ids. Where `validation` is :data:`BLOCK`, ``val`` is the training section: a block of it is set aside.
    validation
        :data:`DISJOINT`, :data:`HELD_OUT`, :data:`BLOCK` or :data:`ON_TEST`.
    leaking
        Patients tested on that also train or validate; such a result is labelled ``patient leakage``.
    name
        Of the fold; also its folder's.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    validation: str
    leaking: tuple[str, ...]
    name: str = "0"

    @property
    def known(self) -> tuple[str, ...]:
        """Sections that a model of this fold has seen, early stopping included, the test part left out."""
        return tuple(
            dict.fromkeys(name for name in (*self.train, *self.val) if name not in self.test)
        )

    def as_table(self) -> pd.DataFrame:
        """One row a section: fold, part, id."""
        rows = [(self.name, part, name) for part in PARTS for name in getattr(self, part)]
        return pd.DataFrame(rows, columns=list(FOLD_COLUMNS))


def split_sections(
    patient_of: Mapping[str, str], val: Sequence[str], test: Sequence[str]
) -> SectionSplit:
    """Split sections by name; what is in neither `val` nor `test` trains.

    Parameters
    ----------
    patient_of
        Section -> patient, of all sections there are.
    val
        If empty, chosen: the sections of the last remaining patient where there are three patients or more, else the
        last remaining section, else a block of the only one.

    Raises
    ------
    InputError
        For unknown or repeated sections, or no training section.
    """
    named = [*val, *test]
    unknown = [name for name in named if name not in patient_of]
    if unknown:
        raise InputError(
            f"no section {preview(unknown)}",
            fix=f"sections are {preview(sorted(patient_of), most=20)}",
        )
    if duplicates(named):
        raise InputError(
            f"section {preview(duplicates(named))} is given twice", fix="name it for one part only"
        )
    rest = [name for name in sorted(patient_of) if name not in named]
    return _split(patient_of, rest, val or _choose_validation(rest, patient_of), test)


def spot_folds(
    patient_of: Mapping[str, str],
    *,
    group_by: Literal["patient", "section"] = "patient",
    n_folds: int = 0,
    select_on_test: bool = False,
) -> list[SectionSplit]:
    """Folds in which every patient (or section) is tested once; see :class:`SpotConfig` for the arguments.

    Raises
    ------
    InputError
        If there are too few patients (or sections) for the folds asked for.
    """
    group_of = patient_of if group_by == "patient" else {name: name for name in patient_of}
    groups = sorted(set(group_of.values()))
    count = n_folds or len(groups)
    if len(groups) < 2 or count > len(groups):
        raise InputError(
            f"{len(groups)} {group_by}{'s' if len(groups) != 1 else ''} cannot be cut into {max(count, 2)} folds",
            fix="read more sections, or set fewer n_folds"
            + (", or group_by=section (labelled patient leakage)" if group_by == "patient" else ""),
        )
    folds = []
    for number in range(count):
        tested = groups[number::count]
        test = [name for name in sorted(patient_of) if group_of[name] in tested]
        rest = [name for name in sorted(patient_of) if name not in test]
        val = [] if select_on_test else _choose_validation(rest, patient_of, after=tested[-1])
        fold = _split(patient_of, rest, test if select_on_test else val, test)
        name = "+".join(tested) if len(tested) < 4 else str(number)
        folds.append(replace(fold, name=name if _FOLD_NAME.fullmatch(name) else str(number)))
    return folds


def read_spot_folds(
    path: str | Path,
    patient_of: Mapping[str, str],
    *,
    group_by: Literal["patient", "section"] = "patient",
) -> list[SectionSplit]:
    """Folds of a CSV with fold, part, id; an id is a section, or a patient for all of its sections.

    Raises
    ------
    InputError
        For missing columns, unknown parts or ids, an empty part, a section in two parts of a fold, or (unless
        `group_by` is section) a test patient who also trains or validates.
    """
    path = Path(path)
    parts = _read_parts(path)
    sections_of: dict[str, list[str]] = {name: [name] for name in patient_of}
    for name, patient in sorted(patient_of.items()):
        if patient not in patient_of:  # a section of that name comes first
            sections_of.setdefault(patient, []).append(name)
    folds = []
    for fold, named in parts.items():
        unknown = [name for part in named.values() for name in part if name not in sections_of]
        if unknown:
            raise InputError(
                f"fold {fold} names {preview(unknown)}, no section or patient here",
                path=path,
                fix=f"ids are {preview(sorted(sections_of), most=20)}",
            )
        train, val, test = (
            [name for i in named[part] for name in sections_of[i]] for part in PARTS
        )
        for part, found in zip(PARTS, (train, val, test), strict=True):
            if not found:
                raise InputError(
                    f"fold {fold} has an empty {part} part",
                    path=path,
                    fix=f"add rows of part {part}",
                )
        if repeated := duplicates([*train, *val, *test]):
            raise InputError(
                f"fold {fold} holds {preview(repeated)} more than once",
                path=path,
                fix="list each once",
            )
        split = replace(_split(patient_of, train, val, test), name=fold)
        if split.leaking and group_by == "patient":
            raise InputError(
                f"fold {fold} tests on patient {preview(split.leaking)}, who also trains or validates",
                path=path,
                fix="keep a patient in one part, or set group_by=section (labelled patient leakage)",
            )
        folds.append(split)
    if repeated := duplicates([name for split in folds for name in split.test]):
        raise InputError(
            f"section {preview(repeated)} is tested in two folds",
            path=path,
            fix="test each section in one fold",
        )
    if not folds:
        raise InputError("holds no fold", path=path, fix="add rows, or leave folds out")
    return folds


def _read_parts(path: Path) -> dict[str, dict[str, list[str]]]:
    """Fold -> part -> ids, in the order of the file."""
    if not path.is_file():
        raise InputError("no such folds file", path=path, fix="check the path given with --folds")
    parts: dict[str, dict[str, list[str]]] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", path=path, fix="save it as CSV UTF-8") from None
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file)
        absent = [column for column in FOLD_COLUMNS if column not in (reader.fieldnames or [])]
        if absent:
            raise InputError(
                f"has no column {', '.join(absent)}", path=path, fix="columns are fold, part, id"
            )
        for row in reader:
            fold, part = str(row["fold"] or "").strip(), row["part"]
            if part not in PARTS or not _FOLD_NAME.fullmatch(fold):
                raise InputError(
                    f"line {reader.line_num}: fold {row['fold']!r}, part {part!r}",
                    path=path,
                    fix="fold is a number or a word, part is train, val or test",
                )
            parts.setdefault(fold, {name: [] for name in PARTS})[part].append(
                str(row["id"] or "").strip()
            )
    return parts


def _split(
    patient_of: Mapping[str, str], rest: Sequence[str], val: Sequence[str], test: Sequence[str]
) -> SectionSplit:
    """The split of sections that neither validate nor test and of those that do, with what is to be said of it."""
    on_test = bool(val) and list(val) == list(test)
    train = tuple(name for name in rest if name not in val) or tuple(
        val if len(val) == 1 and not on_test else ()
    )
    if not train or not val:
        raise InputError(
            f"{len(patient_of)} sections leave no {'training' if not train else 'validation'} section",
            fix="name fewer validation and test sections, or read more sections",
        )
    patients = {patient_of[name] for name in train}
    disjoint = not patients & {patient_of[name] for name in val}
    used = patients | ({patient_of[name] for name in val} if not on_test else set())
    kind = (
        ON_TEST if on_test else BLOCK if train == tuple(val) else DISJOINT if disjoint else HELD_OUT
    )
    leaking = tuple(sorted(used & {patient_of[name] for name in test}))
    return SectionSplit(train, tuple(val), tuple(test), validation=kind, leaking=leaking)


def _choose_validation(
    sections: Sequence[str], patient_of: Mapping[str, str], *, after: str = ""
) -> list[str]:
    """All sections of a patient where there are three patients or more, else one section of the patient who has most.

    Three counts a tested patient; one other has to remain for training.

    It is the one that follows `after` in alphabetical order, the first one coming after the last; so folds differ in
    what validates them. Without `after` it is the last.
    """
    patients = sorted({patient_of[name] for name in sections})
    if len(patients) >= 2 and len(set(patient_of.values())) >= 3:
        chosen = _following(patients, patient_of.get(after, after)) if after else patients[-1]
        return [name for name in sections if patient_of[name] == chosen]
    if not after:
        return list(sections[-1:])
    most = max(
        patients,
        key=lambda patient: sum(patient_of[name] == patient for name in sections),
        default="",
    )
    own = [name for name in sections if patient_of[name] == most]
    return [_following(own, after)] if own else []


def _following(names: Sequence[str], after: str) -> str:
    return next((name for name in names if name > after), names[0])
