"""GMT files as people have them, mistakes named with their line; which sets models can score, and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.signatures.gene_sets import GeneSet, covered_sets, mean_weights, read_gmt
from tcgn_mil.types.genes import GenePanel


def gmt(folder: Path, text: str | bytes) -> Path:
    path = folder / "sets.gmt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_sets_come_by_name_in_the_files_order(tmp_path: Path) -> None:
    sets = read_gmt(gmt(tmp_path, "T\thttp://x\tCD3D\tCD8A\nB\t\tMS4A1\n"))
    assert list(sets) == ["T", "B"]
    assert sets["T"] == GeneSet("T", "http://x", ("CD3D", "CD8A"))
    assert sets["B"] == GeneSet("B", "", ("MS4A1",))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_marks_blank_lines_and_empty_fields_do_not_matter(
    tmp_path: Path, end: str
) -> None:
    text = end.join(["\ufeffT cells\tna\tCD3D\t\t CD8A \t", "", "\t \t", "B\tna\tMS4A1", ""])
    sets = read_gmt(gmt(tmp_path, text))
    assert {name: found.genes for name, found in sets.items()} == {
        "T cells": ("CD3D", "CD8A"),
        "B": ("MS4A1",),
    }


def test_a_gene_that_a_set_repeats_counts_once(tmp_path: Path) -> None:
    assert read_gmt(gmt(tmp_path, "T\tna\tCD8A\tCD3D\tCD8A"))["T"].genes == ("CD8A", "CD3D")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("T\tna\tCD3D\nT\tna\tCD8A\n", "line 2: set 'T' stands twice"),
        ("A\tna\tCD4\n\nT\tna\n", "line 3: set 'T' has no genes"),
        ("T\tna\t\t\n", "line 1: set 'T' has no genes"),
        ("T,na,CD3D\n", "line 1: set 'T,na,CD3D' has no genes"),
        ("\tna\tCD3D\n", "line 1: the set has no name"),
        ("\n \n", "holds no gene set"),
        (b"\x1f\x8b\x08\x00\xff", "cannot be read as text"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    path = gmt(tmp_path, text)
    with pytest.raises(InputError, match=reason) as caught:
        read_gmt(path)
    assert caught.value.path == str(path)
    assert caught.value.fix


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of gene sets"):
        read_gmt(tmp_path / "none.gmt")


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
