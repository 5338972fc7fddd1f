"""Gene sets that several models can score, and the weights of each model in the scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.signatures.set_weights import covered_sets, mean_weights
from tcgn_mil.types.genes import GenePanel


def gene_sets(**genes: str) -> list[GeneSet]:
    return [GeneSet(name, "", tuple(members)) for name, members in genes.items()]


def test_sets_of_which_a_model_lacks_more_than_half_are_left_out_with_the_reason() -> None:
    panels = [GenePanel(("A", "B", "C")), GenePanel(("A", "B"))]
    found = covered_sets(gene_sets(whole="AB", half="AX", less="ACX", none="X"), panels)
    assert [one.name for one in found.kept] == ["whole", "half"]
    assert found.left_out == {
        "less": "a model lacks 2 of 3 genes: C, X",  # the second model's
        "none": "a model lacks 1 of 1 genes: X",
    }


def test_a_sets_score_is_the_mean_over_genes_of_the_mean_over_models_that_have_them() -> None:
    panels = [GenePanel(("A", "B", "C")), GenePanel(("C", "A")), GenePanel(("Z",))]
    rng = np.random.default_rng(0)
    scores = [
        pd.DataFrame(rng.normal(size=(6, len(panel))), columns=list(panel.genes))
        for panel in panels
    ]
    sets = gene_sets(ab="AB", cax="CAX", bz="BZ")
    weights = mean_weights(sets, panels)
    found = sum(
        score[[*own.genes]].to_numpy() @ own.weights
        for score, own in zip(scores, weights, strict=True)
    )
    gene = {
        name: np.mean([score[name] for score in scores if name in score], axis=0) for name in "ABCZ"
    }
    expected = [gene["A"] + gene["B"], gene["C"] + gene["A"], gene["B"] + gene["Z"]]
    np.testing.assert_allclose(found, np.stack(expected, axis=1) / 2, rtol=1e-6)


def test_no_set_needs_no_gene() -> None:
    (only,) = mean_weights([], [GenePanel(("A",))])
    assert only.genes == ()
    assert only.weights.shape == (0, 0)
