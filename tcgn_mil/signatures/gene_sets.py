"""Read gene sets from GMT files or tables, and find those that are shipped with the package.

A gene set is a file in the folder ``sets`` beside this module: every ``.gmt`` file there is shipped
and found by :func:`shipped_gene_set_files`. Sets from elsewhere, a file or a folder of files, are
added by :func:`load_gene_sets`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.text import duplicates, preview

TABLE_SEPARATORS = {".csv": ",", ".tsv": "\t"}
GENE_SET_SUFFIXES = (".gmt", *TABLE_SEPARATORS)
_GMT_LAYOUT = (
    "write each set as one line: its name, its description and its genes, all tab-separated"
)
_TABLE_LAYOUT = "give each set one column, with its name in the first row and its genes below"
_NO_REPEATS = "rename or remove one of them"


@dataclass(frozen=True)
class GeneSet:
    """A named set of genes.

    Attributes
    ----------
    name
        Name of the set, unique in its file.
    description
        Free text, often a citation or a link; may be empty.
    genes
        Symbols or ids of at least one gene, in the order of the file, each once.
    """

    name: str
    description: str
    genes: tuple[str, ...]


def shipped_gene_set_files() -> tuple[Path, ...]:
    """Return all gene-set files that are shipped with the package, in alphabetical order.

    Examples
    --------
    >>> [path.name for path in shipped_gene_set_files()]
    ['immune.gmt']
    """
    return tuple(sorted((Path(__file__).parent / "sets").glob("*.gmt")))


def load_gene_sets(paths: Iterable[str | Path] = (), *, shipped: bool = True) -> dict[str, GeneSet]:
    """Load the shipped gene sets together with sets from other files.

    Parameters
    ----------
    paths
        Files or folders of gene sets, as :func:`read_gene_sets` reads them.
    shipped
        Whether the shipped sets are included.

    Returns
    -------
    Sets by name: the shipped ones first, then those of `paths` in their order.

    Raises
    ------
    InputError
        If a file cannot be read, or two files have a set of the same name.

    Examples
    --------
    >>> load_gene_sets()["CYTOLYTIC_ACTIVITY"].genes
    ('GZMA', 'PRF1')
    """
    sets: dict[str, GeneSet] = {}
    for path in (*(shipped_gene_set_files() if shipped else ()), *map(Path, paths)):
        _add(sets, read_gene_sets(path), path)
    return sets


def read_gene_sets(path: str | Path) -> dict[str, GeneSet]:
    """Read the gene sets of a file or of all files in a folder.

    Parameters
    ----------
    path
        One of:

        - a ``.gmt`` file, the format of MSigDB (Liberzon et al., Bioinformatics 2011;27:1739). Each
          line holds a set: its name, its description and its genes, separated by tabs;
        - a ``.csv`` or ``.tsv`` table with one column per set, its name in the first row;
        - a folder, of which all ``.gmt``, ``.csv`` and ``.tsv`` files are read by name.

        Any other file is read as GMT. Blank lines, empty fields, a byte order mark and Windows line
        ends do no harm, and a gene that a set repeats counts once.

    Returns
    -------
    Sets by name, in the order of the file.

    Raises
    ------
    InputError
        If the file is missing, is not UTF-8 text or has no set, or if a set has no name or no
        genes, or has the name of another set.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "mine.gmt"
    ...     _ = file.write_text("T_CELLS\\tmy markers\\tCD3D\\tCD3E\\n")
    ...     sets = read_gene_sets(file)
    >>> sets["T_CELLS"]
    GeneSet(name='T_CELLS', description='my markers', genes=('CD3D', 'CD3E'))
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputError("no such file of gene sets", path=path, fix="check the path")
    is_table = path.suffix.lower() in TABLE_SEPARATORS
    sets: dict[str, GeneSet] = {}
    for gene_set in _table_sets(path) if is_table else _gmt_sets(path):
        sets[gene_set.name] = gene_set
    if not sets:
        raise InputError(
            "holds no gene set", path=path, fix=_TABLE_LAYOUT if is_table else _GMT_LAYOUT
        )
    return sets


def _read_folder(folder: Path) -> dict[str, GeneSet]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in GENE_SET_SUFFIXES)
    if not files:
        raise InputError(
            "the folder holds no file of gene sets",
            path=folder,
            fix=f"put {', '.join(GENE_SET_SUFFIXES)} files into it",
        )
    sets: dict[str, GeneSet] = {}
    for file in files:
        _add(sets, read_gene_sets(file), file)
    return sets


def _add(sets: dict[str, GeneSet], more: dict[str, GeneSet], path: Path) -> None:
    if repeated := [name for name in more if name in sets]:
        raise InputError(
            f"set {preview(repeated)} has the name of a set that was loaded before",
            path=path,
            fix="rename the set in one of the files, or give one of the files only",
        )
    sets |= more


def _gmt_sets(path: Path) -> Iterator[GeneSet]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # \r\n and \r were turned into \n
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot be read as text ({error})", path=path, fix="give an uncompressed GMT file"
        ) from error
    names: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
        if not name:
            raise InputError(f"line {number}: the set has no name", path=path, fix=_GMT_LAYOUT)
        if not genes:
            raise InputError(
                f"line {number}: set {name[:60]!r} has no genes", path=path, fix=_GMT_LAYOUT
            )
        if name in names:
            raise InputError(
                f"line {number}: set {name!r} appears twice", path=path, fix=_NO_REPEATS
            )
        names.add(name)
        yield GeneSet(name, rest[0], genes)


def _table_sets(path: Path) -> Iterator[GeneSet]:
    # Sets differ in size, and some programs leave out the empty cells at the end of a row. The
    # project's reader of tables refuses rows of unequal length, so csv is used here.
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            rows = list(csv.reader(text, delimiter=TABLE_SEPARATORS[path.suffix.lower()]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot be read as a table ({error})", path=path, fix="save it as UTF-8 text"
        ) from error
    names = [name.strip() for name in rows[0]] if rows else []
    if repeated := duplicates(names):
        raise InputError(f"set {preview(repeated)} appears twice", path=path, fix=_NO_REPEATS)
    for column, name in enumerate(names):
        cells = (row[column].strip() for row in rows[1:] if column < len(row))
        genes = tuple(dict.fromkeys(gene for gene in cells if gene))
        if not name:
            raise InputError(f"column {column + 1} has no name", path=path, fix=_TABLE_LAYOUT)
        if not genes:
            raise InputError(
                f"column {column + 1} ({name}) has no genes", path=path, fix=_TABLE_LAYOUT
            )
        yield GeneSet(name, "", genes)
