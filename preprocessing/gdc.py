"""A folder of GDC STAR-count files and its sample sheet, read into samples x genes.

Files are named in the sheet, and lie in the folder or each in the folder of its File ID, as the GDC's client leaves
them; packed or not. The declared unit chooses the column. All files name the same genes; one that does not, or cannot
be read, is left out with the reason.
"""

from __future__ import annotations

import gzip
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

from tcgn_mil.artefacts import content_hash
from tcgn_mil.contracts import Failure, preview
from tcgn_mil.data.units import ExpressionUnit
from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.barcodes import parse_barcode, patient_of
from tcgn_mil.preprocessing.expression_tables import ExpressionTable
from tcgn_mil.preprocessing.table_files import MAX_TABLE_BYTES, read_text_columns
from tcgn_mil.preprocessing.table_schemas import SAMPLE_SHEET, check_table

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


class _Entry(NamedTuple):
    """A file of the sheet."""

    file_id: str
    name: str
    sample: str
    patient: str
    is_tumour: bool


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
            f"GDC files hold {', '.join(COLUMNS)}, not {unit}", path=folder, fix="declare one of these with --unit"
        )
    entries, failures = _read_sheet(_sheet_of(folder))
    failures += _unlisted(folder, {entry.name for entry in entries})
    if not entries:
        raise InputError("no file of the sample sheet can be used", path=folder, fix=_first_reason(failures))
    values, genes, symbols, broken = _read_files(folder, entries, COLUMNS[str(unit)])
    failures += broken
    lost = {failure.slide for failure in broken}
    kept = [entry for entry in entries if entry.name not in lost]
    if not kept:
        raise InputError(
            f"none of its {len(entries)} files can be used: {broken[0].slide}: {broken[0].reason}",
            path=folder,
            fix=broken[0].likely_fix,
        )
    table = pd.DataFrame(values[: len(kept)], index=[entry.sample for entry in kept], columns=genes, copy=False)
    people = tuple((entry.patient, entry.is_tumour) for entry in kept)
    return ExpressionTable(table, GDC, symbols=symbols, people=people, failures=tuple(failures))


def _first_reason(failures: Sequence[Failure]) -> str:
    return f"{failures[0].slide}: {failures[0].reason}" if failures else "give the sheet of these files"


