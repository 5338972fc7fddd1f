"""Gene sets from a GMT file, the format of MSigDB (Liberzon et al. 2011, Bioinformatics 27:1739).

One set a line, tab-separated: name, description, genes.

Gene sets from a GMT file, or from a table with a column a set.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.genes import GenePanel

_LAYOUT = "each line is a set's name, its description and its genes, separated by tabs"

SHIPPED_SETS = Path(__file__).parent / "sets" / "immune.gmt"


@dataclass(frozen=True)
class GeneSet:
    """A named set of genes.

    Attributes
    ----------
    name
        As the file gives it; unique there.
    description
        Often a link; may be empty.
    genes
        Symbols or ids as the file gives them, each once, in its order; at least one.
    """

    name: str
    description: str
    genes: tuple[str, ...]


def read_gmt(path: str | Path) -> dict[str, GeneSet]:
    """Read the sets of a GMT file by name, in its order.

    Blank lines, Windows line ends, a byte order mark and empty fields are passed over; a gene that a set repeats
    counts once.

    Raises
    ------
    InputError
        If the file is missing, no UTF-8 text or without sets, or a set lacks a name or genes or repeats a name.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "no such file of gene sets", path=path, fix="give a GMT file, e.g. one of MSigDB"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").split(
            "\n"
        )  # read_text turns \r\n and \r into \n
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot be read as text ({error})", path=path, fix="give an uncompressed GMT file"
        ) from error
    sets: dict[str, GeneSet] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _gene_set(line, number, path)
        if found.name in sets:
            raise InputError(
                f"line {number}: set {found.name!r} stands twice",
                path=path,
                fix="rename or remove one",
            )
        sets[found.name] = found
    if not sets:
        raise InputError("holds no gene set", path=path, fix=_LAYOUT)
    return sets


def _gene_set(line: str, number: int, path: Path) -> GeneSet:
    name, *rest = (field.strip() for field in line.split("\t"))
    genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
    if not name:
        raise InputError(f"line {number}: the set has no name", path=path, fix=_LAYOUT)
    if not genes:
        raise InputError(f"line {number}: set {name[:60]!r} has no genes", path=path, fix=_LAYOUT)
    return GeneSet(name, rest[0], genes)


class CoveredSets(NamedTuple):
    """Sets that all models can score, and why the others were left out.

    Attributes
    ----------
    kept
        Sets of which every model has at least half the genes.
    left_out
        Name -> reason, with the genes missing.
    """

    kept: tuple[GeneSet, ...]
    left_out: dict[str, str]


def covered_sets(sets: Iterable[GeneSet], panels: Sequence[GenePanel]) -> CoveredSets:
    """Split sets by whether every panel holds at least half of their genes."""
    known = [set(panel.genes) for panel in panels]
    kept: list[GeneSet] = []
    left_out: dict[str, str] = {}
    for one in sets:
        missing = max(
            ([gene for gene in one.genes if gene not in genes] for genes in known), key=len
        )
        if 2 * len(missing) <= len(one.genes):
            kept.append(one)
        else:
            left_out[one.name] = (
                f"a model lacks {len(missing)} of {len(one.genes)} genes: {preview(missing)}"
            )
    return CoveredSets(tuple(kept), left_out)


class SetWeights(NamedTuple):
    """What one model's scores contribute to the scores of S sets: ``scores[:, genes] @ weights``.

    Attributes
    ----------
    genes
        K genes of the model that a set holds.
    weights
        (K, S) float32.
    """

    genes: tuple[str, ...]
    weights: NDArray[np.float32]


def mean_weights(sets: Sequence[GeneSet], panels: Sequence[GenePanel]) -> list[SetWeights]:
    """One model each, such that their contributions sum to the sets' scores.

    The score of a set is the mean over its genes of a gene's mean over the models that have it; genes that no model
    has are left out. Summed over models in this form, no more than one model's gene scores are held at a time.
    """
    models_with = Counter(gene for panel in panels for gene in panel.genes)
    members = list(dict.fromkeys(gene for one in sets for gene in one.genes if gene in models_with))
    share = np.zeros((len(members), len(sets)), dtype=np.float32)
    row = {gene: index for index, gene in enumerate(members)}
    for column, one in enumerate(sets):
        present = [gene for gene in one.genes if gene in row]
        share[[row[gene] for gene in present], column] = 1 / max(len(present), 1)
    share /= np.array([models_with[gene] for gene in members], dtype=np.float32).reshape(-1, 1)
    found = []
    for panel in panels:
        own = set(panel.genes)
        rows = [index for index, gene in enumerate(members) if gene in own]
        found.append(SetWeights(tuple(members[index] for index in rows), share[rows]))
    return found


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
