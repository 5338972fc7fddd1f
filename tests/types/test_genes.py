"""Gene panels find their genes, and scalers standardise them."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.types.genes import GenePanel, TargetScaler, columns_by_gene


def test_panel_finds_its_genes_and_names_missing_ones() -> None:
    panel = GenePanel(("B", "A"))
    assert panel.index_in(["A", "x", "B"]).tolist() == [2, 0]
    with pytest.raises(InputError, match="1 of 2 panel genes are missing: B"):
        panel.index_in(["A"])
    assert panel.hash != GenePanel(("A", "B")).hash
    with pytest.raises(InputError, match="repeats A"):
        GenePanel(("A", "A"))


def test_scaler_standardises_and_leaves_constant_genes_alone() -> None:
    values = np.column_stack([np.arange(10.0), np.full(10, 3.0)])
    scaler = TargetScaler.fit(values, transform="log1p")
    scaled = scaler.scale(values)
    np.testing.assert_allclose(scaled.std(0), [1, 0], atol=1e-6)
    np.testing.assert_allclose(scaler.unscale(scaled), values, atol=1e-5)


def test_an_approved_symbol_has_precedence_over_a_previous_one() -> None:
    assert columns_by_gene(["MARS", "TP53"]) == {"MARS1": 0, "TP53": 1}
    assert columns_by_gene(["MARS", "MARS1"]) == {"MARS1": 1}


def test_a_panel_finds_genes_under_their_new_symbols() -> None:
    assert GenePanel(("MARS", "TP53")).index_in(["TP53", "MARS1"]).tolist() == [1, 0]
    # One column is never two genes of a panel.
    with pytest.raises(InputError, match="1 of 2 panel genes are missing: MARS"):
        GenePanel(("MARS", "MARS1")).index_in(["MARS1", "TP53"])
