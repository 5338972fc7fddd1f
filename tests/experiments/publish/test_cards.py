"""Model cards state the numbers of the run's files, and what the run cannot know."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tcgn_mil.checkpoints.file_format import copy_with_header
from tcgn_mil.experiments.publish.card import (
    code,
    head_of,
    licence_of_encoder,
    shown_genes,
)
from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.run import publish
from tcgn_mil.experiments.runs.glossary import PREDICTORS


def card_of(run: Path, tmp_path: Path, **options: Any) -> str:
    folder = publish(PublishConfig(run=str(run), **options), tmp_path / "published").folder
    return (folder / "README.md").read_text(encoding="utf-8")


def rows_of(card: str, title: str) -> list[list[str]]:
    """Return the cells of the table below a title, without its head."""
    part = card.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def text(value: float, low: float, high: float) -> str:
    shown = "NA" if pd.isna(value) else f"{value:.3f}"
    return shown if pd.isna(low) else f"{shown} ({low:.3f} to {high:.3f})"


@pytest.mark.parametrize("which", ["slide_run", "kernel_run"])
def test_the_card_of_a_slide_model_has_the_numbers_of_the_run(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = request.getfixturevalue(which)
    card = card_of(run, tmp_path)
    table = pd.read_csv(run / "headline.csv")
    expected = [
        [
            PREDICTORS[row.predictor],
            text(row.median_r, row.low, row.high),
            text(row.model_above_by, row.model_above_low, row.model_above_high),
            str(row.genes),
        ]
        for row in table.itertuples()
    ]
    assert rows_of(card, "Results") == expected
    assert len(expected) >= 4
    genes = pd.read_csv(run / "genes.csv")
    predictable = int(genes["predictable"].sum())
    assert f"{predictable} of {len(genes)} genes are predictable" in card
    summary = json.loads((run / "summary.json").read_text())
    coverage = summary["coverage"]
    assert f"made to cover {100 * coverage['stated']:.1f} % of the measured" in card
    assert f"covered {100 * coverage['measured']:.1f} % in folds that were left out" in card
    folds = pd.read_csv(run / "folds.csv")
    assert f"Cross-validation had {folds['fold'].nunique()} folds over" in card
    assert f"Cohort: {folds['id'].nunique()} patients with" in card
    assert f"with {len(pd.read_csv(run / 'slides.csv'))} slides;" in card
    for label in summary["labels"]:
        assert f"- {label[0].upper()}{label[1:]}." in card


def test_refits_and_both_kinds_of_folds_are_told(kernel_run: Path, tmp_path: Path) -> None:
    card = card_of(kernel_run, tmp_path)
    summary = json.loads((kernel_run / "summary.json").read_text())
    share = summary["null"]["share_below_0.05"]
    assert f"In 4 refits on permuted labels, {100 * share:.1f} % of the genes" in card
    assert "p-values are approximate" not in card
    beside = next(row for row in summary["by_patient"]["headline"] if row["predictor"] == "model")
    assert "With folds by patient, which lets a model use differences between hospitals" in card
    assert text(beside["median_r"], beside["low"], beside["high"]) in card
    assert "Patients of one hospital were in several folds" not in card
    assert "holds the mean features of each training patient" in card


def test_the_card_of_an_encoder_has_the_numbers_of_the_run(
    encoder_run: Path, tmp_path: Path
) -> None:
    card = card_of(encoder_run, tmp_path, names="kept")
    table = pd.read_csv(encoder_run / "results.csv")
    expected = [
        [
            row.section,
            str(row.spots),
            PREDICTORS[row.predictor],
            text(row.headline, row.headline_low, row.headline_high),
            text(row.median_r_all, float("nan"), float("nan")),
            str(row.genes_seen),
        ]
        for row in table.itertuples()
    ]
    assert rows_of(card, "Results") == expected
    assert len(expected) >= 3
    summary = json.loads((encoder_run / "summary.json").read_text())
    spots = summary["spots"]
    assert (
        f"Spots: {spots['train']} for training, {spots['val']} for validation and {spots['test']}"
        " for testing, of 3, 1 and 1 sections." in card
    )
    genes = json.loads((encoder_run / "encoder.json").read_text())["genes"]
    assert f"{len(genes)} genes: `{genes[0]}`, `{genes[1]}`" in card
    model, ridge = (row[3] for row in expected[:2])
    below = float(model.split()[0]) <= float(ridge.split()[0])
    assert ("Ridge regression on colour has at least the headline" in card) is below


def test_sections_have_numbers_unless_their_names_are_kept(
    encoder_run: Path, tmp_path: Path
) -> None:
    card = card_of(encoder_run, tmp_path)
    assert {row[0] for row in rows_of(card, "Results")} == {"section-5"}
    assert not re.search(r"\bD1\b", card)


def test_weights_that_training_started_from_are_named_with_their_licence(
    encoder_run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(encoder_run, copy)
    record = {
        "source": "hf-hub:owner/base",
        "revision": "abc",
        "licence": "CC-BY-NC-ND-4.0",
        "citation": "Chen et al. 2024",
    }

    def change(header: dict) -> dict:
        return {**header, "provenance": {**header["provenance"], "started_from": record}}

    copy_with_header(copy / "encoder.safetensors", copy / "encoder.safetensors", change)
    card = card_of(copy, tmp_path)
    assert (
        "Training started from `hf-hub:owner/base`, revision abc, whose licence is CC-BY-NC-ND-4.0;"
        " cite Chen et al. 2024." in card
    )


def test_what_is_not_stated_is_said_and_what_is_given_is_there(
    slide_run: Path, tmp_path: Path
) -> None:
    silent = card_of(slide_run, tmp_path)
    assert "Licence of the data: not stated by those who published the model." in silent
    assert "Licence of the weights: not stated; without one, nobody else may use" in silent
    assert "Licence of the encoder: not known to the run." in silent
    stated = card_of(slide_run, tmp_path, licence="CC-BY-NC-4.0", data_licence="TCGA, open access")
    assert "Licence of the data: TCGA, open access." in stated
    assert "Licence of the weights: CC-BY-NC-4.0." in stated


def test_a_card_names_the_repository_where_the_model_is(
    slide_run: Path, tmp_path: Path, fake_hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.log_in(monkeypatch, "write")
    card = card_of(slide_run, tmp_path, to="a/b@v2")
    assert 'tcgn_mil.SlideModel.from_pretrained("hf-hub:a/b@v2")' in card
    assert "tcgn-mil predict --model hf-hub:a/b@v2 --features features" in card
    assert fake_hub.repos["a/b"].files("v2")["README.md"].decode() == card


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("my licence: v1", {"license": "other", "license_name": "my-licence-v1"}),
        (None, {"license": "other", "license_name": "not-stated"}),
    ],
)
def test_the_head_is_yaml_that_the_hub_reads(licence: str | None, expected: dict) -> None:
    head = head_of(licence, ["encoder"])
    assert head.startswith("---\n")
    assert head.endswith("\n---")
    values = yaml.safe_load(head.strip("-"))
    assert {key: values[key] for key in values if key.startswith("license")} == expected
    assert values["library_name"] == "tcgn-mil"
    assert "pipeline_tag" not in values


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("uni2-h-0123abcd", "uni2-h"),
        ("uni-0123abcd", "uni"),
        ("trident:uni_v1", "uni"),
        ("hf-hub:MahmoodLab/UNI2-h", "uni2-h"),
        ("unity-0123", None),
        ("timm:resnet18-0123", None),
        ("tcgn_ti-0123", None),
    ],
)
def test_the_licence_of_an_encoder_of_the_registry_is_known(
    identity: str, name: str | None
) -> None:
    licence = licence_of_encoder(identity)
    assert (licence is None) is (name is None)
    assert name is None or f"({name};" in (licence or "")


def test_names_of_data_cannot_end_a_cell_or_the_code() -> None:
    assert code("a`b|c\nd") == "`a'b¦c d`"
    assert shown_genes([f"G{i}" for i in range(12)]).endswith("`G9` and 2 more")


def test_an_unknown_kind_of_weights_is_a_limit(slide_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(slide_run, copy)
    path = copy / "summary.json"
    summary = json.loads(path.read_text())
    for encoder, expected in (
        ("timm:resnet18-0123", "do not tell whether its weights were trained"),
        ("timm:resnet18-untrained-0123", "was not trained: its weights are random"),
    ):
        leaking = {"patient_leakage": ["P01"], "encoder": encoder}
        path.write_text(json.dumps({**summary, **leaking}))
        card = card_of(copy, tmp_path)
        assert expected in card
        assert "1 test patient is a section of a person who also trained" in card
