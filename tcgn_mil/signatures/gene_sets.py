"""Read gene sets from GMT files or tables, and find those that are shipped with the package.

A gene set is a file in the folder ``sets`` beside this module: every ``.gmt`` file there is shipped
and found by :func:`shipped_gene_set_files`. Sets from elsewhere, a file or a folder of files, are
added by :func:`load_gene_sets`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage, reads
from tcgn_mil.io.tables.ragged import is_table, read_ragged_rows
from tcgn_mil.io.tables.text_file import check_file, open_text
from tcgn_mil.progress import tell
from tcgn_mil.text import duplicates, preview

# Most symbols of genes are capitals with a number.
_GENE_LIKE = re.compile(r"(?=.*\d)[A-Z][A-Z0-9]{1,9}(?:-[A-Z0-9]{1,4})?|ENS[A-Z]*G\d{11}(?:\.\d+)?")
_WORD_IN_CAPITALS = re.compile(r"[A-Z]{2,8}")
# Accessions that stand in the descriptions of public collections, such as M5890 of MSigDB.
_ACCESSION = re.compile(r"(?:M|WP|GSE|GDS|PMID|PMC|HSA|MAP|KO|K|R|P)\d{3,}")
_GMT_SUFFIXES = (".gmt", ".gmt.gz")
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


@reads("gene sets", fix="check the file, and copy it again")
def read_gene_sets(path: str | Path) -> dict[str, GeneSet]:
    """Read the gene sets of a file or of all files in a folder.

    Parameters
    ----------
    path
        One of:

        - a ``.gmt`` file, the format of MSigDB (Liberzon et al., Bioinformatics 2011;27:1739). Each
          line holds a set: its name, its description and its genes, separated by tabs;
        - a table (``.csv``, ``.tsv``, also with .gz or .zip, or Parquet) with one column per set,
          its name in the first row;
        - a folder, of which all such files are read by name.

        Any other file is read as GMT. Blank lines, empty fields, a byte order mark and Windows line
        ends do no harm, and a gene that a set repeats counts once.

    Returns
    -------
    Sets by name, in the order of the file.

    Raises
    ------
    InputError
        If the file is missing, is not UTF-8 text or has no set, or if a set has no name, no genes
        or a gene in place of its description, or has the name of another set.

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
    table = is_table(path)
    sets: dict[str, GeneSet] = {}
    for gene_set in _table_sets(path) if table else _gmt_sets(path):
        sets[gene_set.name] = gene_set
    if not sets:
        raise InputError(
            "holds no gene set", path=path, fix=_TABLE_LAYOUT if table else _GMT_LAYOUT
        )
    return sets


def _read_folder(folder: Path) -> dict[str, GeneSet]:
    files = sorted(
        file
        for file in folder.iterdir()
        if is_table(file) or file.name.lower().endswith(_GMT_SUFFIXES)
    )
    if not files:
        raise InputError(
            "the folder holds no file of gene sets",
            path=folder,
            fix="put .gmt, .csv or .tsv files into it",
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
    check_file(path)
    with (
        describe_damage(path, what="text", fix="give a GMT file as text or .gz"),
        open_text(path) as text,
    ):
        lines = text.read().splitlines()
    names: set[str] = set()
    fields = {
        number: [field.strip() for field in line.split("\t")]
        for number, line in enumerate(lines, start=1)
        if line.strip()
    }
    _check_descriptions(fields, path)
    for number, (name, *rest) in fields.items():
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


def _check_descriptions(fields: dict[int, list[str]], path: Path) -> None:
    """Check that no gene stands where the description of a set should be.

    Without its description a set would lose its first gene, and nothing would show it. A
    description that is the name of the set, or one of its genes, takes no gene away.

    Raises
    ------
    InputError
        If a description is certainly or very likely a gene. A single word in capitals, which may
        be one, is named on stderr.
    """
    described = {number: row[1] for number, row in fields.items() if len(row) > 2 and row[1]}
    times = Counter(described.values())
    elsewhere = {gene for row in fields.values() for gene in row[2:] if gene}
    for number, text in described.items():
        name, _, *own = fields[number]
        if text in (name, *own):
            continue
        if text in elsewhere or (times[text] == 1 and _looks_like_gene(text, own)):
            raise InputError(
                f"line {number}: set {name[:60]!r} has {text} where its description should be,"
                " which is a gene, so that the set would lose it",
                path=path,
                fix="write a description between the name and the first gene, for example"
                f" {name[:30]}, na, {text}, with tabs between them",
            )
        if times[text] == 1 and _WORD_IN_CAPITALS.fullmatch(text) and text != "NA":
            tell(
                f"{path}, line {number}: {text} is read as the description of set {name[:60]}; if"
                " it is a gene, write a description before it"
            )


def _looks_like_gene(text: str, own: list[str]) -> bool:
    """Return whether a text is a symbol with a number, an Ensembl id, or a number among numbers."""
    if text.isdigit():
        return all(gene.isdigit() for gene in own if gene)
    return _GENE_LIKE.fullmatch(text) is not None and _ACCESSION.fullmatch(text) is None


def _table_sets(path: Path) -> Iterator[GeneSet]:
    # Sets differ in size, and some programs leave out the empty cells at the end of a row.
    rows = read_ragged_rows(path)
    names = rows[0] if rows else []
    if repeated := duplicates(names):
        raise InputError(f"set {preview(repeated)} appears twice", path=path, fix=_NO_REPEATS)
    for column, name in enumerate(names):
        cells = (row[column] for row in rows[1:] if column < len(row))
        genes = tuple(dict.fromkeys(gene for gene in cells if gene))
        if not name:
            raise InputError(f"column {column + 1} has no name", path=path, fix=_TABLE_LAYOUT)
        if not genes:
            raise InputError(
                f"column {column + 1} ({name}) has no genes", path=path, fix=_TABLE_LAYOUT
            )
        yield GeneSet(name, "", genes)
