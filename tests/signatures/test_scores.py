"""Signature scores: what they are, what they need, and under which names genes are found."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.signatures.gene_sets import GeneSet, load_gene_sets
from tcgn_mil.signatures.scores import (
    GEOMETRIC_MEAN,
    MEAN_OF_RANKS,
    gene_columns,
    score_signatures,
)
from tcgn_mil.statistics.ranks import patient_ranks
from tcgn_mil.types.genes import canonical_gene


def gene_set(name: str, *genes: str) -> GeneSet:
    return GeneSet(name, "", genes)


def test_a_score_is_the_mean_rank_and_knows_no_scale() -> None:
    values = np.random.default_rng(0).normal(size=(9, 3))
    found = score_signatures(values, ["A", "B", "C"], [gene_set("S", "A", "C")])
    by_hand = (values[:, [0, 2]].argsort(axis=0).argsort(axis=0) + 0.5).mean(axis=1) / 9
    np.testing.assert_allclose(found.values[:, 0], by_hand)
    again = score_signatures(np.exp(5 * values), ["A", "B", "C"], [gene_set("S", "A", "C")])
    np.testing.assert_allclose(again.values, found.values)
    assert found.coverage[0].definition == MEAN_OF_RANKS


def test_ties_share_a_rank_and_missing_values_are_left_out() -> None:
    ranks = patient_ranks(np.array([[1.0], [1.0], [np.nan], [2.0]]))
    np.testing.assert_allclose(ranks[:, 0], [1 / 3, 1 / 3, np.nan, 2.5 / 3])


def test_ranks_are_within_folds() -> None:
    values = np.array([[1.0], [2.0], [101.0], [102.0]])
    groups = np.array([0, 0, 1, 1])
    np.testing.assert_allclose(patient_ranks(values, groups)[:, 0], [0.25, 0.75, 0.25, 0.75])


def test_genes_present_and_missing_are_named_and_half_is_enough() -> None:
    values = np.arange(8.0).reshape(4, 2)
    sets = [
        gene_set("HALF", "A", "B", "X", "Y"),
        gene_set("LESS", "A", "X", "Y"),
        gene_set("NONE", "X"),
    ]
    found = score_signatures(values, ["A", "B"], sets)
    assert found.names == ("HALF",)
    half, less, none = found.coverage
    assert (half.present, half.missing, half.refused) == (("A", "B"), ("X", "Y"), "")
    assert less.refused == "only 1 of 3 genes are there, fewer than half"
    assert none.refused == "none of its 1 genes is there"


def test_a_patient_without_half_of_the_genes_has_no_score() -> None:
    values = np.array([[1.0, 1.0], [2.0, np.nan], [np.nan, np.nan]])
    found = score_signatures(values, ["A", "B"], [gene_set("S", "A", "B")])
    assert np.isfinite(found.values[:, 0]).tolist() == [True, True, False]


def test_cytolytic_activity_is_the_geometric_mean_of_both_genes() -> None:
    tpm = np.array([[1.0, 4.0], [9.0, 16.0], [0.0, 5.0]])
    sets = [gene_set("ANY_NAME", "GZMA", "PRF1")]
    found = score_signatures(tpm, ["PRF1", "GZMA"], sets)
    np.testing.assert_allclose(found.values[:, 0], [2, 12, 0])
    assert found.coverage[0].definition == GEOMETRIC_MEAN
    logs = score_signatures(np.log2(tpm + 1), ["PRF1", "GZMA"], sets, log_offset=1)
    np.testing.assert_allclose(logs.values[:, 0], [2, 12, 0], atol=1e-12)
    zscores = score_signatures(tpm - 5, ["PRF1", "GZMA"], sets)
    assert zscores.coverage[0].definition == MEAN_OF_RANKS


def test_cytolytic_activity_is_refused_without_one_gene() -> None:
    sets = [gene_set("CYT", "GZMA", "PRF1"), gene_set("S", "PRF1")]
    found = score_signatures(np.ones((3, 1)), ["PRF1"], sets)
    assert found.coverage[0].refused == "needs both of its genes and lacks GZMA"


@pytest.mark.parametrize("name", ["HLA_A", "HLA.A", "HLA-A"])
def test_hla_has_one_name(name: str) -> None:
    assert canonical_gene(name) == "HLA-A"
    found = score_signatures(np.arange(3.0)[:, None], [name], [gene_set("S", "HLA-A")])
    assert found.coverage[0].present == ("HLA-A",)


def test_other_names_stay() -> None:
    assert [
        canonical_gene(name) for name in ("HLA_DRB1", "HLA_DQA1", "<script>", "MIR_1", " CD8A ")
    ] == [
        "HLA-DRB1",
        "HLA-DQA1",
        "<script>",
        "MIR_1",
        "CD8A",
    ]


def test_one_gene_under_two_names_is_refused() -> None:
    with pytest.raises(InputError, match="'HLA_A' and 'HLA-A' are one gene"):
        gene_columns(["HLA_A", "HLA-A"])


def test_no_signature_with_enough_genes_is_refused() -> None:
    with pytest.raises(InputError, match="none of 1 signatures has enough genes: S lacks X"):
        score_signatures(np.ones((3, 1)), ["A"], [gene_set("S", "X")])


def test_the_shipped_sets_have_citations() -> None:
    sets = load_gene_sets()
    assert len(sets) == 20
    sizes = {
        "CYTOLYTIC_ACTIVITY": 2,
        "IFNG_6": 6,
        "EXPANDED_IMMUNE_18": 18,
        "T_CELL_INFLAMED_18": 18,
        "TLS_CHEMOKINE_12": 12,
        "T_CELL_5": 5,
    }
    assert {name: len(sets[name].genes) for name in sizes} == sizes
    assert all(
        "et al." in one.description or "of this package" in one.description for one in sets.values()
    )
