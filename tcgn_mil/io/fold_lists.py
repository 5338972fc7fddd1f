"""Read the patient lists of published studies as folds.

SurvPath and CLAM publish ``splits_<k>.csv``, SEQUOIA publishes ``test-<project>-<k>.npy``. Such
lists name whole TCGA cohorts, so that patients without data here are left out and counted. CLAM
lists slides; a name that is not a patient's is read as a TCGA barcode.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.numpy_file import read_npy
from tcgn_mil.file_formats.reading import describe_damage, reads
from tcgn_mil.io.tables.delimited import read_named_columns
from tcgn_mil.patient_rows import listed_patients
from tcgn_mil.progress import tell
from tcgn_mil.text import counted, preview
from tcgn_mil.types.folds import Fold

_VALIDATION_SHARE = 0.2  # share of the training patients, if a study publishes two parts only
_SPLIT_FILE = re.compile(r"splits_(\d+)\.csv")
_TEST_FILE = re.compile(r"test-.+-(\d+)\.(?:npy|txt)")


@reads("folds", fix="check the lists, and copy them again")
def read_fold_lists(folder: str | Path, *, ids: Sequence[str], seed: int = 0) -> list[Fold]:
    """Read folds from a folder of lists.

    Parameters
    ----------
    folder
        Folder with one of these sets of files:

        - ``splits_<k>.csv`` with the columns train, val and test.
        - ``splits_<k>.csv`` with the columns train and test; a fifth of the training patients
          becomes the validation part.
        - ``splits_<k>.csv`` with the columns train and val, as SurvPath has them. SurvPath reports
          its results on val, so that val becomes the test part, and a fifth of the training
          patients becomes the validation part.
        - ``test-<project>-<k>.npy`` or ``.txt`` (one patient per line): the test patients of fold
          k, for one or several projects. The next fold is the validation part, and the other folds
          are the training part.
    ids
        Patients that have data.
    seed
        Seed for the validation patients that are drawn.

    Returns
    -------
    list of Fold

    Raises
    ------
    InputError
        If the folder has no such files, a file cannot be read without unpickling it, a fold has an
        empty part, or a patient is in two parts.
    """
    folder = Path(folder)
    splits, tests = (_numbered(folder, pattern) for pattern in (_SPLIT_FILE, _TEST_FILE))
    available, missing = set(ids), set[str]()
    if splits:
        folds = [
            _from_split(number, paths[0], available, missing, seed)
            for number, paths in splits.items()
        ]
    elif len(tests) >= 3:
        folds = _from_tests(
            {
                number: _available(
                    [name for path in paths for name in _read_list(path)], available, missing
                )
                for number, paths in tests.items()
            }
        )
    else:
        raise InputError(
            "holds neither splits_<k>.csv (SurvPath, CLAM) nor three or more test-<project>-<k>.npy"
            " (SEQUOIA)",
            path=folder,
            fix="give such a folder, or a CSV file with the columns fold, part and id",
        )
    if missing:
        tell(
            f"{folder}: {len(missing)} patients of these lists have no data here:"
            f" {preview(sorted(missing))}"
        )
    return folds


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, list[Path]]:
    """Return the files of each fold, in the order of the folds."""
    files: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := pattern.fullmatch(path.name):
            files.setdefault(int(match[1]), []).append(path)
    return dict(sorted(files.items()))


def _read_split(path: Path) -> dict[str, list[str]]:
    """Return the names in each part that the file has. Shorter columns end with empty cells."""
    table = read_named_columns(path, ("train",), ("val", "test"))
    if table.shape[1] == 1:
        raise InputError(
            "has no column val or test",
            path=path,
            fix="give a table with the columns train, val and test",
        )
    return {str(part): [name for name in table[part] if name] for part in table.columns}


def _read_list(path: Path) -> list[str]:
    if path.suffix == ".txt":
        with describe_damage(path, what="a list of names", fix="save it as UTF-8 text"):
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        return [line.strip() for line in lines if line.strip()]
    try:
        # SEQUOIA's files are pickled arrays of objects. Unpickling a downloaded file can run code.
        values = read_npy(path)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"cannot be read without unpickling it, which could run code ({error})",
            path=path,
            fix=f"if you trust the file, write its names to {path.stem}.txt, one per line, and"
            " remove the .npy file",
        ) from None
    if values.dtype.kind not in "US":
        raise InputError(
            f"holds {values.dtype} and not names", path=path, fix="give a list of patients"
        )
    return values.astype(str).ravel().tolist()


def _available(names: Iterable[str], available: set[str], missing: set[str]) -> list[str]:
    """Return the patients that have data, each once, and add the others to `missing`."""
    patients, normal = listed_patients(names, available)
    missing.update(name for name in (*patients, *normal) if name not in available)
    return [name for name in patients if name in available]


def _from_split(number: int, path: Path, available: set[str], missing: set[str], seed: int) -> Fold:
    named = _read_split(path)
    _check_patients_apart(number, named, available, path)
    parts = {part: _available(names, available, missing) for part, names in named.items()}
    if len(parts) < 3:
        train = np.random.default_rng([seed, number]).permutation(sorted(parts["train"])).tolist()
        cut = max(round(_VALIDATION_SHARE * len(train)), 1)
        # SurvPath reports its results on val, if there is no part named test.
        tested = parts["test"] if "test" in parts else parts["val"]
        parts = {"train": train[cut:], "val": train[:cut], "test": tested}
    return Fold(number, *(tuple(sorted(parts[part])) for part in ("train", "val", "test")))


def _check_patients_apart(
    number: int, named: dict[str, list[str]], available: set[str], path: Path
) -> None:
    """Raise InputError if slides of a patient are in two parts, which CLAM's splits allow."""
    slides: dict[str, dict[str, str]] = {}
    for part, names in named.items():
        for name in names:
            for patient in listed_patients([name], available)[0]:
                slides.setdefault(patient, {}).setdefault(part, name)
    torn = {patient: parts for patient, parts in slides.items() if len(parts) > 1}
    if not torn:
        return
    patient, parts = next(iter(torn.items()))
    where = ", ".join(f"{name} in {part}" for part, name in parts.items())
    raise InputError(
        f"fold {number} has {counted(len(torn), 'patient')} in two parts, for example {patient}"
        f" ({where}): the model would be tested on patients it was trained on (leakage)",
        path=path,
        fix="keep all slides of a patient in one part, or leave out --folds and have folds made",
    )


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
