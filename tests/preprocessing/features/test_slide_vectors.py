"""Vectors of slides become bags of one tile, on which slide models are trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from foreign_vectors import VECTOR, stamp_vector, trident_slide

from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import read_feature_info, read_features
from tcgn_mil.preprocessing.features.import_features import import_cohort
from tcgn_mil.preprocessing.features.search import find_feature_sources
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.preprocessing.features.source_check import check_sources
from tcgn_mil.preprocessing.slides.names import SlideFacts, slide_facts
from tcgn_mil.types.features import UNKNOWN
from tcgn_mil.types.tile_geometry import PatchSize

Run = Callable[..., tuple[int, str]]
NAMES = [f"TCGA-AA-{number:04d}-01Z-00-DX{slide}" for number in (1, 2) for slide in (1, 2)]


def tiles(path: Path, encoder: str, width: int, *, seed: int = 0) -> Path:
    """As TRIDENT writes features of tiles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(size=(3, width)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = values, np.array([[0, 0], [512, 0], [0, 512]])
        file["features"].attrs.update({"name": path.stem, "encoder": encoder})
        file["coords"].attrs.update(
            {"patch_size": 256, "patch_size_level0": 512, "overlap": 0, "name": path.stem}
        )
    return path


def import_folder(source: Path, out: Path, encoder: str | None = None):
    settings = ImportSettings(encoder=encoder, patch_mpp=None)
    return import_cohort(find_feature_sources(source), slide_facts(None), settings, out)


def test_each_vector_of_a_patient_is_a_bag_of_one_tile(tmp_path: Path) -> None:
    folder = tmp_path / "slide_features_titan"
    for number, name in enumerate(NAMES):
        shape = (1, -1) if number == 0 else (-1,)
        trident_slide(folder / f"{name}.h5", (VECTOR + number).reshape(shape))
    done, failures = import_folder(folder, tmp_path / "out")
    assert not failures
    for number, info in enumerate(done):
        features, coords, read = read_features(tmp_path / "out" / f"{NAMES[number]}.h5")
        assert read == info
        np.testing.assert_array_equal(features, [VECTOR + number])
        assert coords.tolist() == [[-1, -1]]
        assert (info.encoder, info.positions) == ("trident-slide:titan", UNKNOWN)
        assert info.patient_id == NAMES[number][:12]
        assert info.per_slide
        assert not info.may_be_missing
    slides = pd.read_csv(tmp_path / "out" / "slides.csv")
    assert slides["slide_id"].tolist() == NAMES
    assert slides["patient_id"].tolist() == [name[:12] for name in NAMES]


def test_two_cohorts_share_a_folder_and_its_list_of_slides(tmp_path: Path) -> None:
    for cohort, name in zip("ab", NAMES, strict=False):
        trident_slide(tmp_path / cohort / "slide_features_titan" / f"{name}.h5")
        import_folder(tmp_path / cohort, tmp_path / "out")
    assert pd.read_csv(tmp_path / "out" / "slides.csv")["slide_id"].tolist() == NAMES[:2]
    trident_slide(tmp_path / "c" / "slide_features_prism" / "c.h5")
    with pytest.raises(InputError, match=r"features of trident-slide:titan \(6 wide\).*c\.h5"):
        import_folder(tmp_path / "c", tmp_path / "out")


def test_the_patient_of_stamp_is_the_slide(tmp_path: Path) -> None:
    folder = tmp_path / "cobra-pat-1a2b3c4d"
    for name in ("TCGA-AA-0001", "own"):
        stamp_vector(folder / f"{name}.h5", encoder="cobra", feat_type="patient")
    done, _ = import_folder(folder, tmp_path / "out")
    assert [(info.slide_id, info.patient_id, info.encoder) for info in done] == [
        ("TCGA-AA-0001", "TCGA-AA-0001", "stamp-patient:cobra"),
        ("own", "own", "stamp-patient:cobra"),
    ]


def test_vectors_that_are_not_finite_and_slides_without_tiles_are_rows(tmp_path: Path) -> None:
    folder, bad = tmp_path / "slide_features_titan", VECTOR.copy()
    bad[[1, 3]] = np.nan, np.inf
    trident_slide(folder / "bad.h5", bad)
    trident_slide(folder / "empty.h5", VECTOR[:0])
    trident_slide(folder / "good.h5")
    done, _ = import_folder(folder, tmp_path / "out")
    assert [info.slide_id for info in done] == ["good"]
    rows = pd.read_csv(tmp_path / "out" / "failures.csv").set_index("slide")
    assert rows["reason"].to_dict() == {
        "bad": "its vector has 2 values that are not finite",
        "empty": "holds no tile",
    }
    assert rows["likely_fix"].notna().all()
    assert not (tmp_path / "out" / "bad.h5").exists()


def test_a_job_with_features_of_tiles_and_slides_asks_which(tmp_path: Path) -> None:
    job = tmp_path / "20x_512px_0px_overlap"
    trident_slide(job / "slide_features_titan" / "a.h5")
    assert list(find_feature_sources(tmp_path)) == ["a"]
    tiles(job / "features_conch_v15" / "a.h5", "conch_v15", 768)
    with pytest.raises(InputError, match=r"features_conch_v15, .*slide_features_titan"):
        find_feature_sources(tmp_path)


@pytest.mark.parametrize(
    ("write", "parts"),
    [
        (
            lambda folder: (
                trident_slide(folder / "a.h5", encoder="titan"),
                tiles(folder / "b.h5", "conch_v15", 6),
            ),
            ("a.h5 holds a vector of a slide", "b.h5 holds features of tiles by trident:conch_v15"),
        ),
        (
            lambda folder: (
                tiles(folder / "a.h5", "conch_v15", 6),
                trident_slide(folder / "b.h5"),
            ),
            ("a.h5 holds features of tiles", "b.h5 holds a vector of a slide (6 wide)"),
        ),
        (
            lambda folder: (
                trident_slide(folder / "a.h5"),
                trident_slide(folder / "b.h5", VECTOR[:5]),
            ),
            ("a.h5 holds a vector of a slide (6 wide)", "b.h5 holds a vector of a slide (5 wide)"),
        ),
        (
            lambda folder: (
                stamp_vector(folder / "a.h5", encoder="titan", feat_type="slide"),
                stamp_vector(folder / "b.h5", encoder="titan", feat_type="patient"),
            ),
            ("a.h5 holds a vector of a slide by", "b.h5 holds a vector of a patient by"),
        ),
        (
            lambda folder: (
                stamp_vector(folder / "a.h5", encoder="titan", feat_type="slide"),
                stamp_vector(folder / "b.h5", encoder="cobra", feat_type="slide"),
            ),
            ("by stamp-slide:titan", "by stamp-slide:cobra"),
        ),
        (
            lambda folder: (
                tiles(folder / "a.h5", "virchow2", 2560),
                tiles(folder / "b.h5", "virchow2", 1280),
            ),
            ("by trident:virchow2[cls+mean] (2560 wide)", "by trident:virchow2[cls] (1280 wide)"),
        ),
    ],
)
def test_files_that_do_not_belong_together_stop_the_import(
    tmp_path: Path, write: Callable[[Path], object], parts: tuple[str, ...]
) -> None:
    write(tmp_path / "in")
    with pytest.raises(InputError) as refused:
        import_folder(tmp_path / "in", tmp_path / "out")
    for part in parts:
        assert part in refused.value.reason
    assert refused.value.fix
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read_do_not_hide_what_the_others_hold(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("no")
    trident_slide(tmp_path / "b.h5", encoder="titan")
    sources = find_feature_sources(tmp_path)
    facts = check_sources(sources, ImportSettings(), tmp_path / "out")
    assert [(fact.path.name, fact.level, fact.encoder, fact.width) for fact in facts] == [
        ("b.h5", "slide", "trident-slide:titan", 6)
    ]


def test_options_of_the_command_line(run: Run, tmp_path: Path) -> None:
    trident_slide(tmp_path / "in" / "a.h5")
    source, out = tmp_path / "in", ("--out", tmp_path / "out")
    code, said = run("import-features", source, *out)
    assert code == 2
    assert "a: does not name its slide encoder" in said
    assert "--encoder" in said
    for option in (("--mpp", 0.25), ("--patch-mpp", 0.5), ("--patch-px", 256)):
        code, said = run("import-features", source, "--encoder", "titan", *option, *out)
        assert code == 2
        assert f"{option[0]}: has no effect on vectors of slides" in said
    code, said = run("import-features", source, "--encoder", "titan", *out)
    assert code == 0, said
    assert read_feature_info(tmp_path / "out" / "a.h5").encoder == "trident-slide:titan"


def test_the_command_notes_tiles_of_another_size_and_keeps_them(run: Run, tmp_path: Path) -> None:
    tiles(tmp_path / "in" / "a.h5", "uni_v2", 1536)
    code, said = run("import-features", tmp_path / "in", "--mpp", 0.5, "--out", tmp_path / "out")
    assert code == 0, said
    assert "made from tiles of 256 µm; uni2-h was trained on 112 µm" in said
    info = read_feature_info(tmp_path / "out" / "a.h5")
    assert (info.encoder, info.patch) == ("trident:uni2-h[cls]", PatchSize(256, 1.0))


def cohort_of(run: Run, folder: Path, slides: Path, expression: pd.DataFrame) -> Path:
    expression.to_csv(folder / "bulk.csv")
    options = ("--unit", "log2(tpm+1)", "--slides", slides, "--out", folder / "cohort.h5ad")
    code, said = run("bulk", folder / "bulk.csv", *options)
    assert code == 0, said
    return folder / "cohort.h5ad"


def expression_of(patients: list[str], level: np.ndarray, seed: int = 1) -> pd.DataFrame:
    """Make log2(TPM + 1) of 16 genes, of which the first six follow the level."""
    rng = np.random.default_rng(seed)
    values = 5 + rng.standard_normal((len(patients), 16))
    values[:, :6] += 2 * level[:, None]
    tpm = 2 ** np.maximum(values, 0)
    tpm *= 1e6 / tpm.sum(axis=1, keepdims=True)
    return pd.DataFrame(np.log2(tpm + 1), patients, [f"GENE{gene}" for gene in range(16)])


def test_slide_models_are_trained_on_slide_vectors(run: Run, tmp_path: Path) -> None:
    """The default for one vector per slide is kernel ridge; attention reads them as well."""
    rng, folder = np.random.default_rng(0), tmp_path / "slide_features_titan"
    patients = [f"TCGA-AA-{number:04d}" for number in range(36)]
    level = rng.standard_normal(len(patients))
    slides = [(f"{name}-01Z-00-DX1", index) for index, name in enumerate(patients)]
    slides.append((f"{patients[0]}-01Z-00-DX2", 0))
    for slide, index in slides:
        vector = rng.standard_normal(12).astype(np.float32)
        vector[:6] += 3 * level[index]
        trident_slide(folder / f"{slide}.h5", vector)
    features = tmp_path / "features"
    assert run("import-features", folder, "--out", features)[0] == 0
    cohort = cohort_of(run, tmp_path, features / "slides.csv", expression_of(patients, level))

    small = [f"--set={key}" for key in ("n_folds=3", "training.accelerator=cpu", "replicates=20")]
    given = ("--cohort", cohort, "--features", features, *small)
    for name, more in (
        ("default", ()),
        ("attention", ("--set=model.kind=attention", "--set=training.epochs=60")),
    ):
        code, said = run("finetune", *given, *more, "--out", tmp_path / name)
        assert code == 0, said
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["model"] == ("kernel" if name == "default" else "attention")
        genes = pd.read_csv(tmp_path / name / "genes.csv").set_index("gene")["r_model"]
        followed = [f"GENE{gene}" for gene in range(6)]
        assert genes[followed].median() > 0.5
        assert genes.drop(followed).median() < 0.5

    code, said = run("slide-cv", *given, "--set=refits=4", "--out", tmp_path / "cv")
    assert code == 0, said
    code, said = run(
        "predict", "--model", tmp_path / "default", "--features", features, "--out", tmp_path / "p"
    )
    assert code == 0, said
    predicted = anndata.read_h5ad(tmp_path / "p" / "predicted.h5ad")
    assert sorted(predicted.obs_names) == patients
    assert np.isfinite(predicted.X).all()

    # A model of one slide encoder refuses the vectors of another, and features of tiles.
    for encoder in ("prism", None):
        other = tmp_path / f"other-{encoder}"
        if encoder:
            trident_slide(tmp_path / "x" / "a.h5", np.zeros(12, np.float32), encoder=encoder)
            assert run("import-features", tmp_path / "x", "--out", other)[0] == 0
        else:
            tiles(tmp_path / "y" / "a.h5", "titan", 12)
            assert run("import-features", tmp_path / "y", "--mpp", 0.5, "--out", other)[0] == 0
        model = ("--model", tmp_path / "default", "--features", other)
        code, said = run("predict", *model, "--out", tmp_path / f"no-{encoder}")
        assert code == 2
        assert "the model reads those of trident-slide:titan" in said


def test_features_of_two_poolings_never_meet_in_one_cohort(run: Run, tmp_path: Path) -> None:
    patients = [f"P{number}" for number in range(12)]
    for width, chosen in ((2560, patients[:6]), (1280, patients[6:])):
        for seed, patient in enumerate(chosen):
            tiles(tmp_path / f"in{width}" / f"{patient}.h5", "virchow2", width, seed=seed)
        source, out = tmp_path / f"in{width}", tmp_path / f"out{width}"
        assert run("import-features", source, "--mpp", 0.5, "--out", out)[0] == 0
        shutil.copytree(out, tmp_path / "both", dirs_exist_ok=True)
    options = ("--mpp", 0.5, "--out", tmp_path / "out2560")
    code, said = run("import-features", tmp_path / "in1280", *options)
    assert code == 2
    assert "P0.h5 holds features of trident:virchow2[cls+mean]" in said

    slides = tmp_path / "slides.csv"
    pd.DataFrame({"slide_id": patients, "patient_id": patients}).to_csv(slides, index=False)
    level = np.random.default_rng(0).standard_normal(len(patients))
    cohort = cohort_of(run, tmp_path, slides, expression_of(patients, level))
    given = ("--cohort", cohort, "--features", tmp_path / "both", "--set=n_folds=3")
    code, said = run("finetune", *given, "--out", tmp_path / "model")
    assert code == 2
    assert "trident:virchow2[cls] (1280 wide)" in said
    assert "trident:virchow2[cls+mean] (2560 wide)" in said


def test_patients_may_come_from_a_table(tmp_path: Path) -> None:
    trident_slide(tmp_path / "slide_features_titan" / "a.h5")
    sources = find_feature_sources(tmp_path)
    done, _ = import_cohort(sources, lambda _: SlideFacts("P7"), ImportSettings(), tmp_path / "out")
    assert done[0].patient_id == "P7"
