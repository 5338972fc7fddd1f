"""Gene sets from a GMT file, or from a table with a column a set."""

from __future__ import annotations

import csv
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.signatures.gene_sets import GeneSet, read_gmt
from tcgn_mil.types.tiles import duplicates, preview


def read_sets(path: str | Path) -> dict[str, GeneSet]:
    """Sets by name from ``.gmt``, or from ``.csv`` or ``.tsv``: the first row names the sets, their genes stand below.

    Raises
    ------
    InputError
        As :func:`read_gmt`; or if a table is missing, no text, repeats a name, or holds a column without name or genes.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv"):
        return read_gmt(path)
    if not path.is_file():
        raise InputError("no such file of gene sets", path=path, fix="check the path")
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            rows = list(csv.reader(text, delimiter="\t" if suffix == ".tsv" else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot be read as a table ({error})", path=path, fix="give UTF-8 CSV"
        ) from error
    names = [name.strip() for name in rows[0]] if rows else []
    if repeated := duplicates(names):
        raise InputError(
            f"set {preview(repeated)} stands twice", path=path, fix="rename or remove one"
        )
    sets = {}
    for column, name in enumerate(names):
        cells = (row[column].strip() for row in rows[1:] if column < len(row))
        genes = tuple(dict.fromkeys(gene for gene in cells if gene))
        if not name or not genes:
            raise InputError(
                f"column {column + 1} ({name or 'without name'}) has no {'genes' if name else 'name'}",
                path=path,
                fix="the first row names the sets, and their genes stand below",
            )
        sets[name] = GeneSet(name, "", genes)
    if not sets:
        raise InputError("holds no gene set", path=path, fix="the first row names the sets")
    return sets
