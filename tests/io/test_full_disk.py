"""A disk that takes no more ends the writing of HDF5 with an error, and not the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_HDF5 = """
from tcgn_mil.io.hdf5 import create_hdf5

def write(path):
    with create_hdf5(path) as file:
        file.create_dataset("features", data=np.ones((100, 100)), chunks=(10, 100))
"""
_ANNDATA = """
from anndata import AnnData
from tcgn_mil.io.anndata_file import write_anndata

def write(path):
    write_anndata(path, AnnData(np.random.default_rng(0).random((100, 100))))
"""
_WRITE = """
import gc, resource, sys
import numpy as np
{writer}
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    write(sys.argv[1])
except OSError as error:
    print(error.strerror)
gc.collect()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the size of files")
@pytest.mark.parametrize("writer", [_HDF5, _ANNDATA])
def test_the_process_goes_on_and_no_file_is_left(writer: str, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _WRITE.format(writer=writer), str(tmp_path / "S1.h5")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (told.stdout, told.stderr) == ("File too large\n", "")
    assert not list(tmp_path.iterdir())


def test_anndata_opens_no_file_to_write_itself() -> None:
    folders = [ROOT / name for name in ("tcgn_mil", "preprocessing", "experiments")]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(sources) > 100
    assert [path for path in sources if ".write_h5ad(" in path.read_text(encoding="utf-8")] == []
