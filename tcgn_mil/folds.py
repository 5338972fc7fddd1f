"""Folds by patient: made from a seed, or read from a CSV with the columns fold, part, id, or from published lists."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_text
from tcgn_mil.io.fold_lists import read_fold_lists
from tcgn_mil.text import preview
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
    """Cut `ids` into folds so that a group (a patient, or a tissue source site) is in one part only.

    Each group is tested once; the fold after the tested one is its validation part, the rest trains.

    Parameters
    ----------
    ids
        What is split: patients, slides or sections.
    groups
        id -> group kept together.
    n_folds
        At least 3, at most the number of groups.
    seed
        Of the shuffle.
    cohorts
        id -> cohort, each of which is spread evenly over the folds, where there are several.

    Raises
    ------
    InputError
        If there are fewer groups than folds, or fewer than 3 folds.
    """
    members: dict[str, list[str]] = {}
    for name in sorted(ids):
        members.setdefault(groups[name], []).append(name)
    if not 3 <= n_folds <= len(members):
        raise InputError(
            f"{n_folds} folds of {len(members)} groups leave a part empty",
            fix=f"set n_folds to 3 to {len(members)}"
            if len(members) >= 3
            else "cross-validation needs at least 3 groups (patients, or sites where they stay together)",
        )
    shuffled = np.random.default_rng(seed).permutation(sorted(members)).tolist()
    cohort_of = {group: (cohorts or {}).get(names[0], "") for group, names in members.items()}
    # Stable: cohort by cohort, the largest group first, ties shuffled.
    order = sorted(shuffled, key=lambda group: (cohort_of[group], -len(members[group])))
    blocks: list[list[str]] = [[] for _ in range(n_folds)]
    for group in order:
        min(blocks, key=len).extend(members[group])
    folds = []
    for index in range(n_folds):
        val = blocks[(index + 1) % n_folds]
        train = [
            name
            for j, block in enumerate(blocks)
            if j not in (index, (index + 1) % n_folds)
            for name in block
        ]
        folds.append(
            Fold(index, tuple(sorted(train)), tuple(sorted(val)), tuple(sorted(blocks[index])))
        )
        folds[-1].check_groups(groups)
    return folds


def write_folds(path: str | Path, folds: Sequence[Fold]) -> None:
    """Write folds as CSV, one row for each id of each part."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(FOLD_COLUMNS)
    for fold in folds:
        for part, names in fold.parts().items():
            writer.writerows((fold.index, part, name) for name in names)
    write_text(path, buffer.getvalue())


def read_folds(
    path: str | Path,
    *,
    known: Sequence[str],
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[Fold]:
    """Read folds and check them against the ids at hand.

    Parameters
    ----------
    path
        CSV with the columns fold, part, id; or a folder of lists (:func:`~tcgn_mil.io.fold_lists.read_fold_lists`).
    known
        Ids that have data; the CSV may name no others.
    groups
        id -> patient; if given, test patients must be in no other part.
    seed
        Of the validation patients, where lists leave them to be drawn.

    Raises
    ------
    InputError
        For missing columns, unknown parts or ids, an empty part, or an id in two parts of a fold.
    """
    path = Path(path)
    if path.is_dir():
        folds = read_fold_lists(path, known=known, seed=seed)
    else:
        folds = _read_fold_table(path, known)
    for fold in folds:
        if groups is not None:
            fold.check_groups(groups)
    return folds


def _read_fold_table(path: Path, known: Sequence[str]) -> list[Fold]:
    if not path.is_file():
        raise InputError("no such folds file", path=path, fix="check the path given with --folds")
    parts: dict[int, dict[str, list[str]]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        absent = [column for column in FOLD_COLUMNS if column not in (reader.fieldnames or [])]
        if absent:
            raise InputError(
                f"has no column {', '.join(absent)}", path=path, fix="columns are fold, part, id"
            )
        for row in reader:
            if row["part"] not in PARTS or not str(row["fold"]).isdigit():
                raise InputError(
                    f"line {reader.line_num}: fold {row['fold']!r}, part {row['part']!r}",
                    path=path,
                    fix="fold is a whole number, part is train, val or test",
                )
            parts.setdefault(int(row["fold"]), {part: [] for part in PARTS})[row["part"]].append(
                row["id"]
            )
    unknown = sorted(
        {name for fold in parts.values() for part in fold.values() for name in part} - set(known)
    )
    if unknown:
        raise InputError(
            f"names {preview(unknown)}, which have no data here", path=path, fix="remove those rows"
        )
    folds = [Fold(index, *(tuple(parts[index][part]) for part in PARTS)) for index in sorted(parts)]
    if not folds:
        raise InputError("holds no fold", path=path, fix="add rows, or leave --folds out")
    return folds
