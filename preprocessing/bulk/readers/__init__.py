"""Read bulk expression; each layout is one module, registered in :data:`READERS`.

To add a layout, write a module with an :class:`ExpressionReader` and register it here, or call
:func:`register_expression_reader` from your own code.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers import (
    cbioportal,
    firehose,
    gct,
    gdc,
    geo_series,
    h5ad,
    isb_cgc,
    porpoise,
    recount3,
    sequoia,
    wide,
)
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader
from tcgn_mil.registry import add_entry
from tcgn_mil.types.units import ExpressionUnit

AUTO = "auto"
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods")
READERS: dict[str, ExpressionReader] = {}


def register_expression_reader(reader: ExpressionReader) -> None:
    """Add a layout of expression files.

    With ``auto``, layouts are tried in reverse order of registration. ``wide`` accepts any table
    and is registered first, so that it is tried last. A name that is taken raises InputError.
    """
    for layout in reader.layouts:
        add_entry(READERS, layout, reader, what="layout of expression")


for _module in (
    wide,
    isb_cgc,
    porpoise,
    sequoia,
    cbioportal,
    recount3,
    gct,
    firehose,
    geo_series,
    h5ad,
    gdc,
):
    register_expression_reader(_module.READER)


@reads("a table of expression", fix="check the file, and copy it again")
def read_expression_table(
    path: str | Path,
    *,
    layout: str = AUTO,
    unit: ExpressionUnit | None = None,
    logarithm: str = "",
    layer: str | None = None,
    patients: Collection[str] = (),
) -> ExpressionTable:
    """Read bulk expression of one source.

    Parameters
    ----------
    path
        CSV, TSV or a table separated by blanks, also .gz or .zip; GCT; a series matrix of GEO;
        Parquet; AnnData (.h5ad); or a folder of GDC files.
    layout
        A key of :data:`READERS`, or ``auto`` to judge the layout by the contents.
    unit
        Unit of the values. Only GDC files need it, because they hold several.
    logarithm
        ``log2``, ``ln`` or ``log10`` if the values are declared as such; else empty. AnnData files
        may state another one.
    layer
        Layer of an AnnData to read instead of X.
    patients
        Patients of the slides. Their ids tell samples from genes in a wide table without TCGA
        barcodes and Ensembl ids.

    Returns
    -------
    ExpressionTable
        Samples x genes under the names of the file, float32.

    Raises
    ------
    InputError
        If the layout is unknown, the source cannot be read, or its contents do not fit the layout.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "bulk.csv"
    ...     _ = path.write_text("id,CD3D,TP53\\nTCGA-AA-0001-01A,2.5,1\\nTCGA-BB-0002-01A,0,4\\n")
    ...     table = read_expression_table(path)
    >>> table.layout
    'samples-by-genes'
    >>> table.values
                      CD3D  TP53
    TCGA-AA-0001-01A   2.5   1.0
    TCGA-BB-0002-01A   0.0   4.0
    """
    path = Path(path)
    if path.suffix.lower() in _WORKBOOKS:
        raise InputError(
            "is a workbook, and workbooks turn names of genes into dates",
            path=path,
            fix="give the text file that it was made from, or save the sheet as CSV and look for"
            " dates among its genes",
        )
    if layout == AUTO:
        # Layouts are asked one after the other: those that are asked first know files that the
        # others cannot open.
        fitting = (reader for reader in reversed(READERS.values()) if reader.is_layout(path))
        first = next(fitting, None)
        if first is None:
            raise InputError(
                "has no columns",
                path=path,
                fix="give a table with ids in the first column and values in the others",
            )
        reader, layout = first, first.layouts[0]
    elif layout in READERS:
        reader = READERS[layout]
    else:
        raise InputError(
            f"unknown layout {layout!r}", fix=f"choose one of {', '.join((AUTO, *READERS))}"
        )
    if layer is not None and not reader.has_layers:
        raise InputError(
            "has no layers", path=path, fix="remove the option --layer, which is for .h5ad files"
        )
    return reader.read(path, ExpressionRequest(layout, unit, logarithm, layer, patients))
