"""Tests of results over all test sections: means, intervals, p-values and predictable genes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from tcgn_mil.experiments.spot_level.combine import (
    NULL_APPROXIMATE,
    NULL_ONE_FOLD,
    NULL_SINGLE,
    combine_sections,
)
from tcgn_mil.experiments.spot_level.evaluate import SectionResults, section_results
from tcgn_mil.experiments.spot_level.inputs.targets import SpotTargets
from tcgn_mil.types.genes import GenePanel

GENES, KNOWN = 30, 8


def one_section(seed: int, genes: list[str]) -> SectionResults:
    """A lattice on which the model knows the first genes, at twice the noise; ridge knows none."""
    rng = np.random.default_rng(seed)
    positions = np.stack(np.meshgrid(np.arange(13), np.arange(13)), axis=-1).reshape(-1, 2) * 290.0
    truth = rng.standard_normal((len(positions), len(genes)))
    known = np.array([int(gene[1:]) < KNOWN for gene in genes])
    model = truth * known + 2 * rng.standard_normal(truth.shape)
    test = SpotTargets(
        truth.astype(np.float32),
        rng.normal(6, 0.5, len(positions)),
        np.full(len(genes), 0.5),
        positions,
    )
    predicted = {
        "model": model.astype(np.float32),
        "ridge_colour": rng.standard_normal(truth.shape, np.float32),
    }
    return section_results(
        GenePanel(tuple(genes)),
        test,
        predicted,
        section=str(seed),
        normalisation="library",
        replicates=200,
    )


OWN = {name: name for name in (*"ST", *"012")}  # each section of its own patient
NAMES = [f"G{number}" for number in range(GENES)]


@pytest.fixture(scope="module")
def results() -> dict[str, SectionResults]:
    return {name: one_section(number, NAMES) for number, name in enumerate("ST")}


def test_r_is_the_mean_of_sections(results: dict[str, SectionResults]) -> None:
    found = combine_sections(results, folds=2, patient_of=OWN)
    for column in ("r_model", "depth_adjusted_r_model", "depth_adjusted_r_ridge_colour"):
        expected = np.mean([part.genes[column] for part in results.values()], axis=0)
        np.testing.assert_allclose(found.genes[column], expected)
    row = found.summary.set_index("predictor").loc["model"]
    assert row["headline"] == pytest.approx(found.genes["depth_adjusted_r_model"].median())
    assert row["headline_low"] < row["headline"] < row["headline_high"]
    own = [
        part.summary.set_index("predictor").loc["model", "headline"] for part in results.values()
    ]
    assert (row["least_section"], row["most_section"]) == (min(own), max(own))


def test_more_sections_give_smaller_p_and_folds_are_paid_for(
    results: dict[str, SectionResults],
) -> None:
    one_fold, two_folds = (
        combine_sections(results, folds=folds, patient_of=OWN).genes for folds in (1, 2)
    )
    single = next(iter(results.values())).genes
    assert (one_fold["p_model"][:KNOWN] < single["p_model"][:KNOWN]).mean() >= 0.7
    np.testing.assert_allclose(
        norm.isf(two_folds["p_model"]) * np.sqrt(2), norm.isf(one_fold["p_model"]), atol=1e-6
    )
    labels = [
        combine_sections(results, folds=folds, patient_of=OWN).summary["p_values"].iloc[0]
        for folds in (1, 2)
    ]
    assert labels == [NULL_ONE_FOLD, NULL_APPROXIMATE]


def test_predictable_genes_are_those_planted(results: dict[str, SectionResults]) -> None:
    genes = combine_sections(results, folds=2, patient_of=OWN).genes
    assert genes["predictable"][:KNOWN].mean() >= 0.7
    assert genes["predictable"][KNOWN:].sum() <= 1
    assert (genes["low_model"] < genes["depth_adjusted_r_model"]).all()
    assert (genes["depth_adjusted_r_model"] < genes["high_model"]).all()


def test_a_gene_that_only_one_fold_chose_counts_where_it_is() -> None:
    parts = {"S": one_section(0, NAMES), "T": one_section(1, NAMES[1:])}
    genes = combine_sections(parts, folds=2, patient_of=OWN).genes.set_index("gene")
    assert genes.loc["G0", "sections"] == 1
    assert genes.loc["G1", "sections"] == 2
    expected = parts["S"].genes.set_index("gene").loc["G0", "depth_adjusted_r_model"]
    assert genes.loc["G0", "depth_adjusted_r_model"] == pytest.approx(expected)
    assert genes.loc["G0", "detection"] == pytest.approx(0.5)  # where a fold has it


def test_null_genes_combined_over_independent_sections_are_not_too_often_significant() -> None:
    share = []
    for seed in range(6):
        parts = {
            str(n): one_section(100 + 3 * seed + n, [f"G{k}" for k in range(KNOWN, 60)])
            for n in range(3)
        }
        share.append(
            (combine_sections(parts, folds=1, patient_of=OWN).genes["p_model"] < 0.05).mean()
        )
    assert 0.02 < np.mean(share) < 0.09


def test_sections_too_small_for_tests_still_have_a_mean() -> None:
    part = one_section(0, NAMES)
    bare = SectionResults(
        part.genes[["gene", "detection", "r_model", "depth_adjusted_r_model"]],
        part.summary[part.summary["predictor"] == "model"],
        part.detection,
        {},
    )
    found = combine_sections({"S": bare}, folds=1, patient_of=OWN)
    assert found.genes["depth_adjusted_r_model"].notna().all()
    assert "p_model" not in found.genes
    assert pd.isna(found.summary["headline_low"].iloc[0])


def test_a_single_section_keeps_its_own_p(results: dict[str, SectionResults]) -> None:
    only = {"S": results["S"]}
    found = combine_sections(only, folds=1, patient_of=OWN)
    np.testing.assert_array_equal(found.genes["p_model"], results["S"].genes["p_model"])
    assert found.summary["p_values"].iloc[0] == NULL_SINGLE


def test_a_section_that_repeats_another_of_its_patient_adds_no_evidence(
    results: dict[str, SectionResults],
) -> None:
    twice = {"S": results["S"], "T": results["S"]}
    same, other = (
        combine_sections(twice, folds=1, patient_of=patients).genes["p_model"]
        for patients in ({"S": "A", "T": "A"}, {"S": "A", "T": "B"})
    )
    np.testing.assert_allclose(same, results["S"].genes["p_model"], atol=0.02)
    assert (other[:KNOWN] < same[:KNOWN]).mean() > 0.8
