"""Tests of the genes, spots and targets of a fold, and of inputs that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
from spot_sections import GENES, IMAGE_MPP, PATCH, write_sections

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level.config import PanelConfig, SpotConfig, TargetConfig
from tcgn_mil.experiments.spot_level.inputs.folds import split_sections, spot_folds
from tcgn_mil.experiments.spot_level.inputs.study import (
    SpotStudy,
    load_sections,
    make_study,
    patients_of,
)

PATIENTS = {"A1": "A", "A2": "A", "B1": "B"}


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sections(tmp_path_factory.mktemp("spots"), PATIENTS)


def study_of(spots: Path, fold: str = "A", **changes: object) -> SpotStudy:
    config = replace(SpotConfig(spots=str(spots)), **changes)
    sections = load_sections(config)
    folds = {
        split.name: split for split in spot_folds(patients_of(sections), group_by=config.group_by)
    }
    return make_study(config, folds[fold], sections)


def change(
    folder: Path,
    section: str,
    values: np.ndarray | float,
    rows: slice,
    columns: slice = slice(None),
) -> None:
    path = folder / f"{section}.h5ad"
    adata = anndata.read_h5ad(path)
    adata.X[rows, columns] = values
    adata.write_h5ad(path)


def test_the_block_set_aside_shares_no_pixel_with_what_trains(spots: Path) -> None:
    study = study_of(spots)  # one training section remains
    train, val = (study.sections[name].spatial() for name in (*study.train, *study.val))
    gap_px = PATCH.um / IMAGE_MPP
    assert np.abs(train[:, None] - val[None]).max(axis=-1).min() > gap_px
    assert 0.2 < len(val) / 121 < 0.35
    assert len(train) >= 121 - len(val) - 11  # at most one column of spots is in neither
    assert study.split.train_and_val == ("B1",)


def test_with_join_the_validation_part_trains_and_nothing_chooses(spots: Path) -> None:
    study = study_of(spots, "B", validation="join")
    assert (study.train, study.val) == (("A2", "A1"), ())
    assert len(study.training_values(study.train)) == 242
    assert study_of(spots, validation="join").train == ("B1",)


def test_genes_are_chosen_on_training_sections_alone(spots: Path, tmp_path: Path) -> None:
    chosen = study_of(spots, "B", panel=PanelConfig(max_genes=6)).panel
    assert len(chosen) == 6
    other_test = write_sections(tmp_path / "test", PATIENTS)
    change(other_test, "B1", 7, slice(None), slice(0, 9))
    assert study_of(other_test, "B", panel=PanelConfig(max_genes=6)).panel == chosen
    other_training = write_sections(tmp_path / "training", PATIENTS)
    for name in ("A1", "A2"):
        change(other_training, name, 0, slice(None), slice(0, 1))
    assert "BRIGHT0" not in study_of(other_training, "B", panel=PanelConfig()).panel.genes


def test_statistics_of_targets_are_of_training_spots(spots: Path) -> None:
    study = study_of(spots, "B")
    values = np.concatenate([study.targets[name].expression for name in study.train])
    np.testing.assert_allclose(study.scaler.mean, values.mean(axis=0), rtol=1e-4)
    plain = study_of(spots, "B", target=TargetConfig(standardise=False))
    np.testing.assert_allclose(plain.training_values(plain.train), values, rtol=1e-6)


def with_gene_missing(tmp_path: Path) -> Path:
    return write_sections(tmp_path / "spots", PATIENTS, genes={"B1": GENES[1:]})


def panel_of(tmp_path: Path, missing: str) -> PanelConfig:
    (tmp_path / "panel.txt").write_text("\n".join(GENES), encoding="utf-8")
    return PanelConfig(str(tmp_path / "panel.txt"), missing=missing)  # type: ignore[arg-type]


def test_a_panel_gene_missing_from_a_section_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"B1.h5ad: section B1 lacks 1 of 12 panel genes: BRIGHT0.*missing=drop"
    ):
        study_of(with_gene_missing(tmp_path), panel=panel_of(tmp_path, "error"))


def test_a_missing_gene_can_be_dropped_and_is_reported(tmp_path: Path) -> None:
    study = study_of(with_gene_missing(tmp_path), panel=panel_of(tmp_path, "drop"))
    assert study.panel.genes == GENES[1:]
    assert study.missing.to_dict("records") == [
        {"section": "B1", "gene": "BRIGHT0", "done": "dropped"}
    ]


def test_a_missing_gene_can_count_as_zero_and_is_reported(tmp_path: Path) -> None:
    folder = with_gene_missing(tmp_path)
    study = study_of(folder, panel=panel_of(tmp_path, "zero"))
    assert study.panel.genes == GENES
    assert study.missing["done"].tolist() == ["no counts"]
    assert not study.targets["B1"].expression[:, 0].any()
    assert study.targets["B1"].detection[0] == 0
    dropped = study_of(folder, panel=panel_of(tmp_path, "drop"))
    np.testing.assert_array_equal(
        study.targets["B1"].expression[:, 1:], dropped.targets["B1"].expression
    )


def test_a_panel_that_no_section_measured_is_an_error(spots: Path, tmp_path: Path) -> None:
    (tmp_path / "panel.txt").write_text("ENSG1\nENSG2\n", encoding="utf-8")
    panel = PanelConfig(str(tmp_path / "panel.txt"), missing="drop")
    with pytest.raises(InputError, match="no panel gene is measured in every section"):
        study_of(spots, panel=panel)


def test_a_section_with_no_expressed_panel_gene(tmp_path: Path) -> None:
    folder = write_sections(tmp_path / "spots", PATIENTS)
    change(folder, "B1", 0, slice(None), slice(0, 6))
    (tmp_path / "panel.txt").write_text("\n".join(GENES[:6]), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"section B1: none of the 6 panel genes has a count in its 121 spots"
    ):
        study_of(folder, panel=PanelConfig(str(tmp_path / "panel.txt")), min_umi=10)


def test_a_section_of_poor_spots_alone(tmp_path: Path) -> None:
    folder = write_sections(tmp_path / "spots", PATIENTS)
    change(folder, "A2", 0, slice(None))
    with pytest.raises(
        InputError, match=r"A2.h5ad: all 121 spots have fewer than 100 counts.*lower min_umi"
    ):
        study_of(folder)


def test_counts_that_are_not_finite_name_their_spots(tmp_path: Path) -> None:
    folder = write_sections(tmp_path / "spots", PATIENTS)
    change(folder, "A2", np.nan, slice(0, 2), slice(0, 1))
    with pytest.raises(
        InputError, match=r"A2.h5ad: the counts of 2 spots are NaN, infinite or negative: 0x0, 1x0"
    ):
        study_of(folder)


def test_published_normalisation_drops_spots_without_a_panel_count(tmp_path: Path) -> None:
    folder = write_sections(tmp_path / "spots", PATIENTS)
    change(folder, "B1", 0, slice(3, 5), slice(0, 6))
    (tmp_path / "panel.txt").write_text("\n".join(GENES[:6]), encoding="utf-8")
    study = study_of(
        folder,
        normalisation="published",
        panel=PanelConfig(str(tmp_path / "panel.txt")),
        min_umi=10,
    )
    assert len(study.targets["B1"].expression) == 119
    dropped = study.sections["B1"].dropped
    assert dropped["spot"].tolist() == ["3x0", "4x0"]
    assert dropped["reason"].unique().tolist() == ["no count of any panel gene"]


def test_sections_of_other_patch_sizes_are_refused(tmp_path: Path, spots: Path) -> None:
    import h5py

    folder = write_sections(tmp_path / "spots", PATIENTS)
    path = folder / "B1.h5ad"
    adata = anndata.read_h5ad(path)
    adata.uns["tcgn_mil"] = adata.uns["tcgn_mil"].replace('"patch_mpp": 4.0', '"patch_mpp": 2.0')
    adata.write_h5ad(path)
    with h5py.File(folder / "B1_patches.h5", "a") as file:
        file.attrs["patch_mpp"] = 2.0
    with pytest.raises(InputError, match="patches of B1 are"):
        study_of(folder)


def test_a_single_section_of_few_spots_cannot_set_a_block_aside(tmp_path: Path) -> None:
    folder = write_sections(tmp_path / "spots", {"A1": "A", "B1": "B"}, side=4)
    with pytest.raises(InputError, match="16 spots are too few to set a block aside"):
        study_of(folder)


def test_the_other_normalisation_is_at_hand(spots: Path) -> None:
    study = study_of(spots, "B")
    other, targets = study.other_normalisation(("A1", "A2", "B1"))
    assert other == "published"
    assert set(targets) == {"A1", "A2", "B1"}
    # With all measured genes in the panel both are the same.
    np.testing.assert_allclose(targets["B1"].expression, study.targets["B1"].expression, rtol=1e-5)


def test_a_split_by_name_makes_a_study(spots: Path) -> None:
    sections = load_sections(SpotConfig(spots=str(spots)))
    study = make_study(
        SpotConfig(), split_sections(patients_of(sections), ["A2"], ["B1"]), sections
    )
    assert (study.train, study.val) == (("A1",), ("A2",))


def test_a_panel_of_which_a_section_has_nothing_is_not_to_be_dropped(tmp_path: Path) -> None:
    (tmp_path / "panel.txt").write_text("NOSUCH1\nNOSUCH2\n", encoding="utf-8")
    panel = PanelConfig(str(tmp_path / "panel.txt"))
    with pytest.raises(
        InputError, match=r"lacks 2 of 2 panel genes.*name the genes as the section"
    ):
        study_of(write_sections(tmp_path / "spots", PATIENTS), panel=panel)
