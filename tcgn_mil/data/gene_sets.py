"""Gene sets from a GMT file, the format of MSigDB (Liberzon et al. 2011, Bioinformatics 27:1739).

One set a line, tab-separated: name, description, genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError

_LAYOUT = "each line is a set's name, its description and its genes, separated by tabs"


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
        raise InputError("no such file of gene sets", path=path, fix="give a GMT file, e.g. one of MSigDB")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # read_text turns \r\n and \r into \n
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as text ({error})", path=path, fix="give an uncompressed GMT file") from error
    sets: dict[str, GeneSet] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _gene_set(line, number, path)
        if found.name in sets:
            raise InputError(f"line {number}: set {found.name!r} stands twice", path=path, fix="rename or remove one")
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
