"""Counts under gene names: repeated names are summed exactly, values that are not counts found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.genes import check_counts, name_counts, sum_repeated

NAMES = st.lists(st.sampled_from(["A", "B", "C", "D", "E"]), min_size=1, max_size=12)


@given(NAMES, st.integers(0, 2**32 - 1))
def test_repeated_names_are_summed_in_the_order_of_their_first(names: list[str], seed: int) -> None:
    counts = np.random.default_rng(seed).poisson(1.0, (7, len(names)))
    summed, distinct = sum_repeated(sparse.csr_matrix(counts), names)
    assert distinct == list(dict.fromkeys(names))
    expected = pd.DataFrame(counts.T, index=names).groupby(level=0, sort=False).sum().T
    assert np.array_equal(summed.toarray(), expected.to_numpy())
    assert summed.dtype == np.float32


def test_other_features_go_before_names_are_given() -> None:
    counts = sparse.csr_matrix([[1, 2, 3], [4, 5, 6]])
    kinds = ["Gene Expression", "CRISPR Guide Capture", "Gene Expression"]
    named, genes = name_counts(counts, ["X", "X", "X"], types=kinds)
    assert named.toarray().tolist() == [[4], [10]]
    assert genes.as_row()["other_features"] == 1
    with pytest.raises(InputError, match=r"m.h5: holds no gene expression, only Antibody Capture"):
        name_counts(counts, ["X", "Y", "Z"], types=["Antibody Capture"] * 3, path="m.h5")


def test_ids_that_a_source_lacks_cannot_name_its_genes() -> None:
    with pytest.raises(InputError, match=r"names no gene by Ensembl id.*--gene-ids symbol"):
        name_counts(sparse.csr_matrix([[1]]), ["TP53"], by="ensembl")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (-1, "-1"), (np.nan, "nan"), (np.inf, "inf"), (2**31, "2.1")]
)
def test_what_is_no_count_is_named(value: float, shown: str) -> None:
    counts = np.zeros((3, 4))
    counts[1, 2] = value
    with pytest.raises(InputError, match=rf"gene g2, spot s1: {shown}.* is not a count"):
        check_counts(
            sparse.csr_matrix(counts), ["s0", "s1", "s2"], ["g0", "g1", "g2", "g3"], path="m.h5"
        )
