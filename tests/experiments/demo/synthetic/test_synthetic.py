"""Tests of the synthetic cohort: labels, consistency and reproducibility."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.demo.synthetic import REGIONS, SyntheticPaths, make_cohort, preset
from tcgn_mil.experiments.demo.synthetic.expression import bulk_tpm, gene_programmes
from tcgn_mil.experiments.demo.synthetic.rendering import patient_stain, render
from tcgn_mil.experiments.demo.synthetic.tissue import (
    measured_fractions,
    patient_fractions,
    region_map,
)
from tcgn_mil.signatures.gene_sets import read_gene_sets

CONFIG = preset("test")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> SyntheticPaths:
    return make_cohort(CONFIG, tmp_path_factory.mktemp("synthetic"))


def hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_slides_are_pyramids_with_the_resolution_the_table_says(cohort: SyntheticPaths) -> None:
    slides = pd.read_csv(cohort.slides)
    assert slides["patient_id"].nunique() == CONFIG.n_patients
    assert set(slides["mpp"]) == set(CONFIG.scanner_mpp)
    for row in slides.itertuples():
        assert re.fullmatch(r"TCGA-S[AB]-\d{4}-01Z-00-DX\d", row.slide_id)
        assert row.slide_id.startswith(row.patient_id)
        with tifffile.TiffFile(cohort.root / row.path) as slide:
            page = slide.pages.first
            assert page.is_tiled
            per_cm = page.tags["XResolution"].value
            assert 1e4 * per_cm[1] / per_cm[0] == pytest.approx(row.mpp, rel=1e-3)
            assert page.imagewidth * row.mpp == pytest.approx(CONFIG.slide_size_um[0], rel=0.02)


def test_sections_have_counts_positions_and_an_image_that_agree(cohort: SyntheticPaths) -> None:
    assert sorted(path.name[:2] for path in (cohort.st / "ST-cnts").iterdir()) == sorted(
        CONFIG.sections
    )
    totals = []
    for section in CONFIG.sections:
        counts = pd.read_csv(cohort.st / "ST-cnts" / f"{section}.tsv.gz", sep="\t", index_col=0)
        spots = pd.read_csv(cohort.st / "ST-spotfiles" / f"{section}_selection.tsv", sep="\t")
        assert [
            f"{x}x{y}" for x, y in zip(spots["x"], spots["y"], strict=True)
        ] == counts.index.tolist()
        with Image.open(cohort.st / "ST-imgs" / section[0] / section / f"{section}.jpg") as image:
            pixels = np.asarray(image)
        assert spots["pixel_x"].between(0, pixels.shape[1]).all()
        assert spots["pixel_y"].between(0, pixels.shape[0]).all()
        assert 40 <= len(spots) <= 100
        neighbours = spots.merge(
            spots.assign(x=spots["x"] - 1), on=["x", "y"], suffixes=("", "_next")
        )
        pitch_px = (neighbours["pixel_x_next"] - neighbours["pixel_x"]).median()
        assert pitch_px * CONFIG.section_mpp == pytest.approx(CONFIG.spot_pitch_um, rel=0.02)
        totals.append(counts.sum(axis=1))
    assert 1000 < pd.concat(totals).median() < 10_000


def test_spot_genes_follow_their_region(cohort: SyntheticPaths) -> None:
    genes = pd.read_csv(cohort.truth / "genes.csv", keep_default_na=False)
    shares, levels = [], []
    for section in CONFIG.sections:
        counts = pd.read_csv(cohort.st / "ST-cnts" / f"{section}.tsv.gz", sep="\t", index_col=0)
        spots = pd.read_csv(cohort.st / "ST-spotfiles" / f"{section}_selection.tsv", sep="\t")
        with np.load(cohort.truth / "regions" / f"{section}.npz") as truth:
            labels, mpp = truth["labels"], float(truth["mpp"])
        at = (spots[["pixel_y", "pixel_x"]].to_numpy() * CONFIG.section_mpp / mpp).astype(int)
        shares.append(labels[at[:, 0], at[:, 1]])
        levels.append(np.log1p(counts.div(counts.sum(axis=1), axis=0) * 1e4))
    label, level = np.concatenate(shares), pd.concat(levels)
    for programme, region in {
        "STROMA": "stroma",
        "TUMORA": "tumour_a",
        "TUMORB": "tumour_b",
    }.items():
        own = level.filter(like=f"SYN_{programme}_").mean(axis=1).to_numpy()
        tumour = [REGIONS.index("tumour_a") + 1, REGIONS.index("tumour_b") + 1]
        inside = label == REGIONS.index(region) + 1
        outside = np.isin(label, tumour) & ~inside
        assert own[inside].mean() > own[outside].mean() + 0.4
    assert set(genes["kind"]) == {"colour", "morphology", "null"}
    assert genes["gene"].tolist() == level.columns.tolist()


def test_bulk_is_tpm_of_every_patient(cohort: SyntheticPaths) -> None:
    bulk = pd.read_csv(cohort.bulk)
    assert bulk["patient_id"].tolist() == sorted(CONFIG.patients)
    np.testing.assert_allclose(bulk.drop(columns="patient_id").sum(axis=1), 1e6, rtol=1e-6)
    fractions = (
        pd.read_csv(cohort.truth / "fractions.csv").groupby("patient_id")[list(REGIONS)].mean()
    )
    stroma = bulk.set_index("patient_id").filter(like="SYN_STROMA_").mean(axis=1)
    assert stroma.corr(fractions["stroma"], method="spearman") > 0.6


def test_clinical_table_has_every_patient_and_possible_times(cohort: SyntheticPaths) -> None:
    clinical = pd.read_csv(cohort.clinical)
    assert clinical.columns.tolist() == [
        "patient_id",
        "age",
        "stage",
        "site",
        "leukocyte_fraction",
        "tumour_purity",
        "time_days",
        "event",
    ]
    assert clinical["patient_id"].tolist() == sorted(CONFIG.patients)
    assert (clinical["time_days"] > 0).all()
    assert set(clinical["event"]) <= {0, 1}


def test_other_measurements_follow_the_tissue(cohort: SyntheticPaths) -> None:
    """Covariates and another tool's areas are near the truth, and not equal to it."""
    fractions = pd.read_csv(cohort.truth / "fractions.csv").set_index("slide")
    areas = pd.read_csv(cohort.areas).set_index("slide_id").loc[fractions.index]
    assert areas["area_immune"].corr(fractions["immune"]) > 0.8
    tumour = fractions["tumour_a"] + fractions["tumour_b"]
    assert areas["area_tumour"].corr(tumour) > 0.6
    assert (areas["area_tumour"] != tumour.round(4)).any()
    assert not any("tumour_a" in column for column in areas)  # subtypes are not told apart
    clinical = pd.read_csv(cohort.clinical).set_index("patient_id")
    patients = fractions.groupby("patient_id")["immune"].mean().loc[clinical.index]
    assert clinical["leukocyte_fraction"].corr(patients) > 0.6


