"""Read a folder of STAR-count files from the GDC with its sample sheet.

The sheet names the files. Each lies in the folder itself or in a subfolder named by its File ID, as
the GDC's client downloads it, compressed or not. The declared unit chooses the column.

All files must name the same genes. A file that cannot be read, or that names other genes than most
files, is left out with the reason.

The type of a sample comes from its TCGA barcode. For other studies it comes from the sheet: portals
before 2024 write the column Sample Type, later ones Tissue Type, Tumor Descriptor and Specimen
Type.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure
from tcgn_mil.io.tables.delimited import read_text_columns
from tcgn_mil.io.tables.schema import check_table
from tcgn_mil.io.tables.text_file import MAX_TABLE_BYTES
from tcgn_mil.preprocessing.bulk.expression_table import (
    ExpressionRequest,
    ExpressionTable,
    Person,
)
from tcgn_mil.preprocessing.bulk.genes import TALLIES
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader
from tcgn_mil.preprocessing.schemas import SAMPLE_SHEET
from tcgn_mil.progress import Progress
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import preview

GDC = "gdc"
COLUMNS = {
    "counts": "unstranded",
    "tpm": "tpm_unstranded",
    "fpkm": "fpkm_unstranded",
    "fpkm-uq": "fpkm_uq_unstranded",
}
SUFFIX = ".augmented_star_gene_counts.tsv"
SHEETS = "gdc_sample_sheet*.tsv"
MAX_FILE_BYTES = 2**28  # unpacked; a file of 60,660 genes has 4 MB
_STAGE = "expression"
_TYPE_COLUMNS = ("Sample Type", "Tissue Type", "Tumor Descriptor", "Specimen Type")
_NO_TUMOUR = (
    "normal",
    "control",
    "peritumoral",
    "cell line",
    "xenograft",
    "organoid",
    "cancer model",
)
# Words of the sheet to TCGA's code of the sample type. The first word that occurs decides: "new
# primary" has to come before "primary".
_TYPES = {"recurren": 2, "metasta": 6, "new primary": 5, "primary": 1}


class _Entry(NamedTuple):
    """A file that the sample sheet names."""

    file_id: str
    name: str
    sample: str
    person: Person


def is_gdc(path: Path) -> bool:
    """Accept any folder; no other layout is one."""
    return path.is_dir()


def read_gdc(folder: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read all STAR-count files that the sample sheet of a folder names.

    Parameters
    ----------
    folder
        Folder with ``gdc_sample_sheet*.tsv`` and the files that it names.
    request
        Its unit is ``counts``, ``tpm``, ``fpkm`` or ``fpkm-uq``.

    Returns
    -------
    ExpressionTable
        One row for each file that could be read, under its Sample ID, in the order of the sheet.
        Genes are Ensembl ids with their symbols. The failures list files that could not be read,
        and files that the sheet does not name.

    Raises
    ------
    InputError
        If the sheet is missing or faulty, the files do not hold the unit, or no file can be read.
    """
    unit = request.unit
    if str(unit) not in COLUMNS:
        raise InputError(
            f"GDC files hold {', '.join(COLUMNS)}, not {unit}",
            path=folder,
            fix="declare one of these with --unit",
        )
    entries, failures = _read_sheet(_sheet_of(folder))
    failures += _unlisted(folder, {entry.name for entry in entries})
    if not entries:
        raise InputError(
            "no file of the sample sheet can be used", path=folder, fix=_first_reason(failures)
        )
    table, broken = _read_files(folder, entries, COLUMNS[str(unit)])
    return table._replace(failures=(*failures, *broken))


def _first_reason(failures: Sequence[Failure]) -> str:
    return (
        f"{failures[0].slide}: {failures[0].reason}"
        if failures
        else "give the sheet of these files"
    )


