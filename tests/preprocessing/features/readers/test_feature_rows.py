"""Features that lose nothing by it are cast and squeezed, from HDF5, tensors and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import LeftOut
from tcgn_mil.io.feature_files import read_feature_info, read_features
from tcgn_mil.preprocessing.features.import_features import import_cohort
from tcgn_mil.preprocessing.features.readers import open_foreign
from tcgn_mil.preprocessing.features.search import BELOW, OTHER_KIND, search_features
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.preprocessing.slides.names import SlideFacts

VALUES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
COORDS = np.array([[0, 0], [512, 0], [0, 512], [1024, 512]])
TOY = ImportSettings(encoder="toy", patch_px=256, patch_mpp=0.5)
ATTRIBUTES = {"patch_size": 256, "patch_size_level0": 512, "overlap": 0}


def hdf5(path: Path, features: np.ndarray, coords: np.ndarray, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, coords
        file["coords"].attrs.update(attributes)
    return path


def imported(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Import one file, and return its features and its positions."""
    out = path.parent / "out"
    done, failures = import_cohort(
        {path.stem: path}, lambda slide: SlideFacts(slide, 0.25), TOY, out
    )
    assert failures == []
    assert len(done) == 1
    read = read_features(out / f"{path.stem}.h5")
    return read.features, read.coords


@pytest.mark.parametrize("attributes", [{}, ATTRIBUTES], ids=["clam", "trident"])
@pytest.mark.parametrize(
    ("features", "coords"),
    [
        (VALUES[None], COORDS),
        (VALUES[:, None], COORDS),
        (VALUES[None], COORDS[None]),
        (VALUES.astype(np.float64), COORDS),
        (VALUES, COORDS.astype(np.float64)),
        (VALUES, COORDS.astype(np.float32)[None]),
    ],
)
@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".H5"])
def test_hdf5_files(
    tmp_path: Path, features: np.ndarray, coords: np.ndarray, attributes: dict, suffix: str
) -> None:
    read, places = imported(hdf5(tmp_path / f"a{suffix}", features, coords, **attributes))
    assert read.dtype == np.float32
    assert np.array_equal(read, VALUES)
    assert np.array_equal(places, COORDS)


@pytest.mark.parametrize(
    "value",
    [
        torch.from_numpy(VALUES)[None],
        torch.from_numpy(VALUES).double(),
        {"features": torch.from_numpy(VALUES), "coords": torch.from_numpy(COORDS)},
        {"features": VALUES, "coords": COORDS.astype(float)},
        {"feats": torch.from_numpy(VALUES), "coords": torch.from_numpy(COORDS).double()},
    ],
)
def test_tensors(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "a.pt")
    read, places = imported(tmp_path / "a.pt")
    assert np.array_equal(read, VALUES)
    expected = COORDS if isinstance(value, dict) else np.full((4, 2), -1)
    assert np.array_equal(places, expected)


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    tensor = torch.from_numpy(VALUES).bfloat16()
    torch.save(tensor, tmp_path / "a.pt")
    read, _ = imported(tmp_path / "a.pt")
    assert np.array_equal(read, tensor.float().numpy())


@pytest.mark.parametrize("values", [VALUES, VALUES[None], VALUES.astype(np.float64)])
def test_arrays(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", values)
    assert np.array_equal(imported(tmp_path / "a.npy")[0], VALUES)
    np.savez(tmp_path / "b.npz", features=values, coords=COORDS.astype(float))
    read, places = imported(tmp_path / "b.npz")
    assert np.array_equal(read, VALUES)
    assert np.array_equal(places, COORDS)
    np.save(tmp_path / "c.npy", VALUES[0])
    with open_foreign(tmp_path / "c.npy") as vector:
        assert (vector.kind, vector.features.shape) == ("numpy-slide", (1, 6))


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"features": VALUES, "coords": COORDS + 0.5}, "not whole level-0 pixels"),
        ({"features": VALUES, "coords": COORDS[:3]}, r"\(3, 2\) for 4 tiles"),
        ({"weights": VALUES}, "has no array features; it holds weights"),
        ({"features": VALUES.astype(int)}, "int64, not float16 or float32"),
        ({"features": VALUES.reshape(2, 2, 6)}, r"\(2, 2, 6\), not \(N, D\)"),
        ({"features": VALUES[:0]}, "holds no tile"),
        ({"features": np.array([{}], dtype=object)}, "cannot be read as an array"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, arrays: dict, part: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=part) as refused, open_foreign(tmp_path / "a.npz"):
        pass
    assert refused.value.fix
    assert "encode the slide again" not in refused.value.fix


def test_values_beyond_float32_are_a_row(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", VALUES.astype(np.float64) * 1e300, COORDS)
    done, failures = import_cohort(
        {"a": path}, lambda slide: SlideFacts(slide, 0.25), TOY, tmp_path / "out"
    )
    assert done == []
    assert "beyond the range of float32" in failures[0].reason


def test_a_job_of_tiles_and_of_slides_and_files_below(tmp_path: Path) -> None:
    job = tmp_path / "20x_256px_0px_overlap"
    for folder in ("features_toy", "slide_features_titan", "features_toy/deeper"):
        (job / folder).mkdir(parents=True)
    hdf5(job / "features_toy" / "a.h5", VALUES, COORDS, **ATTRIBUTES)
    hdf5(job / "features_toy" / "deeper" / "b.h5", VALUES, COORDS, **ATTRIBUTES)
    (job / "features_toy" / "log.txt").write_text("done")
    hdf5(job / "slide_features_titan" / "a.h5", VALUES[0], COORDS)
    with pytest.raises(InputError, match="several encoders"):
        search_features(tmp_path)
    files, left_out = search_features(tmp_path, of_tiles=True)
    assert list(files) == ["a"]
    assert {(Path(each.name).name, each.reason) for each in left_out} == {
        ("slide_features_titan", "holds vectors of slides, not features of tiles"),
        ("b.h5", BELOW),
        ("log.txt", OTHER_KIND),
    }
    assert list(search_features(tmp_path, of_tiles=True, recursive=True).files) == ["a", "b"]
    assert search_features(job / "slide_features_titan").left_out == list[LeftOut]()


def test_a_name_with_the_suffix_of_a_slide_is_the_slides(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", VALUES, COORDS, **ATTRIBUTES, name="a.svs")
    imported(path)
    assert read_feature_info(tmp_path / "out" / "a.h5").slide_id == "a"
    with (
        pytest.raises(InputError, match="of slide 'b', not 'a'"),
        open_foreign(hdf5(path, VALUES, COORDS, **ATTRIBUTES, name="b.svs")),
    ):
        pass


def test_a_size_that_two_tools_read_differently_is_refused(tmp_path: Path) -> None:
    clam = {"patch_size": 512, "patch_level": 0, "downsample": 1.0}
    for shrunk in (2, 1):
        path = hdf5(tmp_path / "a.h5", VALUES, COORDS, **clam, custom_downsample=shrunk)
        if shrunk == 1:
            with open_foreign(path) as features:
                assert features.level0_px == 512
        else:
            with pytest.raises(InputError, match="custom_downsample 2"), open_foreign(path):
                pass
