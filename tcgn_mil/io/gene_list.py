"""Read lists of genes, and tables with one row for each gene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tcgn_mil.errors import InputError
from tcgn_mil.types.genes import GenePanel

if TYPE_CHECKING:
    import pandas as pd


def read_gene_list(path: str | Path) -> GenePanel:
    """Read a text file with one gene per line.

    Parameters
    ----------
    path
        UTF-8 text. Empty lines and lines that start with ``#`` are skipped.

    Returns
    -------
    GenePanel
        The genes in the order of the file.

    Raises
    ------
    InputError
        If the file is missing, is not text, names no gene, or repeats a gene.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such gene list", path=path, fix="check the path")
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
    import pandas as pd

    return pd.read_csv(path, converters={"gene": str}).set_index("gene")
