"""Assign sections to training, validation and test (docs/protocol.md, section Splits).

``pretrain`` needs one split and ``spot-cv`` several folds. Test patients are in no other part,
unless sections are left out one by one as in the TCGN paper; results of such a run are labelled.
With three patients or more, validation sections come from other patients than training and test
sections. With fewer, they are sections of the training patients, and with a single training section
a block of its spots.
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
from tcgn_mil.file_formats.reading import describe_damage, reads
from tcgn_mil.file_formats.spreadsheet_cells import restore_cell
from tcgn_mil.folds import FOLD_COLUMNS, PARTS
from tcgn_mil.text import duplicates, preview

DISJOINT = "patient-disjoint"
HELD_OUT = "held-out section of a training patient"
BLOCK = "block of the training section's spots"
_FOLD_NAME = re.compile(r"\w[\w.+-]{0,99}")  # the name becomes the name of a folder
ON_TEST = "the test part (select-on-test)"


@dataclass(frozen=True)
class SectionSplit:
    """Assignment of sections to parts, and the relation of validation to training.

    Attributes
    ----------
    train, val, test
        Names of sections. Where `validation` is :data:`BLOCK`, `val` is the training section, of
        which a block of spots is set aside.
    validation
        :data:`DISJOINT`, :data:`HELD_OUT`, :data:`BLOCK` or :data:`ON_TEST`.
    leaking
        Test patients who also train or validate. Such a result is labelled ``patient leakage``.
    name
        Name of the fold and of its folder.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    validation: str
    leaking: tuple[str, ...]
    name: str = "0"

    @property
    def train_and_val(self) -> tuple[str, ...]:
        """Sections that the model of this fold has seen, for training or for early stopping.

        A section of the test part is not among them, even if it chose the epoch.
        """
        return tuple(
            dict.fromkeys(name for name in (*self.train, *self.val) if name not in self.test)
        )

    def as_table(self) -> pd.DataFrame:
        """Return one row for each section with the columns fold, part and id."""
        rows = [(self.name, part, name) for part in PARTS for name in getattr(self, part)]
        return pd.DataFrame(rows, columns=list(FOLD_COLUMNS))