def test_spots_measure_fewer_genes_that_follow_nothing() -> None:
    config = dataclasses.replace(CONFIG, n_null_genes=10, n_spot_null_genes=4)
    programmes = gene_programmes(config)
    measured = programmes.measured_on_spots(config)
    kinds = measured.table["kind"].value_counts()
    assert kinds["null"] == 4
    assert kinds.drop("null").sum() == (programmes.table["kind"] != "null").sum()
    same = programmes.table["gene"].isin(measured.table["gene"]).to_numpy()
    np.testing.assert_array_equal(measured.profiles, programmes.profiles[:, same])


def test_gene_sets_are_the_planted_programmes(cohort: SyntheticPaths) -> None:
    sets = read_gene_sets(cohort.programmes)
    genes = pd.read_csv(cohort.truth / "genes.csv")["gene"]
    assert [gene for gene_set in sets.values() for gene in gene_set.genes] == genes.tolist()
    assert len(sets["SYN_IMMUNE"].genes) == CONFIG.genes_per_programme
    assert len(sets["SYN_NULL"].genes) == CONFIG.n_null_genes


def test_genes_that_follow_nothing_share_nothing_with_the_tissue() -> None:
    """TPM are shares of a total, so a null gene could follow a region through the total."""
    config = dataclasses.replace(CONFIG, n_patients=1500, n_null_genes=10)
    programmes = gene_programmes(config)
    fractions = np.array([patient_fractions(config, name) for name in config.patients])
    tpm = np.array(
        [
            bulk_tpm(config, name, row, programmes)
            for name, row in zip(config.patients, fractions, strict=True)
        ]
    )
    null = np.log2(tpm[:, programmes.table["kind"] == "null"] + 1)
    r = np.corrcoef(fractions.T, null.T)[: len(REGIONS), len(REGIONS) :]
    # The mean over 10 genes of r over 1500 patients has a standard error of 0.008.
    assert np.abs(r.mean(axis=1)).max() < 0.03


