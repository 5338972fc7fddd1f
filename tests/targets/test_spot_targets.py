"""Training values of spots: without depth, of low rank, and back in their unit."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil.statistics.sequencing_depth import residuals_on_depth
from tcgn_mil.targets.spots import training_targets
from tcgn_mil.types.genes import TargetScaler

SPOTS, GENES = 120, 30


def sections(count: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    """Expression of two shared programmes and depth, with noise; sections differ in level."""
    rng = np.random.default_rng(3)
    loadings = rng.standard_normal((2, GENES))
    out = []
    for number in range(count):
        depth = rng.normal(7, 0.5, SPOTS)
        values = rng.standard_normal((SPOTS, 2)) @ loadings + 2 * depth[:, None] + 5 * number
        out.append(((values + 0.5 * rng.standard_normal((SPOTS, GENES))).astype(np.float32), depth))
    return out


def fitted(parts: list[tuple[np.ndarray, np.ndarray]]) -> TargetScaler:
    return TargetScaler.fit(np.concatenate([values for values, _ in parts]), transform="log1p")


def test_without_options_values_are_standardised() -> None:
    parts = sections()
    scaler = fitted(parts)
    found = training_targets(parts, scaler)
    np.testing.assert_allclose(
        scaler.unscale(found), np.concatenate([v for v, _ in parts]), rtol=1e-4, atol=1e-3
    )
    assert found.dtype == np.float32


def test_depth_and_the_level_of_a_section_are_taken_out() -> None:
    parts = sections()
    found = training_targets(parts, fitted(parts), remove_depth=True)
    for number, (_, depth) in enumerate(parts):
        own = found[number * SPOTS : (number + 1) * SPOTS]
        assert np.abs(own.mean(axis=0)).max() < 1e-5
        np.testing.assert_allclose(own.std(axis=0), 1, rtol=1e-4)
        np.testing.assert_allclose(residuals_on_depth(own, depth), own, atol=1e-4)
    raw = training_targets(parts, fitted(parts))
    depth = np.concatenate([d for _, d in parts])
    assert np.corrcoef(raw.mean(axis=1)[:SPOTS], depth[:SPOTS])[0, 1] > 0.5


def test_low_rank_keeps_what_genes_share() -> None:
    parts = sections()
    whole = training_targets(parts, fitted(parts), remove_depth=True)
    low = training_targets(parts, fitted(parts), remove_depth=True, rank=2)
    assert np.linalg.matrix_rank(low - low.mean(axis=0), tol=1e-2) == 2
    # This is the closest matrix of rank 2 (Eckart-Young): the difference has the other components.
    left, size, right = np.linalg.svd(whole - whole.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(
        low, whole.mean(axis=0) + (left[:, :2] * size[:2]) @ right[:2], atol=1e-4
    )
    assert np.square(whole - low).sum() == pytest.approx(np.square(size[2:]).sum(), rel=1e-3)


def test_a_rank_beyond_the_values_changes_nothing() -> None:
    parts = sections()
    assert np.array_equal(
        training_targets(parts, fitted(parts)), training_targets(parts, fitted(parts), rank=GENES)
    )


def test_a_gene_that_does_not_vary_stays_at_zero() -> None:
    (values, depth), *_ = sections(1)
    values[:, 4] = 1.5
    found = training_targets([(values, depth)], fitted([(values, depth)]), remove_depth=True)
    assert np.abs(found[:, 4]).max() < 1e-5


def test_values_that_are_not_finite_are_refused() -> None:
    (values, depth), *_ = sections(1)
    scaler = fitted([(values, depth)])
    values[3, 2] = np.nan
    with pytest.raises(ValueError, match="missing or infinite"):
        training_targets([(values, depth)], scaler)