def _sheet_of(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError("no such folder of GDC files", path=folder, fix="check the path")
    sheets = sorted(folder.glob(SHEETS))
    if len(sheets) != 1:
        raise InputError(
            f"holds {len(sheets)} sample sheets"
            + (f": {preview([sheet.name for sheet in sheets])}" if sheets else ""),
            path=folder,
            fix=f"put the one sample sheet of the cart ({SHEETS}) into the folder",
        )
    return sheets[0]


def _read_sheet(sheet: Path) -> tuple[list[_Entry], list[Failure]]:
    """Return the STAR-count files that the sheet names, and failures for ambiguous rows."""
    rows = read_text_columns(sheet)
    if "File Name" in rows:
        rows = rows[rows["File Name"].map(lambda name: _plain(name).endswith(SUFFIX))]
        if rows.empty:
            raise InputError(
                f"names no *{SUFFIX}",
                path=sheet,
                fix="give the sample sheet of STAR - Counts files",
            )
    untyped = not {"Sample Type", "Tissue Type"} & set(rows.columns)
    rows = check_table(rows, SAMPLE_SHEET, path=sheet)
    entries, failures = [], []
    for row, cells in rows.to_dict("index").items():
        name, samples = _plain(cells["File Name"]), _distinct(cells["Sample ID"])
        cases = _distinct(cells["Case ID"])
        patients = {patient_of(name) for name in (*cases, *samples) if parse_barcode(name)}
        # Pooled files of several samples cannot be assigned to one patient.
        if len(cases) > 1 or len(samples) > 1 or len(patients) > 1:
            reason = f"the sample sheet assigns it to {preview([*cases, *samples])}"
            failures.append(
                Failure(name, _STAGE, reason, "keep files of one sample of one patient")
            )
            continue
        # TCGA barcodes state the type. For other studies a sheet without types could hide normal
        # tissue among the tumours.
        barcode = parse_barcode(samples[0])
        if untyped and (barcode is None or barcode.sample_type is None):
            raise InputError(
                f"row {row}: neither the sheet nor its name says whether sample {samples[0]} is"
                " of a tumour",
                path=sheet,
                fix="download the sheet with its column Sample Type or Tissue Type",
            )
        kind = " ".join(cells[column] for column in _TYPE_COLUMNS)
        person = _person(patient_of(cases[0]), kind, cells["Preservation Method"])
        entries.append(_Entry(cells["File ID"], name, samples[0], person))
    return entries, failures


def _distinct(cell: str) -> list[str]:
    """Return the ids of a cell, each once: the GDC repeats an id for each portion (``X, X``)."""
    return list(dict.fromkeys(part.strip() for part in cell.split(",") if part.strip())) or [cell]


def _person(patient: str, kind: str, preservation: str = "") -> Person:
    """Return whose sample it is; a sample of unstated type counts as tumour, as in barcodes."""
    words = kind.lower()
    if any(word in words for word in _NO_TUMOUR):
        return Person(patient, is_tumour=False, preservation=preservation)
    code = next((code for word, code in _TYPES.items() if word in words), None)
    return Person(patient, True, code, preservation)


def _plain(name: str) -> str:
    return name.removesuffix(".gz")


def _unlisted(folder: Path, listed: set[str]) -> list[Failure]:
    """Return a failure for each STAR-count file that the sheet does not name."""
    present = {
        _plain(path.name) for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}{SUFFIX}*")
    }
    return [
        Failure(
            name,
            _STAGE,
            "is not in the sample sheet",
            "give the sheet of all files, or remove the file",
        )
        for name in sorted(present - listed)
        if name.endswith(SUFFIX)
    ]


