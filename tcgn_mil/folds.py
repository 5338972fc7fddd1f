"""Make folds from a seed, read them and write them (docs/protocol.md, section Splits)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.fold_lists import read_fold_lists
from tcgn_mil.io.tables.delimited import read_named_columns
from tcgn_mil.patient_rows import listed_patients
from tcgn_mil.progress import tell
from tcgn_mil.text import counted, preview
from tcgn_mil.types.folds import Fold

PARTS = ("train", "val", "test")
FOLD_COLUMNS = ("fold", "part", "id")


def make_folds(
    ids: Sequence[str],
    groups: Mapping[str, str],
    *,
    n_folds: int,
    seed: int,
    cohorts: Mapping[str, str] | None = None,
) -> list[Fold]:
    """Divide patients, slides or sections into folds without dividing a group.

    Each group is tested in one fold. The fold after it is its validation part, and the other folds
    are its training part.

    Parameters
    ----------
    ids
        Names to divide.
    groups
        Group of each name, for example the patient or the tissue source site. A group is in one
        part only.
    n_folds
        Number of folds: at least 3, at most the number of groups.
    seed
        Seed for the order of groups of the same size.
    cohorts
        Cohort of each name. Each cohort is spread evenly over the folds. None for one cohort.

    Returns
    -------
    list of Fold

    Raises
    ------
    InputError
        If there are fewer than 3 folds, or fewer groups than folds.

    Examples
    --------
    >>> patients = {"s1": "A", "s2": "A", "s3": "B", "s4": "C"}
    >>> folds = make_folds(list(patients), patients, n_folds=3, seed=0)
    >>> sorted(fold.test for fold in folds)
    [('s1', 's2'), ('s3',), ('s4',)]

    Notes
    -----
    The largest groups are placed first, each into the fold that has the fewest names so far. This
    is the greedy rule of scikit-learn's ``GroupKFold``. That class is not used, because it has no
    cohorts and breaks ties differently, which would change the folds of existing runs.
    """
    members: dict[str, list[str]] = {}
    for name in sorted(ids):
        members.setdefault(groups[name], []).append(name)
    if not 3 <= n_folds <= len(members):
        raise InputError(
            f"{n_folds} folds of {len(members)} groups leave a part empty",
            fix=f"set n_folds to a number from 3 to {len(members)}"
            if len(members) >= 3
            else "give at least 3 groups (patients, or sites if group_by=site)",
        )
    shuffled = np.random.default_rng(seed).permutation(sorted(members)).tolist()
    cohort_of = {group: (cohorts or {}).get(names[0], "") for group, names in members.items()}
    # Python's sort keeps the order of equal keys, so that groups of the same size in the same
    # cohort stay in the shuffled order.
    order = sorted(shuffled, key=lambda group: (cohort_of[group], -len(members[group])))
    blocks: list[list[str]] = [[] for _ in range(n_folds)]
    for group in order:
        min(blocks, key=len).extend(members[group])
    folds = []
    for index in range(n_folds):
        validation = (index + 1) % n_folds
        train = [
            name
            for other, block in enumerate(blocks)
            if other not in (index, validation)
            for name in block
        ]
        parts = (train, blocks[validation], blocks[index])
        folds.append(Fold(index, *(tuple(sorted(names)) for names in parts)))
        folds[-1].check_groups(groups)
    return folds


def write_folds(path: str | Path, folds: Sequence[Fold]) -> None:
    """Write folds as CSV, with one row for each name in each part of each fold.

    Parameters
    ----------
    path
        File to write. Its columns are fold, part and id.
    folds
        The folds.
    """
    import pandas as pd

    rows = [
        (fold.index, part, name)
        for fold in folds
        for part, names in fold.parts().items()
        for name in names
    ]
    write_csv(path, pd.DataFrame(rows, columns=list(FOLD_COLUMNS)))


def read_folds(
    path: str | Path,
    *,
    ids: Sequence[str],
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
    needs_val: bool = True,
) -> list[Fold]:
    """Read folds and check them against the data.

    Parameters
    ----------
    path
        Table (CSV, TSV or Parquet) with the columns fold, part (train, val or test) and id; or a
        folder of published lists (:func:`~tcgn_mil.io.fold_lists.read_fold_lists`).
    ids
        Names that have data. The table must not name others. It may name patients by their samples
        or slides; see :func:`~tcgn_mil.patient_rows.listed_patients`.
    groups
        Group of each name. If given, a group of the test part must be in no other part.
    seed
        Seed for the validation patients, if the lists do not name them.
    needs_val
        Whether a fold without validation part is an error.

    Returns
    -------
    list of Fold

    Raises
    ------
    InputError
        If the file lacks a column, has an unknown part or name, a part is empty, or a name is in
        two parts of a fold.
    """
    path = Path(path)
    if path.is_dir():
        folds = read_fold_lists(path, ids=ids, seed=seed)
    else:
        folds = _read_fold_table(path, ids, needs_val=needs_val)
    for fold in folds:
        if groups is not None:
            fold.check_groups(groups)
    return folds


def _read_fold_table(path: Path, ids: Sequence[str], *, needs_val: bool) -> list[Fold]:
    if not path.is_file():
        raise InputError("no such folds file", path=path, fix="check the path given with --folds")
    table = read_named_columns(path, FOLD_COLUMNS)
    parts: dict[int, dict[str, list[str]]] = {}
    for row, number, part, name in table[list(FOLD_COLUMNS)].itertuples():
        if part not in PARTS or not number.isdigit():
            raise InputError(
                f"line {row}: fold {number!r}, part {part!r}",
                path=path,
                fix="write a whole number as fold, and train, val or test as part",
            )
        parts.setdefault(int(number), {part: [] for part in PARTS})[part].append(name)
    # A list of samples or slides names a patient several times, and perhaps normal tissue.
    available, normal = {*ids}, set[str]()
    for fold in parts.values():
        for part, names in fold.items():
            fold[part], of_normal = listed_patients(names, available)
            normal.update(of_normal)
    if normal:
        tell(
            f"{path}: {counted(len(normal), 'name')} of normal tissue or controls left out:"
            f" {preview(sorted(normal))}"
        )
    named = {name for fold in parts.values() for names in fold.values() for name in names}
    if unknown := sorted(named - set(ids)):
        raise InputError(
            f"names {preview(unknown)}, which have no data here",
            path=path,
            fix="remove the rows of these names",
        )
    return [
        Fold(index, *(tuple(parts[index][part]) for part in PARTS), needs_val=needs_val)
        for index in sorted(parts)
    ]
