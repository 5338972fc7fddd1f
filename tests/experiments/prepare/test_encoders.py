"""The list of encoders, and one field of view from the registry to tiles and features."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fake_hub import FakeHub
from PIL import Image
from safetensors.torch import save_file

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.prepare.encoders import tiles_of
from tcgn_mil.io.feature_files import read_features
from tcgn_mil.io.hdf5 import json_attr, open_hdf5
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.pathology import PATHOLOGY_ENCODERS
from tcgn_mil.types.tile_geometry import PatchSize

Run = Callable[..., tuple[int, str, str]]
ENTRY = """
small:
  hub: owner/small
  architecture: vit_tiny_patch16_224
  arguments: {img_size: 32, patch_size: 8, embed_dim: 32, depth: 1, num_heads: 2, init_values: 1e-5}
  width: 64
  pooling: cls+mean
  licence: CC-BY-4.0
  citation: not published
  tile_px: 64
  input_px: 32
"""
ARGUMENTS: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 1,
    "num_heads": 2,
    "init_values": 1e-5,
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command; gives exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        code = ended.value.code
        return int(code or 0) if not isinstance(code, str) else 2, printed.out, printed.err

    return call


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Write a picture with a square of tissue."""
    picture = np.full((600, 600, 3), 245, np.uint8)
    tissue = np.random.default_rng(0).normal((190, 110, 160), 35, (400, 400, 3))
    picture[100:500, 100:500] = tissue.clip(0, 255)
    path = tmp_path / "slide.png"
    Image.fromarray(picture).save(path)
    return path


def test_the_registry_is_listed_with_what_is_here(run: Run, fake_hub: FakeHub) -> None:
    code, out, _ = run("encoders")
    rows = {line.split()[0]: line for line in out.splitlines() if line and "  " in line}
    assert code == 0
    assert set(PATHOLOGY_ENCODERS) <= set(rows)
    for word in (
        "1536",
        "112 (224 at 0.5)",
        "681 M",
        "gated",
        "CC-BY-NC-ND-4.0",
        "MahmoodLab/UNI2-h",
    ):
        assert word in rows["uni2-h"]
    assert "  no  " in rows["phikon"]
    fake_hub.add("owkin/phikon", {"model.safetensors": b"weights"})
    from tcgn_mil.hub import download

    download("owkin/phikon", ["model.safetensors"])
    asked = len(fake_hub.requests)
    row = next(line for line in run("encoders")[1].splitlines() if line.startswith("phikon "))
    assert "  yes  " in row
    assert len(fake_hub.requests) == asked  # the list itself asks nothing


def test_a_file_of_entries_is_checked_and_listed(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(ENTRY)
    code, out, _ = run("encoders", file)
    assert code == 0
    assert "32 (64 at 0.5)" in out
    assert "uni2-h" not in out
    file.write_text(ENTRY + "  widht: 3\n")
    code, _, err = run("encoders", file)
    assert code == 2
    assert "ours.yaml, encoder small: unknown config key 'widht'" in err


def test_tiles_of_an_encoder_are_laid_and_encoded(
    run: Run, slide: Path, tmp_path: Path, fake_hub: FakeHub
) -> None:
    entry = tmp_path / "ours.yaml"
    entry.write_text(ENTRY)
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **ARGUMENTS)
    repository = tmp_path / "repository"
    repository.mkdir()
    save_file(model.state_dict(), repository / "model.safetensors")
    config = {"architecture": "vit_tiny_patch16_224", "model_args": ARGUMENTS}
    (repository / "config.json").write_text(json.dumps(config))
    commit = fake_hub.add("owner/small", repository)
    tiles, out = tmp_path / "tiles", tmp_path / "features"
    assert run("tile", slide, "--mpp", 0.5, "--encoder", entry, "--out", tiles)[0] == 0
    spec = read_tiles(tiles / "slide.h5").spec
    assert (spec.tile_px, spec.mpp) == (64, 0.5)
    options = ("--mpp", 0.5, "--tiles", tiles, "--encoder", entry, "--out", out)
    assert run("encode", slide, *options)[0] == 0
    features, _, info = read_features(out / "slide.h5")
    assert features.shape[1] == 64
    assert info.encoder.startswith("small[cls+mean]-")
    with open_hdf5(out / "slide.h5", kind="feature") as file:
        record = json_attr(file, "provenance", kind="feature")["encoder_record"]
    assert record["input"]["size_px"] == 32
    assert {
        key: record[key] for key in ("source", "revision", "licence", "citation", "precision")
    } == {
        "source": "hf-hub:owner/small",
        "revision": commit,
        "licence": "CC-BY-4.0",
        "citation": "not published",
        "precision": "32-true",
    }
    # Tiles of another resolution are refused, and labelled features are another matter.
    assert run("tile", slide, "--mpp", 0.5, "--out", tmp_path / "others")[0] == 0
    options = ("--mpp", 0.5, "--tiles", tmp_path / "others", "--encoder", entry)
    code, _, err = run("encode", slide, *options, "--out", tmp_path / "refused")
    assert code == 2
    assert "small was trained on tiles of 32.0 µm (64 px at 0.5 µm/px), these are 77.3 µm" in err
    code, *_ = run("encode", slide, *options, "--allow-other-size", "--out", tmp_path / "allowed")
    assert code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--encoder", "uni2h"), "tiles that encoder 'uni2h' was trained on.* did you mean uni2-h"),
        (("--encoder", "timm:resnet18"), "nothing states the tiles"),
        (("--encoder", "uni", "--patch-px", 224), "both say how large the tiles are"),
        (("--patch-px", 0), "patch size of 0 px is outside 8 to 4096"),
        (("--patch-mpp", 0), "patch resolution"),
        (("--encoder", "nowhere.safetensors"), "nowhere.safetensors: no such encoder checkpoint"),
        (("--encoder", "nowhere.yaml"), "nowhere.yaml: no such file.* encoder"),
    ],
)
def test_an_encoder_that_says_no_size_is_refused(
    run: Run, slide: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    import re

    code, _, err = run("tile", slide, "--mpp", 0.5, *options, "--out", tmp_path / "tiles")
    assert code == 2
    assert re.search(message, err)
    assert len(err.strip().splitlines()) == 1


def test_sizes_are_those_of_the_entries() -> None:
    assert tiles_of("uni2-h") == PatchSize(224, 0.5)
    assert tiles_of("hf-hub:prov-gigapath/prov-gigapath") == PatchSize(256, 0.5)
    with pytest.raises(InputError, match="nothing states the tiles"):
        tiles_of("hf-hub:owner/unknown")