def _sheet_of(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError("no such folder of GDC files", path=folder, fix="check the path")
    sheets = sorted(folder.glob(SHEETS))
    if len(sheets) != 1:
        raise InputError(
            f"holds {len(sheets)} sample sheets" + (f": {preview([sheet.name for sheet in sheets])}" if sheets else ""),
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
            raise InputError(f"names no *{SUFFIX}", path=sheet, fix="give the sample sheet of STAR - Counts files")
    rows = check_table(rows, SAMPLE_SHEET, path=sheet)
    entries, failures = [], []
    for file_id, name, case, sample, kind in rows.itertuples(index=False):
        cases, samples = _distinct(case), _distinct(sample)
        patients = {patient_of(one) for one in (*cases, *samples) if parse_barcode(one)}
        if len(cases) > 1 or len(samples) > 1 or len(patients) > 1:
            reason = f"the sample sheet gives it to {preview([*cases, *samples])}"
            failures.append(Failure(_plain(name), _STAGE, reason, "keep files of one sample of one patient"))
            continue
        entries.append(_Entry(file_id, _plain(name), samples[0], patient_of(cases[0]), _is_tumour(kind)))
    return entries, failures


def _distinct(cell: str) -> list[str]:
    """The GDC lists an id once a portion: ``X, X``."""
    return list(dict.fromkeys(part.strip() for part in cell.split(",") if part.strip())) or [cell]


def _is_tumour(sample_type: str) -> bool:
    words = sample_type.lower()
    return not any(word in words for word in ("normal", "control", "cell line"))


def _plain(name: str) -> str:
    return name.removesuffix(".gz")


def _unlisted(folder: Path, listed: set[str]) -> list[Failure]:
    """STAR-count files that lie there, but not in the sheet."""
    found = {_plain(path.name) for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}{SUFFIX}*")}
    return [
        Failure(name, _STAGE, "is not in the sample sheet", "give the sheet of all files, or remove the file")
        for name in sorted(found - listed)
        if name.endswith(SUFFIX)
    ]


def _read_files(
    folder: Path, entries: Sequence[_Entry], column: str
) -> tuple[NDArray[np.float32], list[str], tuple[str, ...], list[Failure]]:
    """(files, G) values, the readable ones first, G ids and symbols; and the files that could not be used.

    The genes are those of the first file that can be read; should more files agree on others, of those.
    """
    passed_over: Counter[str] = Counter()
    wanted: str | None = None
    while True:
        values, reference, failures, kept = np.empty((0, 0), np.float32), None, [], 0
        for entry in tqdm(entries, desc="GDC files", unit="file"):
            try:
                table = _read_one(_find(folder, entry), column)
                found = content_hash(table.index.tolist())
                if wanted not in (None, found):
                    passed_over[found] += 1
                    raise _other_genes(table, reference)
            except InputError as error:
                failures.append(Failure(entry.name, _STAGE, error.reason, error.fix or ""))
                continue
            if reference is None:
                wanted, reference = found, table
                values = _room_for(len(entries), len(table), folder)
            values[kept] = table[column].to_numpy(np.float32)
            kept += 1
        most = max(passed_over, key=passed_over.__getitem__, default="")
        if not passed_over or passed_over[most] <= kept:
            break
        wanted, passed_over = most, Counter()
    if reference is None:
        return values, [], (), failures
    return values, reference.index.tolist(), tuple(reference["gene_name"]), failures


def _room_for(files: int, genes: int, folder: Path) -> NDArray[np.float32]:
    if 4 * files * genes > MAX_TABLE_BYTES:
        raise InputError(
            f"{files} files of {genes} genes need {4 * files * genes / 2**30:.0f} GiB", path=folder, fix="split it"
        )
    return np.empty((files, genes), dtype=np.float32)


def _find(folder: Path, entry: _Entry) -> Path:
    """The file in the folder, or in that of its id, packed or not; names are plain, so it is nowhere else."""
    for parent in (folder / entry.file_id, folder):
        for path in (parent / entry.name, parent / f"{entry.name}.gz"):
            if path.is_file():
                return path
    raise InputError("the file is missing", path=folder / entry.name, fix="download it again with the GDC client")


def _read_one(path: Path, column: str) -> pd.DataFrame:
    """Symbols (``gene_name``) and values of one file, by gene id; the counts of reads on no gene are left out."""
    again = "download it again"
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise InputError(f"unpacks to more than {MAX_FILE_BYTES >> 20} MiB", path=path, fix=again)
        table = pd.read_csv(
            io.BytesIO(content), sep="\t", comment="#", usecols=["gene_id", "gene_name", column],
            dtype={"gene_id": str, "gene_name": str, column: np.float64}, keep_default_na=False,
            na_values={column: [""]},
        )  # fmt: skip
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"cannot be read as STAR counts ({reason})", path=path, fix=again) from error
    table = table[~table["gene_id"].str.startswith("N_")].set_index("gene_id")
    if table.empty or not content.endswith(b"\n") or not np.isfinite(table[column]).all():
        raise InputError("is cut off, or holds no number for some gene", path=path, fix=again)
    return table


def _other_genes(table: pd.DataFrame, reference: pd.DataFrame | None) -> InputError:
    if reference is None:
        reason = f"names other genes ({len(table)}) than most files"
    else:
        missing = reference.index.difference(table.index)
        added = table.index.difference(reference.index)
        differing = f"lacks {len(missing)} and adds {len(added)}" if len(missing) + len(added) else "orders them anew"
        reason = f"names other genes ({len(table)}) than the files before it ({len(reference)}): {differing}"
    return InputError(reason, fix="download all files of one GDC release again")
