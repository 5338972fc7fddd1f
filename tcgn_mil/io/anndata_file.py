"""Open and write .h5ad files (AnnData), and read the metadata that this package stores in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.late_errors import late_errors
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.io.atomic import atomic_path

if TYPE_CHECKING:
    from anndata import AnnData

META_KEY = "tcgn_mil"  # key in `uns` whose value is a JSON object


def open_anndata(
    path: str | Path, *, what: str, missing_fix: str, broken_fix: str, backed: bool = False
) -> AnnData:
    """Open an .h5ad file.

    Parameters
    ----------
    path
        The file.
    what
        Kind of file in the error message, for example ``cohort``.
    missing_fix, broken_fix
        Advice if the file is missing, and if it cannot be read.
    backed
        Whether the matrices stay on disk. The caller then closes ``AnnData.file``.

    Returns
    -------
    AnnData

    Raises
    ------
    InputError
        If the file is missing or cannot be read, claims far more data than it stores, or has a
        sparse matrix whose indices lie outside of it. Compiled code would read foreign memory at
        such indices.
    """
    import anndata
    import h5py
    from scipy import sparse

    from tcgn_mil.hdf5_limits import check_hdf5

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such {what}", path=path, fix=missing_fix)
    with describe_damage(path, what="AnnData", fix=broken_fix):
        with h5py.File(path, "r") as file:
            check_hdf5(file, path)
        if backed:
            return anndata.read_h5ad(path, backed="r")
        data = anndata.read_h5ad(path)
        for matrix in (data.X, *data.layers.values(), *data.obsm.values(), *data.obsp.values()):
            if sparse.issparse(matrix) and hasattr(matrix, "check_format"):
                matrix.check_format(full_check=True)
    return data


def write_anndata(path: str | Path, data: AnnData) -> None:
    """Write an .h5ad file atomically, as ``AnnData.write_h5ad`` does with gzip.

    That method opens the file itself. If the disk is full, HDF5 then cannot close the file, and
    prints errors of its own while the process ends.

    Parameters
    ----------
    path
        File to write.
    data
        Its content, in memory and without `raw`. Columns of text that repeats become categories.

    Raises
    ------
    OSError
        If the disk is full or fails. An older file at `path` then stays as it was.

    Examples
    --------
    >>> import anndata, numpy
    >>> write_anndata("ones.h5ad", anndata.AnnData(numpy.ones((2, 3))))
    >>> anndata.read_h5ad("ones.h5ad").shape
    (2, 3)
    """
    import h5py
    from anndata.io import write_elem

    assert not data.isbacked
    assert data.raw is None
    data.strings_to_categoricals()
    parts: dict[str, Any] = {"X": data.X, "obs": data.obs, "var": data.var}
    for name in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
        parts[name] = dict(getattr(data, name))
    with (
        atomic_path(path) as temporary,
        late_errors(temporary) as raw,
        h5py.File(raw, "w") as file,
    ):
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        for name, part in parts.items():
            if part is not None:
                write_elem(file, name, part, dataset_kwargs={"compression": "gzip"})


def stored_meta(data: AnnData) -> dict[str, Any]:
    """Return the metadata that this package stored: unit, provenance and kind of the file.

    Parameters
    ----------
    data
        Content of an .h5ad file.

    Returns
    -------
    dict
        Empty if the file has no such metadata, as files of other tools.
    """
    try:
        meta = json.loads(str(data.uns.get(META_KEY, "{}")))
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}