def _read_files(
    folder: Path, entries: Sequence[_Entry], column: str
) -> tuple[ExpressionTable, list[Failure]]:
    """Read the files, and list those that cannot be read or name other genes than most files.

    Most files decide which list of genes is the right one, because a folder may hold files of two
    GDC releases with different annotations.
    """
    values: dict[str, NDArray[np.float32]] = {}
    genes_of: dict[str, str] = {}
    gene_lists: dict[str, pd.Series] = {}
    failures = []
    for entry in Progress(entries, desc="GDC files", unit="file"):
        try:
            table = _read_one(_find(folder, entry), column)
        except InputError as error:
            failures.append(Failure(entry.name, _STAGE, error.reason, error.fix or ""))
            continue
        # After the first file the number of genes is known, so a folder that is too large is
        # refused before all of it is read.
        _check_size(len(entries), len(table), folder)
        genes_of[entry.name] = hashlib.blake2b("\n".join(table.index).encode()).hexdigest()
        gene_lists.setdefault(genes_of[entry.name], table["gene_name"])
        values[entry.name] = table[column].to_numpy(np.float32)
    if not values:
        first = failures[0]
        reason = f"none of its {len(entries)} files can be used: {first.slide}: {first.reason}"
        raise InputError(reason, path=folder, fix=first.likely_fix)
    most = Counter(genes_of.values()).most_common(1)[0][0]
    for name, genes in genes_of.items():
        if genes != most:
            reason = _other_genes(gene_lists[genes].index, gene_lists[most].index)
            failures.append(
                Failure(name, _STAGE, reason, "download all files of one GDC release again")
            )
    kept = [entry for entry in entries if genes_of.get(entry.name) == most]
    symbols = gene_lists[most]
    matrix = np.empty((len(kept), len(symbols)), dtype=np.float32)
    for row, entry in enumerate(kept):
        matrix[row] = values.pop(
            entry.name
        )  # pop, so that the values are in memory only about once
    frame = pd.DataFrame(
        matrix, index=[entry.sample for entry in kept], columns=symbols.index.tolist(), copy=False
    )
    people = tuple(entry.person for entry in kept)
    return ExpressionTable(frame, GDC, symbols=tuple(symbols), people=people), failures


def _check_size(files: int, genes: int, folder: Path) -> None:
    if 4 * files * genes > MAX_TABLE_BYTES:
        raise InputError(
            f"{files} files of {genes} genes need {4 * files * genes / 2**30:.0f} GiB",
            path=folder,
            fix="split the folder and its sample sheet in two",
        )


def _find(folder: Path, entry: _Entry) -> Path:
    """Return the file, in the folder or in the subfolder of its id, compressed or not."""
    for parent in (folder / entry.file_id, folder):
        for path in (parent / entry.name, parent / f"{entry.name}.gz"):
            if path.is_file():
                return path
    raise InputError(
        "the file is missing", path=folder / entry.name, fix="download it again with the GDC client"
    )


def _read_one(path: Path, column: str) -> pd.DataFrame:
    """Read symbols (``gene_name``) and values of one file, indexed by gene id."""
    again = "download it again"
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise InputError(
                f"unpacks to more than {MAX_FILE_BYTES >> 20} MiB", path=path, fix=again
            )
        table = pd.read_csv(
            io.BytesIO(content),
            sep="\t",
            comment="#",
            usecols=["gene_id", "gene_name", column],
            dtype={"gene_id": str, "gene_name": str, column: np.float64},
            keep_default_na=False,
            na_values={column: [""]},
        )
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"cannot be read as STAR counts ({reason})", path=path, fix=again
        ) from error
    table = table[~table["gene_id"].isin(TALLIES)].set_index("gene_id")
    if table.empty or not content.endswith(b"\n") or not np.isfinite(table[column]).all():
        raise InputError("is cut off, or lacks the number of some gene", path=path, fix=again)
    return table


def _other_genes(genes: pd.Index, most: pd.Index) -> str:
    lacking, added = len(most.difference(genes)), len(genes.difference(most))
    differing = f"lacks {lacking} and adds {added}" if lacking + added else "has another order"
    return f"names other genes ({len(genes)}) than most files ({len(most)}): {differing}"


READER = ExpressionReader((GDC,), is_gdc, read_gdc)
