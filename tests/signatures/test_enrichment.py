"""Enrichment against scipy, and GSEA on a planted set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tcgn_mil.signatures.enrichment import hypergeometric, preranked
from tcgn_mil.signatures.gene_sets import GeneSet


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_hypergeometric_has_the_panel_for_background() -> None:
    panel = [f"G{number}" for number in range(20)]
    sets = [GeneSet("S", "", ("G0", "G1", "G2", "ELSEWHERE")), GeneSet("NONE", "", ("ELSEWHERE",))]
    table = hypergeometric(["G0", "G1", "G9", "ELSEWHERE"], panel, sets)
    (row,) = table.to_dict("records")
    assert (row["set"], row["genes"], row["in_panel"], row["chosen"], row["overlap"]) == (
        "S",
        4,
        3,
        2,
        "G0;G1",
    )
    assert row["p"] == pytest.approx(
        stats.fisher_exact([[2, 1], [1, 16]], alternative="greater").pvalue
    )
    assert row["fold"] == pytest.approx(2 / (3 * 3 / 20))


def test_preranked_finds_the_set_at_the_top(rng: np.random.Generator) -> None:
    genes = ["HLA_A", *(f"G{number}" for number in range(299))]
    statistic = np.linspace(1, -1, 300)
    statistic[150] = np.nan
    sets = [
        GeneSet("TOP", "", ("HLA-A", *(f"G{n}" for n in range(9)))),
        GeneSet("SMALL", "", ("G0",)),
        GeneSet("SPREAD", "", tuple(f"G{n}" for n in range(0, 299, 29))),
    ]
    table = preranked(genes, statistic, sets, permutations=200)
    assert table["set"].tolist() == ["TOP", "SPREAD"]
    assert table["q"][0] < 0.05 < table["q"][1]
    assert table["nes"][0] > 1.5
    assert table["in_panel"][0] == 10
    assert preranked(genes, statistic, [GeneSet("SMALL", "", ("G0",))]).empty
