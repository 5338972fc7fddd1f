"""Tests that stain normalisation is recorded in features, and that models refuse another one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.predict.patients import slides_by_patient
from tcgn_mil.io.feature_files import read_feature_info, read_features
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.io.tile_files import write_tiles
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import Stain, TileSet

SPEC = TileSpec.for_slide(PatchSize(), slide_mpp=0.5, level_downsamples=(1.0,))
STAIN = Stain(
    "macenko",
    "published",
    (0.5626, 0.2159, 0.7201, 0.8012, 0.4062, 0.5581, 1.9705, 1.0308),
    (0.65, 0.27, 0.70, 0.57, 0.29, 0.78, 1.2, 1.4),
)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return features of one slide with and without normalisation, and after a change of it."""
    folder = tmp_path_factory.mktemp("stain")
    image = (
        np.random.default_rng(0)
        .integers(60, 200, (50, 50, 3), dtype=np.uint8)
        .repeat(8, axis=0)
        .repeat(8, axis=1)
    )
    write_pyramid(folder / "a.tiff", image, mpp=0.5)
    found = {}
    for name, stain in (("plain", None), ("stain", STAIN)):
        tiles = TileSet(
            "a",
            np.array([[0, 0], [160, 80]]),
            np.ones(2, np.float32),
            SPEC,
            (400, 400),
            stain=stain,
        )
        write_tiles(folder / "a.h5", tiles, slide_file="a.tiff")
        arguments = [
            "encode",
            folder / "a.tiff",
            "--tiles",
            folder,
            "--encoder",
            "timm:test_resnet",
            "--untrained",
            "--device",
            "cpu",
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                sys, "argv", ["tcgn-mil", *map(str, arguments), "--out", str(folder / "features")]
            )
            with pytest.raises(SystemExit) as ended:
                cli.main()
        assert not ended.value.code
        found[name] = folder / f"{name}.h5"
        found[name].write_bytes((folder / "features" / "a.h5").read_bytes())
    return found


def test_features_say_which_they_had(encoded: dict[str, Path]) -> None:
    assert read_feature_info(encoded["plain"]).stain is None
    assert read_feature_info(encoded["stain"]).stain == STAIN
    plain, changed = (read_features(path)[0] for path in encoded.values())
    assert np.abs(plain - changed).max() > 1e-3
    with h5py.File(encoded["plain"]) as file:
        assert "stain" not in file.attrs


@pytest.mark.parametrize(("trained", "used"), [("none", "plain"), (STAIN.identity, "stain")])
def test_a_model_takes_features_of_its_own_stain_only(
    encoded: dict[str, Path], trained: str, used: str
) -> None:
    info = read_feature_info(encoded["plain"])
    model = SimpleNamespace(
        encoder=info.encoder, in_features=info.width, patch=info.patch, stain=trained
    )
    patients, failures = slides_by_patient(encoded, [SimpleNamespace(info=model)])
    assert patients == {"a": [encoded[used]]}
    (failure,) = failures
    assert failure.slide != used
    assert f"the model reads features of {trained}" in failure.reason
    assert "--stain" in failure.likely_fix
