"""Patient lists of published studies as folds.

SurvPath and CLAM publish ``splits_<k>.csv``, SEQUOIA ``test-<project>-<k>.npy``.

Such lists name whole cohorts, so patients without data here are left out and counted. An id that is not a patient's is
taken for a TCGA barcode (CLAM lists slides), whose first twelve characters are the patient.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.text import preview
from tcgn_mil.types.folds import Fold

_PATIENT_CHARACTERS = 12
_VALIDATION_SHARE = 0.2  # of training patients, where a list has only two parts
_LISTS = {
    "splits": re.compile(r"splits_(\d+)\.csv"),
    "tests": re.compile(r"test-.+-(\d+)\.(?:npy|txt)"),
}


def read_fold_lists(folder: str | Path, *, known: Sequence[str], seed: int = 0) -> list[Fold]:
    """Folds from a folder of lists.

    Parameters
    ----------
    folder
        With ``splits_<k>.csv``: columns train and val, or train, val and test. With train and val alone, as SurvPath
        has them, val is what a study reports, so it becomes the test part, and a fifth of the training patients, drawn
        by `seed`, validates. Or with ``test-<project>-<k>.npy`` (or ``.txt``, a patient a line): test patients of fold
        k, of any number of projects; the next fold validates, the others train.
    known
        Patients that have data.
    seed
        Of the validation patients that are drawn.

    Raises
    ------
    InputError
        If the folder holds no such lists, a list cannot be read or is pickled, or a fold has an empty part or a patient
        twice.
    """
    folder = Path(folder)
    found = {kind: _numbered(folder, pattern) for kind, pattern in _LISTS.items()}
    here, missing = set(known), set[str]()
    if found["splits"]:
        folds = [
            _from_parts(number, _read_split(paths[0]), here, missing, seed)
            for number, paths in found["splits"].items()
        ]
    elif len(found["tests"]) >= 3:
        tests = {
            number: _here([name for path in paths for name in _read_list(path)], here, missing)
            for number, paths in found["tests"].items()
        }
        folds = _from_tests(tests)
    else:
        raise InputError(
            "holds neither splits_<k>.csv (SurvPath, CLAM) nor three or more test-<project>-<k>.npy (SEQUOIA)",
            path=folder,
            fix="give such a folder, or a CSV with the columns fold, part, id",
        )
    if missing:
        tqdm.write(
            f"{folder}: {len(missing)} patients named there have no data here: {preview(sorted(missing))}",
            file=sys.stderr,
        )
    return folds


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, list[Path]]:
    """Fold -> its files, in the order of folds."""
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := pattern.fullmatch(path.name):
            found.setdefault(int(match[1]), []).append(path)
    return dict(sorted(found.items()))


def _read_split(path: Path) -> dict[str, list[str]]:
    """Part -> ids, of the columns that the file has."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        parts = [part for part in ("train", "val", "test") if part in (reader.fieldnames or [])]
        if parts not in (["train", "val"], ["train", "val", "test"]):
            raise InputError(
                "has no columns train and val",
                path=path,
                fix="columns are train, val and perhaps test",
            )
        rows = list(reader)
    return {
        part: [row[part].strip() for row in rows if (row[part] or "").strip()] for part in parts
    }


def _read_list(path: Path) -> list[str]:
    if path.suffix == ".txt":
        return [
            line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"cannot be read without unpickling it, which could run code ({error})",
            path=path,
            fix=f"where you trust it, write its names to {path.stem}.txt, one a line, instead of it",
        ) from None
    if values.dtype.kind not in "US":
        raise InputError(f"holds {values.dtype}, no names", path=path, fix="give lists of patients")
    return values.astype(str).ravel().tolist()


def _here(names: Iterable[str], here: set[str], missing: set[str]) -> list[str]:
    """Patients that have data, once each; the others are added to `missing`."""
    patients = [name if name in here else name[:_PATIENT_CHARACTERS] for name in names]
    missing.update(name for name in patients if name not in here)
    return list(dict.fromkeys(name for name in patients if name in here))


def _from_parts(
    number: int, named: dict[str, list[str]], here: set[str], missing: set[str], seed: int
) -> Fold:
    parts = {part: _here(names, here, missing) for part, names in named.items()}
    if "test" not in parts:
        train = np.random.default_rng([seed, number]).permutation(sorted(parts["train"])).tolist()
        cut = max(round(_VALIDATION_SHARE * len(train)), 1)
        parts = {"train": train[cut:], "val": train[:cut], "test": parts["val"]}
    return Fold(number, *(tuple(sorted(parts[part])) for part in ("train", "val", "test")))


def _from_tests(tests: dict[int, list[str]]) -> list[Fold]:
    numbers = list(tests)
    folds = []
    for position, number in enumerate(numbers):
        val = numbers[(position + 1) % len(numbers)]
        train = [name for other in numbers if other not in (number, val) for name in tests[other]]
        folds.append(
            Fold(number, *(tuple(sorted(names)) for names in (train, tests[val], tests[number])))
        )
    return folds
