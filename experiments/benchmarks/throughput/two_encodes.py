"""Measure two ``encode`` commands side by side against one after the other.

    python -m tcgn_mil.experiments.benchmarks.throughput.two_encodes --out measured [--rounds 3]

Two synthetic slides are tiled once, and each command encodes one of them by a small untrained
encoder. "spinning" is how torch's threads wait by default (OMP_WAIT_POLICY=ACTIVE), "command" is
the command as it is, which sets the policy itself. The settings and the two ways take turns, and
ratios are taken within a round. The cores should be idle. Writes two_encodes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tcgn_mil.experiments.benchmarks.preprocessing import picture
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.progress import Progress

SETTINGS: dict[str, dict[str, str]] = {
    "spinning": {"OMP_WAIT_POLICY": "ACTIVE"},
    "command": {},
}
_THREADS = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SLIDES = ("first", "second")


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of a verb."""
    return [sys.executable, "-m", "tcgn_mil.experiments.main", *map(str, arguments)]


def make_tiles(folder: Path, side_um: float) -> None:
    """Write two synthetic slides, each in a folder of its own, and tile them."""
    for name in _SLIDES:
        slides = folder / name
        slides.mkdir(parents=True, exist_ok=True)
        write_pyramid(slides / f"{name}.tiff", picture((side_um, side_um), 0.5), mpp=0.5)
        tile = command("tile", slides, "--out", folder / f"{name}-tiles")
        subprocess.run(tile, check=True, capture_output=True)


def encode(folder: Path, slide: str, encoder: str, out: Path) -> list[str]:
    """Return the command that encodes a slide."""
    given = ("--tiles", folder / f"{slide}-tiles", "--encoder", encoder, "--out", out)
    return command("encode", folder / slide, *given, "--untrained", "--device", "cpu")


def seconds(commands: Sequence[Sequence[str]], settings: dict[str, str], together: bool) -> float:
    """Return the seconds of some commands, side by side or one after the other."""
    clean = {name: value for name, value in os.environ.items() if name not in _THREADS}
    environment = {**clean, **settings}
    start = time.perf_counter()
    running = []
    for line in commands:
        process = subprocess.Popen(
            line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        running.append(process)
        if not together:
            process.wait()
    for process in running:
        _, said = process.communicate()
        assert not process.returncode, said.decode()
    return time.perf_counter() - start


def compare(folder: Path, encoder: str, rounds: int, names: Sequence[str]) -> dict[str, Any]:
    """Return the seconds of each round, and the median of the ratios of each setting."""
    measured: dict[str, Any] = {name: {"serial_s": [], "together_s": []} for name in names}
    for number in Progress(range(rounds), desc="two encodes", unit="round"):
        for name in names:
            for way in ("serial", "together"):
                out = folder / f"{name}-{way}-{number}"
                encodes = [encode(folder, slide, encoder, out / slide) for slide in _SLIDES]
                took = seconds(encodes, SETTINGS[name], together=way == "together")
                measured[name][f"{way}_s"].append(took)
    for values in measured.values():
        ratios = np.divide(values["together_s"], values["serial_s"])
        values["together_over_serial"] = float(np.median(ratios))
    return measured


def main() -> None:
    """Measure, and write two_encodes.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side-um", type=float, default=3000)
    parser.add_argument("--settings", choices=SETTINGS, nargs="+", default=list(SETTINGS))
    parser.add_argument("--encoder", default="timm:resnet18")
    given = parser.parse_args()
    make_tiles(given.out, given.side_um)
    measured = compare(given.out, given.encoder, given.rounds, given.settings)
    write_json(given.out / "two_encodes.json", measured)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
