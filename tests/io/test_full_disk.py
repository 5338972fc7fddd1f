"""A disk that takes no more ends the writing of HDF5 with an error, and not the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_WRITE = """
import gc, resource, sys
import numpy as np
from tcgn_mil.io.hdf5 import create_hdf5

resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    with create_hdf5(sys.argv[1]) as file:
        file.create_dataset("features", data=np.ones((100, 100)), chunks=(10, 100))
except OSError as error:
    print(error.strerror)
gc.collect()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the size of files")
def test_the_process_goes_on_and_no_file_is_left(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _WRITE, str(tmp_path / "S1.h5")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (told.stdout, told.stderr) == ("File too large\n", "")
    assert not list(tmp_path.iterdir())
