"""`tcgn-mil import-features` converts files of other tools; a broken file costs one row."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from tcgn_mil.batches.feature_bags import BagDataset
from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import read_feature_info, read_features
from tcgn_mil.preprocessing.features.import_features import import_cohort
from tcgn_mil.preprocessing.features.search import find_feature_sources
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.preprocessing.slides.names import SlideFacts
from tcgn_mil.types.features import LEVEL0, SCALED, UNKNOWN

WIDTH, TILES = 8, 12
CLAM = ImportSettings(encoder="resnet50_trunc", patch_px=256, patch_mpp=0.5)


def values(seed: int = 0, rows: int = TILES, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def grid(rows: int = TILES) -> np.ndarray:
    return np.stack([np.arange(rows) % 4, np.arange(rows) // 4], axis=1) * 512


def write_clam(folder: Path, slide: str, features: np.ndarray) -> Path:
    path = folder / "h5_files" / f"{slide}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, grid(len(features)).astype(np.int32)
    return path


def write_tensor(folder: Path, slide: str, content: object, **options: bool) -> Path:
    path = folder / "pt_files" / f"{slide}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, **options)
    return path


def write_trident(folder: Path, slide: str, encoder: str, features: np.ndarray) -> Path:
    path = folder / "20x_256px_0px_overlap" / f"features_{encoder}" / f"{slide}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, grid(len(features)).astype(np.int64)
        file["features"].attrs.update({"name": slide, "savetodir": "/x", "encoder": encoder})
        file["coords"].attrs.update(
            {
                "patch_size": 256,
                "patch_size_level0": 512,
                "level0_magnification": 40,
                "target_magnification": 20,
                "overlap": 0,
                "name": slide,
                "savetodir": "/x",
                "level0_width": 4096,
                "level0_height": 4096,
            }
        )
    return path


def write_stamp(folder: Path, slide: str, features: np.ndarray) -> Path:
    path = folder / "conch1_5-1a2b3c4d" / "site" / f"{slide}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = (
            features.astype(np.float16),
            (grid(len(features)) * 0.25).astype(np.float32),
        )
        file.attrs.update(
            {
                "stamp_version": "2.3.0",
                "extractor": "conch1_5-1a2b3c4d",
                "unit": "um",
                "tile_size_um": 128.0,
                "tile_size_px": 224,
                "code_hash": "1a2b3c4d",
                "feat_type": "tile",
            }
        )
    return path


def at_40x(slide: str) -> SlideFacts:
    return SlideFacts(f"patient of {slide}", 0.25)


@pytest.mark.parametrize(
    ("write", "settings", "encoder", "dtype"),
    [
        (write_clam, CLAM, "clam:resnet50_trunc", np.float32),
        (
            lambda folder, slide, features: write_trident(folder, slide, "conch_v15", features),
            ImportSettings(),
            "trident:conch_v15",
            np.float32,
        ),
        (write_stamp, ImportSettings(), "stamp:conch1_5", np.float16),
    ],
)
def test_values_positions_and_identity_come_over(
    tmp_path: Path, write, settings, encoder: str, dtype: type
) -> None:
    write(tmp_path / "in", "a", values())
    done, failures = import_cohort(
        find_feature_sources(tmp_path / "in"), at_40x, settings, tmp_path / "out"
    )
    assert not failures
    features, coords, info = read_features(tmp_path / "out" / "a.h5")
    assert done == [info]
    assert np.array_equal(features, values().astype(dtype).astype(np.float32))
    assert np.array_equal(coords, grid())
    assert (info.encoder, info.patient_id, info.positions) == (encoder, "patient of a", LEVEL0)
    assert info.spec.level0_px == pytest.approx(512)
    with h5py.File(tmp_path / "out" / "a.h5") as file:
        assert file["features"].dtype == dtype
        assert json.loads(file.attrs["provenance"])["imported_from"] == "a.h5"


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_take_their_positions_from_beside_or_say_that_they_have_none(
    tmp_path: Path, zipped: bool
) -> None:
    """torch wrote no zip files before 1.6."""
    write_clam(tmp_path, "a", values(0))
    for number, slide in enumerate("ab"):
        write_tensor(
            tmp_path, slide, torch.from_numpy(values(number)), _use_new_zipfile_serialization=zipped
        )
    _, failures = import_cohort(
        find_feature_sources(tmp_path / "pt_files"), at_40x, CLAM, tmp_path / "out"
    )
    assert not failures
    for number, (slide, positions, coords) in enumerate(
        (("a", LEVEL0, grid()), ("b", UNKNOWN, np.full((12, 2), -1)))
    ):
        features, found, info = read_features(tmp_path / "out" / f"{slide}.h5")
        assert np.array_equal(features, values(number))
        assert np.array_equal(found, coords)
        assert (info.positions, info.encoder) == (positions, "clam:resnet50_trunc")


def test_where_files_are_looked_for(tmp_path: Path) -> None:
    clam, trident = tmp_path / "clam", tmp_path / "trident"
    for slide in "ab":
        write_tensor(clam, slide, torch.from_numpy(values()))
    path = write_clam(clam, "a", values())
    assert find_feature_sources(clam) == {"a": path, "b": clam / "pt_files" / "b.pt"}
    assert find_feature_sources(path) == {"a": path}
    path = write_trident(trident, "a", "conch_v15", values())
    (path.parent.parent / "patches").mkdir()
    (path.parent.parent / "patches" / "a_patches.h5").touch()
    assert find_feature_sources(trident) == {"a": path}
    write_trident(trident, "a", "conch_v1", values())
    with pytest.raises(
        InputError, match=r"several encoders: .*features_conch_v1, .*features_conch_v15"
    ):
        find_feature_sources(trident)
    write_stamp(tmp_path / "stamp", "a", values())
    write_stamp(tmp_path / "stamp" / "again", "a", values())
    with pytest.raises(InputError, match="two files are of slide a"):
        find_feature_sources(tmp_path / "stamp")
    with pytest.raises(InputError, match="no such file or folder"):
        find_feature_sources(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no feature file"):
        find_feature_sources(tmp_path / "empty")


def test_broken_files_cost_a_row_each(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    bad = values()
    bad[7, 3] = np.nan
    write_clam(folder, "a", values())
    write_clam(folder, "holes", bad)
    write_clam(folder, "wide", values(width=WIDTH + 1))
    write_clam(folder, "integer", values().astype(np.int32))
    write_clam(folder, "empty", np.empty(0, np.float32))
    cut = write_clam(folder, "cut", values(rows=500))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    write_tensor(folder, "dict", {"weights": torch.zeros(3, WIDTH)})
    write_tensor(folder, "complex", torch.zeros(3, WIDTH, dtype=torch.complex64))
    write_tensor(folder, "object", Path("/"))
    short = write_tensor(folder, "short", torch.zeros(300, WIDTH))
    short.write_bytes(short.read_bytes()[:-2000])
    write_tensor(folder, "zlast", torch.from_numpy(values()))
    done, failures = import_cohort(find_feature_sources(folder), at_40x, CLAM, out)
    assert [info.slide_id for info in done] == ["a", "zlast"]
    assert sorted(path.name for path in out.iterdir()) == ["a.h5", "failures.csv", "zlast.h5"]
    rows = pd.read_csv(out / "failures.csv").set_index("slide")
    assert len(failures) == len(rows) == 9
    for slide, part in {
        "holes": "1 tiles have features that are not finite, the first at level-0 position"
        " (1536, 512)",
        "wide": "(9 wide), but those of a are of clam:resnet50_trunc (8 wide)",
        "integer": "int32",
        "empty": "holds no tile",
        "cut": "HDF5",
        "dict": "a dictionary without features; its names are weights",
        "complex": "complex64",
        "object": "cannot be read as a tensor",
        "short": "cannot be read as a tensor",
    }.items():
        assert part in rows.loc[slide, "reason"]
        assert rows.loc[slide, "stage"] == "import-features"
        assert rows.loc[slide, "likely_fix"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_cut_anywhere_is_one_row(tmp_path: Path, zipped: bool) -> None:
    path = write_tensor(
        tmp_path, "a", torch.from_numpy(values()), _use_new_zipfile_serialization=zipped
    )
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, 61):
        path.write_bytes(whole[:size])
        done, failures = import_cohort({"a": path}, at_40x, CLAM, tmp_path / "out")
        assert (len(done), len(failures)) == (0, 1), size


def test_what_disagrees_with_the_first_or_with_the_options_is_a_row(tmp_path: Path) -> None:
    sources = {
        "a": write_trident(tmp_path, "a", "conch_v15", values()),
        "b": write_trident(tmp_path, "b", "conch_v1", values()),
        "c": write_trident(tmp_path, "c", "conch_v15", values()),
    }

    def reasons(facts, settings: ImportSettings) -> list[str]:
        return [
            failure.reason
            for failure in import_cohort(sources, facts, settings, tmp_path / "out")[1]
        ]

    by_slide = {"a": SlideFacts("a", 0.25), "b": SlideFacts("b", 0.25), "c": SlideFacts("c", 0.5)}
    encoder, size = reasons(by_slide.__getitem__, ImportSettings())
    assert "trident:conch_v1" in encoder
    assert "256.0 µm" in size
    assert "128.0 µm" in size
    assert reasons(at_40x, ImportSettings("conch_v15")) == ["is of encoder conch_v1, not conch_v15"]
    assert (
        "does not name its encoder"
        in import_cohort(
            {"d": write_clam(tmp_path, "d", values())},
            at_40x,
            ImportSettings(None, 256, 0.5),
            tmp_path / "out",
        )[1][0].reason
    )
    with pytest.raises(InputError, match="is the folder that is imported"):
        import_cohort(sources, at_40x, ImportSettings(), sources["a"].parent)


def test_finished_files_are_kept_until_something_changes(tmp_path: Path) -> None:
    sources = {slide: write_clam(tmp_path, slide, values()) for slide in "ab"}

    def made(settings: ImportSettings = CLAM, facts=at_40x) -> dict[str, int]:
        import_cohort(sources, facts, settings, tmp_path / "out")
        return {slide: (tmp_path / "out" / f"{slide}.h5").stat().st_ino for slide in sources}

    first = made()
    assert made() == first
    (tmp_path / "out" / "a.h5").unlink()
    (tmp_path / "out" / "b.h5").write_bytes(b"cut")
    second = made()
    assert read_feature_info(tmp_path / "out" / "b.h5").n_tiles == TILES
    os.utime(sources["b"])  # a copy of the same features is younger
    write_clam(tmp_path, "a", values(seed=1))
    os.utime(sources["a"], (1, 1))  # another file took its place, and is older
    third = made()
    assert third["a"] != second["a"]
    assert third["b"] == second["b"]
    made(ImportSettings(encoder="conch_v15", patch_px=256, patch_mpp=0.5))
    assert read_feature_info(tmp_path / "out" / "b.h5").encoder == "clam:conch_v15"
    made(facts=lambda slide: SlideFacts("P1", 0.25))
    assert read_feature_info(tmp_path / "out" / "b.h5").patient_id == "P1"


def test_patients_and_resolutions_of_the_command_line(run, tmp_path: Path) -> None:
    slides = ("TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF", "other", "third")
    for slide in slides:
        write_stamp(tmp_path / "in", slide, values())
    assert (
        run("import-features", tmp_path / "in", "--mpp", 0.25, "--out", tmp_path / "by-name")[0]
        == 0
    )
    infos = [read_feature_info(tmp_path / "by-name" / f"{slide}.h5") for slide in slides]
    assert [info.patient_id for info in infos] == ["TCGA-3C-AALI", "other", "third"]
    (tmp_path / "p.csv").write_text(f"slide_id,patient_id,mpp\n{slides[0]}.svs,P1,0.5\nother,P2,\n")
    code, said = run(
        "import-features",
        tmp_path / "in",
        "--patients",
        tmp_path / "p.csv",
        "--out",
        tmp_path / "table",
    )
    assert code == 1
    assert "2 slides imported" in said
    assert "slides without positions in level-0 pixels: 1" in said
    assert "third is not in p.csv" in (tmp_path / "table" / "failures.csv").read_text()
    known, scaled = (read_feature_info(tmp_path / "table" / f"{slide}.h5") for slide in slides[:2])
    assert (known.patient_id, known.spec.slide_mpp, known.positions) == ("P1", 0.5, LEVEL0)
    assert (scaled.patient_id, scaled.positions) == ("P2", SCALED)
    for options, part in (
        (("--mpp", 100), "--mpp of 100"),
        (("--patients", tmp_path / "gone.csv"), "no such table"),
    ):
        code, said = run("import-features", tmp_path / "in", *options, "--out", tmp_path / "none")
        assert code == 2
        assert part in said


def test_imported_features_make_bags(tmp_path: Path) -> None:
    write_tensor(tmp_path, "a", torch.from_numpy(values()))
    import_cohort(find_feature_sources(tmp_path), at_40x, CLAM, tmp_path / "out")
    data = BagDataset(
        ["p"], {"p": [tmp_path / "out" / "a.h5"]}, np.zeros((1, 2), np.float32), seed=0
    )
    assert np.array_equal(data.bag(0).features, values())


def test_models_train_on_imported_features_and_refuse_those_of_another_encoder(
    run, tmp_path: Path
) -> None:
    patients = [f"P{number}" for number in range(18)]
    rng = np.random.default_rng(0)
    for number, patient in enumerate(patients):
        write_trident(tmp_path / "uni", patient, "conch_v15", values(number))
        write_trident(tmp_path / "conch", patient, "conch_v1", values(number))
    write_tensor(tmp_path / "clam", "P0", torch.from_numpy(values()))
    for name in ("uni", "conch"):
        assert (
            run(
                "import-features",
                tmp_path / name,
                "--mpp",
                0.25,
                "--out",
                tmp_path / f"{name}-features",
            )[0]
            == 0
        )
    options = (
        "--encoder",
        "conch_v15",
        "--patch-px",
        256,
        "--patch-mpp",
        0.5,
        "--out",
        tmp_path / "clam-features",
    )
    assert run("import-features", tmp_path / "clam", *options)[0] == 0

    tpm = rng.lognormal(size=(len(patients), 12))
    table = pd.DataFrame(
        1e6 * tpm / tpm.sum(axis=1, keepdims=True), patients, [f"GENE{i}" for i in range(12)]
    )
    table.to_csv(tmp_path / "bulk.csv")
    pd.DataFrame({"slide_id": patients, "patient_id": patients}).to_csv(
        tmp_path / "slides.csv", index=False
    )
    cohort, model = tmp_path / "cohort.h5ad", tmp_path / "model"
    bulk = (
        "bulk",
        tmp_path / "bulk.csv",
        "--unit",
        "tpm",
        "--slides",
        tmp_path / "slides.csv",
        "--out",
        cohort,
    )
    assert run(*bulk)[0] == 0
    small = (
        "--set",
        "n_folds=3",
        "--set",
        "training.epochs=1",
        "--set",
        "training.accelerator=cpu",
    )
    features = ("--features", tmp_path / "uni-features")
    code, said = run("finetune", "--cohort", cohort, *features, *small, "--out", model)
    assert code == 0, said

    for name, found in (("conch", "trident:conch_v1"), ("clam", "clam:conch_v15")):
        others = (
            "--features",
            tmp_path / f"{name}-features",
            "--out",
            tmp_path / f"refused-{name}",
        )
        code, said = run("predict", "--model", model, *others)
        assert code == 2
        features_of = f"has features of {found} (8 numbers per tile)"
        assert f"{features_of}, the model reads those of trident:conch_v15" in said

    with h5py.File(tmp_path / "uni-features" / "P0.h5", "r+") as file:
        file.attrs["positions"] = UNKNOWN
    code, said = run("predict", "--model", model, *features, "--out", tmp_path / "unplaced")
    assert code == 0, said
    assert "no maps of P0: their feature files do not say where tiles lie" in said
    assert not list((tmp_path / "unplaced" / "maps").glob("P0*"))
    assert (tmp_path / "unplaced" / "maps" / "P1.png").is_file()