def test_everything_is_labelled_synthetic(cohort: SyntheticPaths) -> None:
    assert "SYNTHETIC" in (cohort.truth / "README.txt").read_text(encoding="utf-8")
    assert '"synthetic": true' in (cohort.root / "manifest.json").read_text(encoding="utf-8")
    assert pd.read_csv(cohort.bulk).columns[1:].str.startswith("SYN_").all()


def test_an_interrupted_run_ends_with_the_same_bytes(cohort: SyntheticPaths) -> None:
    before = hashes(cohort.root)
    slide = sorted((cohort.root / "slides").iterdir())[3]
    for path in (
        slide,
        cohort.slides,
        cohort.bulk,
        cohort.st / "ST-cnts" / "B1.tsv.gz",
        cohort.truth / "genes.csv",
    ):
        path.unlink()
    (slide.parent / f".{slide.stem}.abc.tmp.tiff").write_bytes(b"half")
    make_cohort(CONFIG, cohort.root)
    assert hashes(cohort.root) == before


def test_another_config_is_refused(cohort: SyntheticPaths) -> None:
    with pytest.raises(InputError, match="another config"):
        make_cohort(preset("test", seed=1), cohort.root)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a synthetic cohort"):
        make_cohort(CONFIG, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "change",
    [
        {"n_patients": 0},
        {"pen_probability": 1.5},
        {"slides_per_patient": (0.5, 0.2)},
        {"n_section_patients": 99},
        {"spot_pitch_um": float("nan")},
        {"slide_size_um": (1e6, 1e6)},
    ],
)
def test_impossible_configs_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(CONFIG, **change)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match="demo, study or test"):
        preset("huge")


def test_region_maps_have_the_fractions_asked_for() -> None:
    asked = np.array([0.2, 0.25, 0.3, 0.1, 0.1, 0.05])
    labels = region_map(np.random.default_rng(0), (1000.0, 800.0), 0.6, asked)
    assert (labels > 0).mean() == pytest.approx(0.6, abs=0.01)
    np.testing.assert_allclose(measured_fractions(labels), asked, atol=0.005)


def test_subtype_share_is_independent_of_how_much_tumour_there_is() -> None:
    config = dataclasses.replace(CONFIG, n_patients=600)
    fractions = np.array([patient_fractions(config, patient) for patient in config.patients])
    tumour = fractions[:, :2].sum(axis=1)
    share = fractions[:, 0] / tumour
    assert abs(np.corrcoef(share, tumour)[0, 1]) < 0.12
    assert share.mean() == pytest.approx(0.5, abs=0.04)


def test_every_region_has_the_same_total_so_null_genes_follow_nothing() -> None:
    programmes = gene_programmes(preset("demo"))
    totals = programmes.profiles.sum(axis=1)
    np.testing.assert_allclose(totals, totals[0])
    null = (programmes.table["kind"] == "null").to_numpy()
    assert np.ptp(programmes.profiles[:, null], axis=0).max() == 0


def test_tumour_subtypes_have_one_mean_colour_and_other_regions_do_not() -> None:
    stain = patient_stain(CONFIG, CONFIG.patients[0], site=0)
    colours = {}
    for region in ("tumour_a", "tumour_b", "stroma", "immune"):
        labels = np.full((90, 90), REGIONS.index(region) + 1, dtype=np.uint8)
        # Uneven staining shifts one piece of tissue by some 3 grey levels; several average it out.
        pieces = [
            render(labels, 0.5, stain, np.random.default_rng(seed)).mean(axis=(0, 1))
            for seed in range(12)
        ]
        colours[region] = np.mean(pieces, axis=0)
    assert np.abs(colours["tumour_a"] - colours["tumour_b"]).max() < 3
    for region in ("stroma", "immune"):
        assert np.abs(colours["tumour_a"] - colours[region]).max() > 12
