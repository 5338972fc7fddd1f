"""Features that were made before are kept, unless what decides them has changed since."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file
from slides_in_memory import SOURCE, FakeSource, tiles_of

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.resume import check_features_of
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.io.feature_files import read_feature_info, read_features
from tcgn_mil.io.hdf5 import read_provenance

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def test_features_are_made_again_if_the_normalisation_of_the_encoder_changed(
    tmp_path: Path,
) -> None:
    folder, out = tmp_path / "encoder", tmp_path / "features"
    folder.mkdir()
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    save_file(model.state_dict(), folder / "model.safetensors")

    def encoded(mean: float) -> tuple[str, int]:
        config = {
            "architecture": "vit_tiny_patch16_224",
            "model_args": SMALL,
            "pretrained_cfg": {"mean": [mean] * 3, "std": [0.5] * 3},
        }
        (folder / "config.json").write_text(json.dumps(config))
        settings = EncodeSettings(f"local-dir:{folder}", device="cpu")
        done, failures = encode_cohort(["P00-1"], SOURCE, settings, out)
        assert (done, failures) == (["P00-1"], [])
        return read_feature_info(file).encoder, file.stat().st_mtime_ns

    file = out / "P00-1.h5"
    first = encoded(0.5)
    features = read_features(file).features
    assert encoded(0.5) == first  # not made again
    record = read_provenance(file, kind="feature")["encoder_record"]
    assert record["input"]["mean"] == [0.5] * 3
    again = encoded(0.7)
    assert again[0] == first[0]  # the identity names the weights alone
    assert again[1] != first[1]
    assert abs(read_features(file).features - features).max() > 1e-3


def test_tiles_that_moved_are_not_read_beside_older_features(tmp_path: Path) -> None:
    folder, out = tmp_path / "encoder", tmp_path / "features"
    folder.mkdir()
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "vit_tiny_patch16_224", "model_args": SMALL}
    (folder / "config.json").write_text(json.dumps(config))
    settings = EncodeSettings(f"local-dir:{folder}", device="cpu")
    encode_cohort(["P00-1"], SOURCE, settings, out)
    tiles = tiles_of("P00-1")
    check_features_of(out / "P00-1.h5", tiles, SOURCE)
    turned = replace(tiles, coords=tiles.coords[::-1])  # a reader may have an order of its own
    check_features_of(out / "P00-1.h5", turned, SOURCE)
    moved = replace(tiles, coords=tiles.coords + 1)
    with pytest.raises(InputError, match="of another state of the slide: tiles changed since"):
        check_features_of(out / "P00-1.h5", moved, FakeSource())
