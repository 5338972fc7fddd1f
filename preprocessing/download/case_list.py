"""Read the list of patients that a download is limited to."""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.tcga_barcodes import patient_of

MAX_LIST_BYTES = 2**22
_HEADERS = frozenset(
    {
        "patient_id",
        "case_id",
        "case",
        "patient",
        "submitter_id",
        "case_submitter_id",
        "bcr_patient_barcode",
    }
)


def read_case_list(path: Path) -> list[str]:
    """Read patients, one on each line; of a table the first column.

    Parameters
    ----------
    path
        Text, CSV or TSV, with or without a header. TCGA barcodes of samples and slides are cut to
        the patient.

    Returns
    -------
    list of str
        Each patient once, in the order of the file.

    Raises
    ------
    InputError
        If the file cannot be read, or names no patient.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "cases.txt")
    ...     _ = path.write_text("patient_id\\nTCGA-AA-3506-01A\\nTCGA-AA-3506\\nTCGA-A6-2671\\n")
    ...     read_case_list(path)
    ['TCGA-AA-3506', 'TCGA-A6-2671']
    """
    one = "give a text file with one barcode on each line"
    if not path.is_file():
        raise InputError("no such file of patients", path=path, fix="check --cases")
    if path.stat().st_size > MAX_LIST_BYTES:
        raise InputError("is too large for a list of patients", path=path, fix=one)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError("is not text", path=path, fix=one) from error
    cells = [line.replace("\t", ",").split(",")[0].strip().strip('"').strip() for line in lines]
    names = [cell for cell in cells if cell]
    if names and names[0].lower() in _HEADERS:
        names = names[1:]
    if not names:
        raise InputError("names no patient", path=path, fix=one)
    return list(dict.fromkeys(patient_of(name) for name in names))