def split_sections(
    patient_of: Mapping[str, str], val: Sequence[str], test: Sequence[str]
) -> SectionSplit:
    """Split sections by name; those in neither `val` nor `test` train.

    Parameters
    ----------
    patient_of
        Patient of each section; it names all sections there are.
    val
        Validation sections. If empty, they are chosen: with three patients or more, all sections of
        the last remaining patient; otherwise the last remaining section, or a block of the only
        one.
    test
        Test sections.

    Raises
    ------
    InputError
        If a section is unknown or repeated, or if no training section is left.

    Examples
    --------
    >>> patients = {"A1": "A", "A2": "A", "B1": "B", "C1": "C"}
    >>> split = split_sections(patients, val=[], test=["A1", "A2"])
    >>> split.train, split.val, split.validation
    (('B1',), ('C1',), 'patient-disjoint')
    """
    named = [*val, *test]
    unknown = [name for name in named if name not in patient_of]
    if unknown:
        raise InputError(
            f"there is no section {preview(unknown)}",
            fix=f"use names among {preview(sorted(patient_of), most=20)}",
        )
    if duplicates(named):
        raise InputError(
            f"section {preview(duplicates(named))} is named twice",
            fix="name each section once, for validation or for the test",
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
    """Make folds in which every patient, or every section, is tested once.

    Parameters
    ----------
    patient_of
        Patient of each section.
    group_by
        Unit that is tested together.
    n_folds
        Number of folds; 0 leaves out each patient (or section) once.
    select_on_test
        Choose the epoch on the test part, as in the TCGN paper.

    Raises
    ------
    InputError
        If there are too few patients (or sections) for the folds asked for.

    Examples
    --------
    >>> folds = spot_folds({"A1": "A", "B1": "B", "C1": "C"})
    >>> [(fold.train, fold.val, fold.test) for fold in folds]
    [(('C1',), ('B1',), ('A1',)), (('A1',), ('C1',), ('B1',)), (('B1',), ('A1',), ('C1',))]
    """
    group_of = patient_of if group_by == "patient" else {name: name for name in patient_of}
    groups = sorted(set(group_of.values()))
    count = n_folds or len(groups)
    if len(groups) < 2 or count > len(groups):
        raise InputError(
            f"{len(groups)} {group_by}{'s' if len(groups) != 1 else ''} cannot be cut into"
            f" {max(count, 2)} folds",
            fix="add sections, or set a smaller n_folds"
            + (
                ", or set group_by=section, which is labelled patient leakage"
                if group_by == "patient"
                else ""
            ),
        )
    folds = []
    for number in range(count):
        # Every count-th group, so that the sizes of folds differ by at most one group.
        tested = groups[number::count]
        test = [name for name in sorted(patient_of) if group_of[name] in tested]
        rest = [name for name in sorted(patient_of) if name not in test]
        val = [] if select_on_test else _choose_validation(rest, patient_of, after=tested[-1])
        fold = _split(patient_of, rest, test if select_on_test else val, test)
        # A fold is named after what it tests, unless that makes a long or an odd name of a folder.
        name = "+".join(tested) if len(tested) < 4 else str(number)
        folds.append(replace(fold, name=name if _FOLD_NAME.fullmatch(name) else str(number)))
    return folds


@reads("folds", fix="give a CSV with the columns fold, part and id")
def read_spot_folds(
    path: str | Path,
    patient_of: Mapping[str, str],
    *,
    group_by: Literal["patient", "section"] = "patient",
) -> list[SectionSplit]:
    """Read folds from a CSV file with the columns fold, part and id.

    Parameters
    ----------
    path
        The file. An id is a section, or a patient, which stands for all sections of the patient.
    patient_of
        Patient of each section.
    group_by
        With ``section``, a test patient may also train or validate.

    Raises
    ------
    InputError
        If a column is missing, a part or an id is unknown, a part is empty, a section is in two
        parts of a fold or tested in two folds, or a test patient also trains or validates.
    """
    path = Path(path)
    parts = _read_parts(path)
    sections_of: dict[str, list[str]] = {name: [name] for name in patient_of}
    for name, patient in sorted(patient_of.items()):
        if patient not in patient_of:  # a section and a patient of one name: the section is meant
            sections_of.setdefault(patient, []).append(name)
    folds = []
    for fold, named in parts.items():
        unknown = [name for part in named.values() for name in part if name not in sections_of]
        if unknown:
            raise InputError(
                f"fold {fold} names {preview(unknown)}, which is neither a section nor a patient",
                path=path,
                fix=f"use ids among {preview(sorted(sections_of), most=20)}",
            )
        train, val, test = (
            [name for i in named[part] for name in sections_of[i]] for part in PARTS
        )
        for part, names in zip(PARTS, (train, val, test), strict=True):
            if not names:
                raise InputError(
                    f"fold {fold} has an empty {part} part",
                    path=path,
                    fix=f"add rows with part {part} for this fold",
                )
        if repeated := duplicates([*train, *val, *test]):
            raise InputError(
                f"fold {fold} holds {preview(repeated)} more than once",
                path=path,
                fix="list each section once per fold",
            )
        split = replace(_split(patient_of, train, val, test), name=fold)
        if split.leaking and group_by == "patient":
            raise InputError(
                f"fold {fold} tests on patient {preview(split.leaking)}, who also trains or"
                " validates, so the test would be biased",
                path=path,
                fix="keep each patient in one part, or set group_by=section, which is labelled"
                " patient leakage",
            )
        folds.append(split)
    if repeated := duplicates([name for split in folds for name in split.test]):
        raise InputError(
            f"section {preview(repeated)} is tested in two folds",
            path=path,
            fix="test each section in one fold only",
        )
    if not folds:
        raise InputError("holds no fold", path=path, fix="add rows, or remove --folds")
    return folds


def _read_parts(path: Path) -> dict[str, dict[str, list[str]]]:
    """Return the ids by fold and part, in the order of the file."""
    if not path.is_file():
        raise InputError("no such folds file", path=path, fix="check the path given with --folds")
    parts: dict[str, dict[str, list[str]]] = {}
    with describe_damage(path, what="UTF-8 text", fix="save the table as CSV UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        if repeated := duplicates([name for name in names if name]):
            reason = f"has column {preview(repeated)} more than once"
            raise InputError(reason, path=path, fix="remove one of them")
        absent = [column for column in FOLD_COLUMNS if column not in names]
        if absent:
            raise InputError(
                f"has no column {', '.join(absent)}",
                path=path,
                fix="give the file the columns fold, part and id",
            )
        for row in reader:
            fold, part = str(row["fold"] or "").strip(), row["part"]
            if part not in PARTS or not _FOLD_NAME.fullmatch(fold):
                raise InputError(
                    f"line {reader.line_num}: fold {row['fold']!r}, part {part!r}",
                    path=path,
                    fix="write a number or a word as fold, and train, val or test as part",
                )
            parts.setdefault(fold, {name: [] for name in PARTS})[part].append(
                str(restore_cell((row["id"] or "").strip()))
            )
    return parts


def _split(
    patient_of: Mapping[str, str], rest: Sequence[str], val: Sequence[str], test: Sequence[str]
) -> SectionSplit:
    """Make a split from its parts, and state how validation relates to training and who leaks."""
    # Three special cases are told apart by comparing the parts. If validation is the test part, the
    # epoch is chosen on it. If all other sections validate and there is only one of them, it also
    # trains, and a block of its spots is set aside later.
    on_test = bool(val) and list(val) == list(test)
    train = tuple(name for name in rest if name not in val) or tuple(
        val if len(val) == 1 and not on_test else ()
    )
    if not train or not val:
        raise InputError(
            f"of {len(patient_of)} sections, none is left for"
            f" {'training' if not train else 'validation'}",
            fix="name fewer validation and test sections, or add sections",
        )
    patients = {patient_of[name] for name in train}
    disjoint = not patients & {patient_of[name] for name in val}
    # Early stopping on other sections of a test patient leaks as training on them does.
    used = patients | ({patient_of[name] for name in val} if not on_test else set())
    kind = (
        ON_TEST if on_test else BLOCK if train == tuple(val) else DISJOINT if disjoint else HELD_OUT
    )
    leaking = tuple(sorted(used & {patient_of[name] for name in test}))
    return SectionSplit(train, tuple(val), tuple(test), validation=kind, leaking=leaking)


def _choose_validation(
    sections: Sequence[str], patient_of: Mapping[str, str], *, after: str = ""
) -> list[str]:
    """Choose the validation sections among the sections that are not tested.

    With three patients or more, counting the tested ones, they are all sections of one patient, so
    that at least one other patient remains for training. Otherwise they are one section of the
    patient who has most.

    The patient (or section) that follows `after` in alphabetical order is chosen, and the first one
    follows the last. Different folds are thus validated on different patients. Without `after`, the
    last one is chosen.
    """
    patients = sorted({patient_of[name] for name in sections})
    # `after` is the last patient or section of the test part, depending on what folds group by.
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
    """Return the first of the sorted `names` that follows `after`; the first follows the last."""
    return next((name for name in names if name > after), names[0])
