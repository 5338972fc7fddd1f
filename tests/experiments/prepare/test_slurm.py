"""The Slurm script of the documentation tiles and encodes every slide, with a stub of sbatch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcgn_mil.io.failures import read_failures

ROOT = Path(__file__).parents[3]
# Runs the tasks one after the other. As with Slurm, an option overrides the one of the script.
SBATCH = """#!/bin/bash
count=${1#--array=1-}
for task in $(seq "$count"); do
  SLURM_ARRAY_TASK_ID=$task bash "$2"
done
"""
# Tiles indeed, and writes down the calls of encode.
COMMAND = f"""#!/bin/bash
if [ "$1" = encode ]; then echo "$@" >> encode.txt; exit; fi
exec {sys.executable} -m tcgn_mil.experiments.main "$@" --mpp 0.5
"""


def script() -> str:
    page = (ROOT / "docs" / "guides" / "clusters.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(#!.*?)```", page, flags=re.DOTALL)
    return block


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.slow
def test_the_array_of_the_documentation_tiles_every_slide(tmp_path: Path) -> None:
    assert len(script().splitlines()) == 10
    rng = np.random.default_rng(0)
    (tmp_path / "slides").mkdir()
    for name in "abc":
        picture = np.full((900, 900, 3), 244, np.uint8)
        picture[200:700, 200:700] = rng.normal((150, 80, 140), 25, (500, 500, 3)).clip(0, 255)
        Image.fromarray(picture).save(tmp_path / "slides" / f"{name}.png")
    (tmp_path / "slides" / "text.svs").write_text("no slide")
    executable(tmp_path / "bin" / "sbatch", SBATCH)
    executable(tmp_path / "bin" / "tcgn-mil", COMMAND)
    assert "--array=1-30" in script()
    assert "SHARE=$SLURM_ARRAY_TASK_ID/30 " in script()
    smaller = script().replace("--workers 8", "--workers 1").replace("/30", "/2")
    (tmp_path / "cohort.sh").write_text(smaller)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run(
        ["sbatch", "--array=1-2", "cohort.sh"], cwd=tmp_path, env=environment, check=True
    )
    assert sorted(path.stem for path in (tmp_path / "tiles").glob("*.h5")) == ["a", "b", "c"]
    assert [row.slide for row in read_failures(tmp_path / "tiles")] == ["text"]
    page = (tmp_path / "tiles" / "contact_sheet.html").read_text(encoding="utf-8")
    assert "Tiles of 3 slides" in page
    calls = (tmp_path / "encode.txt").read_text(encoding="utf-8").splitlines()
    assert [call.split("--shard ")[1] for call in calls] == ["1/2", "2/2"]
