"""Small slides, an encoder and a slide model, for tests that change an input between two runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
from safetensors.torch import save_file
from slides_in_memory import run_in_memory, write_cohort_of_encoder
from tifffile import imwrite
from typer.testing import CliRunner

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.main import make_app

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
SIZE = ("--patch-px", 32, "--patch-mpp", 0.69)


def paint(path: Path, seed: int = 0) -> Path:
    """Write an uncompressed TIFF of 400 x 300 µm whose size does not depend on its pixels."""
    rng = np.random.default_rng(seed)
    image = np.full((600, 800, 3), 245, dtype=np.uint8)
    noise = rng.integers(60, 200, (50, 62, 1))
    image[100:500, 150:646] = np.kron(noise, np.ones((8, 8, 1))) * [1, 0.6, 0.9]
    path.parent.mkdir(parents=True, exist_ok=True)
    per_cm = (1e4 / 0.5,) * 2
    imwrite(path, image, tile=(64, 64), resolution=per_cm, resolutionunit="CENTIMETER")
    return path


def write_encoder(folder: Path, mean: float = 0.5) -> str:
    """Write a vision transformer of 32 px; return it as a value of ``--encoder``."""
    folder.mkdir(exist_ok=True)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": SMALL,
        "pretrained_cfg": {"mean": [mean] * 3, "std": [0.5] * 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def write_slide_model(folder: Path, encoder: str) -> Path:
    """Train a slide model on features of an encoder."""
    config = write_cohort_of_encoder(folder, EncodeSettings(encoder, device="cpu"))
    run_in_memory(config, folder / "slide-model")
    return folder / "slide-model"


class Answer:
    """Answer of the command line: exit code, output, and everything on standard error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def ask(*arguments: Any) -> Answer:
    """Run the command in this process; a refusal is its one line and exit code 2."""
    result = CliRunner().invoke(make_app(), [str(each) for each in arguments])
    if isinstance(result.exception, InputError):
        return Answer(2, result.stdout, result.stderr + str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


@dataclass(frozen=True)
class Cohort:
    """A folder with slides, ``slides.csv``, tiles and features."""

    folder: Path
    encoder: str

    def slide(self, name: str) -> Path:
        return self.folder / "slides" / f"{name}.tiff"

    def tiles_of(self, name: str) -> Path:
        return self.folder / "tiles" / f"{name}.h5"

    def features_of(self, name: str) -> Path:
        return self.folder / "features" / f"{name}.h5"

    def list_slides(self, *slides: str, patient: str = "") -> None:
        rows = [f"slides/{name}.tiff,{name},{patient or name}" for name in slides]
        text = "\n".join(["path,slide_id,patient_id", *rows])
        (self.folder / "slides.csv").write_text(text + "\n")

    def tile(self, *options: object) -> Answer:
        table, out = self.folder / "slides.csv", self.folder / "tiles"
        return ask("tile", table, "--out", out, *SIZE, *options)

    def encode(self, *options: object, encoder: str = "") -> Answer:
        table, out = self.folder / "slides.csv", self.folder / "features"
        given = ("--tiles", self.folder / "tiles", "--encoder", encoder or self.encoder)
        return ask("encode", table, *given, "--device", "cpu", "--out", out, *options)

    def files_in(self, part: str) -> dict[str, int]:
        """Return the inode of each tile or feature file, which another file does not share."""
        files = sorted((self.folder / part).glob("*.h5"))
        return {path.stem: path.stat().st_ino for path in files}


def made_again(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Return the names of files that were made again."""
    return [name for name in after if before.get(name) != after[name]]


def edit_in_place(path: Path) -> None:
    """Change pixels of a slide; its size and its time stay."""
    status, data = path.stat(), bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + 3000] = bytes(3000)
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
