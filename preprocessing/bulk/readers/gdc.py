"""A folder of GDC STAR-count files and its sample sheet, read into samples x genes.

Files are named in the sheet, and lie in the folder or each in the folder of its File ID, as the GDC's client leaves
them; packed or not. The declared unit chooses the column. All files name the same genes; one that names others than
most, or cannot be read, is left out with the reason. What a sample is, its TCGA name says; of other studies the sheet,
as portals before 2024 write it (Sample Type) or later ones (Tissue Type, Tumor Descriptor, Specimen Type).
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
from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure
from tcgn_mil.io.tables.delimited import MAX_TABLE_BYTES, read_text_columns
from tcgn_mil.io.tables.schema import check_table
from tcgn_mil.preprocessing.bulk.genes import TALLIES
from tcgn_mil.preprocessing.bulk.readers.tables import ExpressionTable, Person
from tcgn_mil.preprocessing.schemas import SAMPLE_SHEET
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import preview
from tcgn_mil.types.units import ExpressionUnit

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
_TYPES = {
    "recurren": 2,
    "metasta": 6,
    "new primary": 5,
    "primary": 1,
}  # words -> TCGA's code, the first that is there


class _Entry(NamedTuple):
    """A file of the sheet."""

    file_id: str
    name: str
    sample: str
    person: Person


def read_gdc(folder: str | Path, unit: ExpressionUnit) -> ExpressionTable:
    """Read the folder.

    Parameters
    ----------
    folder
        With ``gdc_sample_sheet*.tsv`` and the files it names.
    unit
        ``counts``, ``tpm``, ``fpkm`` or ``fpkm-uq``.

    Returns
    -------
    Values of the files that could be read, under their Sample ID, in the order of the sheet; Ensembl ids as genes, with
    their symbols; a failure for each file that could not be read, or that the sheet does not name.

    Raises
    ------
    InputError
        If there is no sheet or it is faulty, the files hold no such unit, or none can be read.
    """
    folder = Path(folder)
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
            fix=f"put the cart's one sample sheet ({SHEETS}) into the folder",
        )
    return sheets[0]


def _read_sheet(sheet: Path) -> tuple[list[_Entry], list[Failure]]:
    """Entries of the STAR-count files, those of other files left out; and rows that contradict themselves."""
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
        patients = {patient_of(one) for one in (*cases, *samples) if parse_barcode(one)}
        if len(cases) > 1 or len(samples) > 1 or len(patients) > 1:
            reason = f"the sample sheet gives it to {preview([*cases, *samples])}"
            failures.append(
                Failure(name, _STAGE, reason, "keep files of one sample of one patient")
            )
            continue
        barcode = parse_barcode(samples[0])
        if untyped and (barcode is None or barcode.sample_type is None):
            raise InputError(
                f"row {row}: neither the sheet nor its name says whether sample {samples[0]} is of a tumour",
                path=sheet,
                fix="give the sheet with its column Sample Type or Tissue Type",
            )
        kind = " ".join(cells[column] for column in _TYPE_COLUMNS)
        entries.append(
            _Entry(cells["File ID"], name, samples[0], _person(patient_of(cases[0]), kind))
        )
    return entries, failures


def _distinct(cell: str) -> list[str]:
    """The GDC lists an id once a portion: ``X, X``."""
    return list(dict.fromkeys(part.strip() for part in cell.split(",") if part.strip())) or [cell]


def _person(patient: str, kind: str) -> Person:
    """By what the sheet says of a sample; what is not stated counts as tumour, as in a name."""
    words = kind.lower()
    if any(word in words for word in _NO_TUMOUR):
        return Person(patient, is_tumour=False)
    return Person(
        patient, True, next((code for word, code in _TYPES.items() if word in words), None)
    )


def _plain(name: str) -> str:
    return name.removesuffix(".gz")


def _unlisted(folder: Path, listed: set[str]) -> list[Failure]:
    """STAR-count files that lie there, but not in the sheet."""
    found = {
        _plain(path.name) for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}{SUFFIX}*")
    }
    return [
        Failure(
            name,
            _STAGE,
            "is not in the sample sheet",
            "give the sheet of all files, or remove the file",
        )
        for name in sorted(found - listed)
        if name.endswith(SUFFIX)
    ]


def _read_files(
    folder: Path, entries: Sequence[_Entry], column: str
) -> tuple[ExpressionTable, list[Failure]]:
    """The files that name the genes which most of them name, and a failure for each other."""
    values: dict[str, NDArray[np.float32]] = {}
    genes_of: dict[str, str] = {}
    gene_lists: dict[str, pd.Series] = {}
    failures = []
    for entry in tqdm(entries, desc="GDC files", unit="file"):
        try:
            table = _read_one(_find(folder, entry), column)
        except InputError as error:
            failures.append(Failure(entry.name, _STAGE, error.reason, error.fix or ""))
            continue
        _bound(len(entries), len(table), folder)
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
        matrix[row] = values.pop(entry.name)  # so that the values are in memory about once
    frame = pd.DataFrame(
        matrix, index=[entry.sample for entry in kept], columns=symbols.index.tolist(), copy=False
    )
    people = tuple(entry.person for entry in kept)
    return ExpressionTable(frame, GDC, symbols=tuple(symbols), people=people), failures


def _bound(files: int, genes: int, folder: Path) -> None:
    if 4 * files * genes > MAX_TABLE_BYTES:
        raise InputError(
            f"{files} files of {genes} genes need {4 * files * genes / 2**30:.0f} GiB",
            path=folder,
            fix="split it",
        )


def _find(folder: Path, entry: _Entry) -> Path:
    """The file in the folder, or in that of its id, packed or not; names are plain, so it is nowhere else."""
    for parent in (folder / entry.file_id, folder):
        for path in (parent / entry.name, parent / f"{entry.name}.gz"):
            if path.is_file():
                return path
    raise InputError(
        "the file is missing", path=folder / entry.name, fix="download it again with the GDC client"
    )


def _read_one(path: Path, column: str) -> pd.DataFrame:
    """Symbols (``gene_name``) and values of one file, by gene id; the counts of reads on no gene are left out."""
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
        raise InputError("is cut off, or holds no number for some gene", path=path, fix=again)
    return table


def _other_genes(genes: pd.Index, most: pd.Index) -> str:
    lacking, added = len(most.difference(genes)), len(genes.difference(most))
    differing = f"lacks {lacking} and adds {added}" if lacking + added else "orders them anew"
    return f"names other genes ({len(genes)}) than most files ({len(most)}): {differing}"
