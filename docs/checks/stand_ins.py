"""Small files with the names and layouts of the public tables that the guides name.

160 patients of eight hospitals, whose infiltration by immune cells the slides show. Immune genes
and survival follow it. Nothing is measured, and no value is of a patient.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from tcgn_mil.experiments.main import make_app

PATIENTS = [f"TCGA-{'ABCDEFGH'[i % 8]}1-{i:04d}" for i in range(160)]
GENES = ["CD2", "CD3D", "CD3E", "CCL5", "CXCL9", "CXCL10", "GZMA", "PRF1", "IDO1", "IFNG"]
GENES += [f"G{k}" for k in range(10)]


def make_study(folder: Path) -> None:
    """Write the tables, and what the verbs make of them, under the names that the guides use.

    Parameters
    ----------
    folder
        The working directory.
    """
    rng = np.random.default_rng(0)
    immune = rng.normal(size=len(PATIENTS))
    _write_tables(folder, immune, rng)
    _write_features(folder, rng)
    for command in (
        "import-features CRC_nucleus_morphology.csv --encoder nuclei --out features",
        "bulk tcga_coadread_all_clean.csv.zip --unit zscore --slides features/slides.csv"
        " --out cohort.h5ad",
        "clinical my.csv --format columns --patient-column patient_id --time-unit days"
        " --event-coding event --endpoint OS --time-column days --event-column dead"
        " --endpoint PFI --time-column days --event-column dead --covariate age --covariate stage"
        " --out clinical.csv",
        "finetune --cohort cohort.h5ad --features features --out slide-model",
        "predict --model slide-model --features features --out predictions",
    ):
        make_app()(command.split(), standalone_mode=False)


def _write_tables(folder: Path, immune: np.ndarray, rng: np.random.Generator) -> None:
    """Write features of slides, expression, survival and covariates as they are published."""
    n = len(PATIENTS)
    expression = immune[:, None] * np.repeat([0.8, 0.0], 10) + rng.normal(size=(n, 20))
    days = rng.exponential(900 * np.exp(0.5 * immune)).clip(1)
    seen = np.minimum(days, 1500).round()
    dead = (days <= 1500).astype(int)
    age = rng.integers(40, 80, n)
    values = {f"{gene}_rnaseq": expression[:, k].round(4) for k, gene in enumerate(GENES)}
    porpoise = pd.DataFrame(
        {
            "case_id": PATIENTS,
            "slide_id": [f"{patient}-01Z-00-DX1.svs" for patient in PATIENTS],
            "age": age,
            "site": [patient[5:7] for patient in PATIENTS],
            "survival_months": (seen / 30.44).round(2),
            "censorship": 1 - dead,
            **values,
        }
    )
    porpoise.to_csv(folder / "tcga_coadread_all_clean.csv.zip")
    porpoise.to_csv(folder / "tcga_brca_all_clean.csv.zip")
    features = {f"area_{k}": immune + rng.normal(size=n) for k in range(8)}
    names = pd.DataFrame({"Barcode": [f"{patient}-01Z-00-DX1" for patient in PATIENTS]})
    names.assign(**features).to_csv(folder / "CRC_nucleus_morphology.csv", index=False)
    for k, cancer in enumerate(["brca", "luad", "lusc"]):
        part = slice(50 * k, 50 * (k + 1))
        hif = pd.DataFrame(features)[part].assign(HRD_Score=1, bcr_patient_barcode=PATIENTS[part])
        hif.to_csv(folder / f"{cancer}_hif.csv.gz", index=False)
    covariates = pd.DataFrame(
        {
            "case_barcode": PATIENTS,
            "leukocyte_fraction": (0.3 + 0.1 * immune + 0.05 * rng.normal(size=n)).clip(0, 1),
            "purity": (0.6 - 0.1 * immune + 0.1 * rng.normal(size=n)).clip(0, 1),
        }
    )
    covariates.to_csv(folder / "tcga_purity_immune_covariates.csv", index=False)
    covariates.to_csv(folder / "covariates.csv", index=False)
    pd.DataFrame(
        {
            "patient_id": PATIENTS,
            "days": seen,
            "dead": dead,
            "age": age,
            "stage": rng.choice(["I", "II", "III"], n),
        }
    ).to_csv(folder / "my.csv", index=False)
    (folder / "hallmarks.gmt").write_text("T_CELLS\tmade for the test\t" + "\t".join(GENES[:6]))


def _write_features(folder: Path, rng: np.random.Generator) -> None:
    """Write features of two slides in the layouts of TRIDENT, CLAM and STAMP."""
    corners = 512 * np.array([[x, y] for y in range(3) for x in range(3)])
    trident, stamp = folder / "trident_job", folder / "stamp"
    for patient in PATIENTS[:2]:
        slide = f"{patient}-01Z-00-DX1"
        tiles = rng.normal(size=(len(corners), 1024)).astype(np.float32)
        with _new(trident / "20x_256px_0px_overlap" / "features_uni_v1" / f"{slide}.h5") as file:
            file["features"], file["coords"] = tiles, corners
            file["features"].attrs.update(name=slide, encoder="uni_v1")
            file["coords"].attrs.update(name=slide, patch_size=256, patch_size_level0=512)
        with _new(folder / "clam_features" / "h5_files" / f"{slide}.h5") as file:
            file["features"], file["coords"] = tiles, corners
        with _new(stamp / "uni2" / f"{slide}.h5") as file:
            file["feats"] = rng.normal(size=(len(corners), 1536)).astype(np.float16)
            file["coords"] = (corners / 4).astype(np.float32)  # in µm
            file.attrs.update(extractor="uni2", unit="um", tile_size_um=128.0, tile_size_px=224)
            file.attrs["feat_type"] = "tile"
        titan = trident / "20x_512px_0px_overlap" / "slide_features_titan"
        with _new(titan / f"{slide}.h5") as file:
            file["features"] = rng.normal(size=768).astype(np.float32)
        with _new(stamp / "cobra-pat-1a2b3c4d" / f"{patient}.h5") as file:
            file["feats"] = rng.normal(size=768).astype(np.float32)
            file.attrs.update(encoder="cobra", feat_type="patient")
    slides = pd.DataFrame({"slide_id": [f"{name}-01Z-00-DX1" for name in PATIENTS[:2]]})
    slides.assign(patient_id=PATIENTS[:2], mpp=0.25).to_csv(folder / "slides.csv", index=False)


def _new(path: Path) -> h5py.File:
    path.parent.mkdir(parents=True, exist_ok=True)
    return h5py.File(path, "w")
