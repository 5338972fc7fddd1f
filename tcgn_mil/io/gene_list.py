"""Read lists of genes, and tables with one row for each gene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.file_formats.reading import describe_damage, reads
from tcgn_mil.io.atomic import write_json
from tcgn_mil.panels import shipped_panels
from tcgn_mil.types.genes import GenePanel

if TYPE_CHECKING:
    import pandas as pd

GENE_TABLE, PUBLISHED_GENES = "genes.csv", "genes.json"


@reads("a list of genes", fix="give a text file with one gene per line")
def read_gene_list(path: str | Path) -> GenePanel:
    """Read a text file with one gene per line.

    Parameters
    ----------
    path
        UTF-8 text. Empty lines and lines that start with ``#`` are skipped. The name of a list that
        comes with the package (:mod:`tcgn_mil.panels`) is accepted, too.

    Returns
    -------
    GenePanel
        The genes in the order of the file.

    Raises
    ------
    InputError
        If the file is missing, is not text, names no gene, or repeats a gene.

    Examples
    --------
    >>> len(read_gene_list("tcgn-her2st").genes)
    785
    """
    shipped = shipped_panels()
    path = shipped.get(str(path)) or Path(path)
    if not path.is_file():
        raise InputError(
            "no such gene list",
            path=path,
            fix=f"check the path, or name a list of the package: {', '.join(shipped)}",
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(
            "is not a text file", path=path, fix="give a text file with one gene per line"
        ) from error
    return GenePanel(tuple(line for line in lines if line and not line.startswith("#")))


def read_gene_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV table with a column ``gene``, such as genes.csv of a run.

    Parameters
    ----------
    path
        The table.

    Returns
    -------
    DataFrame
        The index holds the genes as text, so that a gene called ``NA`` or ``1`` keeps its name.
    """

    return read_own_csv(
        path,
        what="a table of genes",
        fix="run the command that wrote it again",
        needs=("gene",),
        converters={"gene": str},
    ).set_index("gene")


def write_published_genes(folder: str | Path, table: pd.DataFrame) -> None:
    """Write the table of a model's genes as JSON, since no CSV file is published.

    Parameters
    ----------
    folder
        Folder of the published model.
    table
        One row per gene, as :func:`read_gene_table` returns it.
    """
    columns = {
        str(name): [None if value != value else value for value in column.tolist()]
        for name, column in table.items()
    }
    write_json(Path(folder) / PUBLISHED_GENES, {"genes": table.index.tolist(), "columns": columns})


def read_model_genes(folder: str | Path) -> pd.DataFrame:
    """Read the table of a slide model's genes, of a run or of a published model.

    Returns
    -------
    DataFrame
        As :func:`read_gene_table` returns it.

    Raises
    ------
    InputError
        If the table cannot be read.
    """
    import pandas as pd

    path = Path(folder) / PUBLISHED_GENES
    if not path.is_file():
        return read_gene_table(Path(folder) / GENE_TABLE)
    fix = "publish the model again"
    stored = read_json(path, what="a table of genes", fix=fix)
    with describe_damage(path, what="a table of genes", fix=fix):
        index = pd.Index([str(gene) for gene in stored["genes"]], name="gene")
        # A column of nothing but missing values is one of numbers.
        return pd.DataFrame(
            {
                name: pd.Series(
                    values,
                    index=index,
                    dtype=float if all(value is None for value in values) else None,
                )
                for name, values in stored["columns"].items()
            },
            index=index,
        )
