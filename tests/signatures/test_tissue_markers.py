"""Markers of tissue and immunity are chosen among the genes of the panel only."""

from __future__ import annotations

from tcgn_mil.signatures.tissue_markers import TISSUE_MARKERS, marker_genes


def test_one_marker_of_each_tissue_in_the_spelling_of_the_panel() -> None:
    panel = ["ACTB", "CD3D", "CD3E", "COL1A1", "KRT19", "CD68", "MS4A1"]
    assert marker_genes(panel) == ("KRT19", "COL1A1", "CD3E", "CD68")
    assert marker_genes(panel, {"CD3D": 0.4, "CD3E": 0.1}, most=3) == ("KRT19", "COL1A1", "CD3D")


def test_a_panel_without_markers_gives_none() -> None:
    assert marker_genes(["SYN_1", "ERBB2"]) == ()


def test_no_gene_marks_two_tissues() -> None:
    names = [gene for genes in TISSUE_MARKERS.values() for gene in genes]
    assert len(names) == len(set(names))
