"""Vectors of slides and patients are told from features of tiles, and name their slide encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from foreign_vectors import COORDS, VECTOR, stamp_vector, trident_slide

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.placement import WITHOUT_TILES, place
from tcgn_mil.preprocessing.features.readers import open_foreign
from tcgn_mil.types.features import UNKNOWN


@pytest.mark.parametrize("shape", [(6,), (1, 6)])
@pytest.mark.parametrize(
    ("folder", "attributes", "encoder"),
    [
        ("slide_features_titan", {}, "titan"),
        ("moved", {"savetodir": "/data/job/20x/slide_features_prism"}, "prism"),
        ("moved", {"savetodir": "C:\\job\\slide_features_chief\\"}, "chief"),
        ("moved", {"savetodir": "/" + 80 * "long/" + "slide_features_gigapath"}, "gigapath"),
        ("moved", {"encoder": "madeleine"}, "madeleine"),
        ("moved", {"savetodir": "/x"}, ""),
    ],
)
def test_the_file_or_its_folder_names_the_slide_encoder_of_trident(
    tmp_path: Path, folder: str, attributes: dict[str, str], encoder: str, shape: tuple[int, ...]
) -> None:
    path = trident_slide(tmp_path / folder / "a.h5", VECTOR.reshape(shape), **attributes)
    with open_foreign(path) as found:
        assert (found.kind, found.encoder, found.coords) == ("trident-slide", encoder, None)
        np.testing.assert_array_equal(found.features, VECTOR[None])
        placed = place(found)
    assert (placed.positions, placed.spec) == (UNKNOWN, WITHOUT_TILES)
    assert placed.coords.tolist() == [[-1, -1]]


def test_the_only_tile_of_a_slide_is_no_vector_of_the_slide(tmp_path: Path) -> None:
    """The features of one tile are (1, D) with one position; TRIDENT squeezes it for a slide."""
    path = trident_slide(tmp_path / "features_uni_v1" / "a.h5", VECTOR[None], COORDS[:1])
    with open_foreign(path) as found:
        assert found.kind == "trident"
    path = trident_slide(tmp_path / "slide_features_titan" / "a.h5", VECTOR[None], COORDS[:1])
    with open_foreign(path) as found:
        assert found.kind == "trident-slide"
    for coords in (COORDS[0], None):
        with open_foreign(trident_slide(tmp_path / "x" / "a.h5", VECTOR[None], coords)) as found:
            assert found.kind == "trident-slide"


def test_a_slide_without_tiles_has_no_vector(tmp_path: Path) -> None:
    path = trident_slide(tmp_path / "slide_features_titan" / "a.h5", VECTOR[:0], COORDS[:0])
    with pytest.raises(InputError, match="holds no tile"), open_foreign(path):
        pass


def test_names_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "slide_features_prism"
    path = trident_slide(folder / "a.h5", savetodir="/job/slide_features_titan")
    with (
        pytest.raises(InputError, match="slide encoder titan, but its folder is named after prism"),
        open_foreign(path),
    ):
        pass
    path = trident_slide(folder / "a.h5", name="b")
    with pytest.raises(InputError, match="slide 'b', not 'a'"), open_foreign(path):
        pass


@pytest.mark.parametrize("shape", [(6,), (1, 6)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("level", ["slide", "patient"])
def test_stamp_says_whose_vector_it_is(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, level: str
) -> None:
    vector = VECTOR.astype(dtype).reshape(shape)
    path = stamp_vector(tmp_path / "a.h5", vector, encoder="cobra", feat_type=level)
    with open_foreign(path) as found:
        assert (found.kind, found.encoder) == (f"stamp-{level}", "cobra")
        assert found.features.dtype == dtype
        np.testing.assert_array_equal(found.features, vector.reshape(1, 6))


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("titan-slide-1a2b3c4d", "stamp-slide"),
        ("titan-slide/site", "stamp-slide"),
        ("titan-pat", "stamp-patient"),
    ],
)
def test_the_folder_tells_the_level_of_early_files_of_stamp(
    tmp_path: Path, folder: str, kind: str
) -> None:
    with open_foreign(stamp_vector(tmp_path / folder / "a.h5", encoder="titan")) as found:
        assert found.kind == kind


def test_vectors_of_stamp_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    path = stamp_vector(tmp_path / "features" / "a.h5", encoder="titan")
    with pytest.raises(InputError, match="of a slide or of a patient"), open_foreign(path):
        pass
    path = stamp_vector(path, np.stack([VECTOR, VECTOR]), encoder="titan", feat_type="slide")
    with pytest.raises(InputError, match=r"one vector, .* \(2, 6\)"), open_foreign(path):
        pass


def test_a_flat_tensor_is_the_vector_of_a_slide(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(VECTOR), tmp_path / "a.pt")
    with open_foreign(tmp_path / "a.pt") as found:
        assert (found.kind, found.encoder) == ("tensor-slide", "")
        np.testing.assert_array_equal(found.features, VECTOR[None])
    torch.save(torch.zeros(0), tmp_path / "b.pt")
    with pytest.raises(InputError, match="holds no tile"), open_foreign(tmp_path / "b.pt"):
        pass


@pytest.mark.parametrize(
    ("created", "part"),
    [
        ({"data": np.arange(6)}, "int64, not float16 or float32"),
        ({"shape": (6,), "dtype": "f4", "chunks": (6,)}, "never written"),
        ({"shape": (70_000,), "dtype": "f4"}, "a width of 65536"),
    ],
)
def test_broken_vectors_are_refused(tmp_path: Path, created: dict[str, Any], part: str) -> None:
    path = trident_slide(tmp_path / "slide_features_titan" / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", **created)
    with pytest.raises(InputError, match=part) as refused, open_foreign(path):
        pass
    assert refused.value.fix


@pytest.mark.parametrize("write", [trident_slide, stamp_vector])
def test_a_file_cut_anywhere_is_an_input_error(tmp_path: Path, write: Any) -> None:
    attributes = {"encoder": "titan"} | ({"feat_type": "slide"} if write is stamp_vector else {})
    path = write(tmp_path / "a.h5", **attributes)
    whole = path.read_bytes()
    for size in range(0, len(whole), 61):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError), open_foreign(path):
            pass
