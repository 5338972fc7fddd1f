"""The spatial test is calibrated on independent smooth fields, and its intervals cover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from tcgn_mil.experiments.benchmarks.spots import smooth_fields
from tcgn_mil.statistics.bootstrap import block_bootstrap, percentile_interval
from tcgn_mil.statistics.sequencing_depth import depth_adjusted_pearson
from tcgn_mil.statistics.spatial import MAX_SPOTS, SpatialTest, lattice_step, spatial_blocks

PAIRS = 600
FIELDS = [
    ("exponential", 1.0, 0.0),
    ("exponential", 4.0, 0.0),
    ("gaussian", 2.0, 0.0),
    ("gaussian", 4.0, 0.0),
    ("gaussian", 3.0, 0.5),
    ("exponential", 4.0, 0.9),
]


def lattice(rows: int = 15, columns: int = 20) -> NDArray[np.float64]:
    return (
        np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
        .reshape(-1, 2)
        .astype(float)
    )


def false_positives(
    positions: NDArray[np.float64], kind: str, scale: float, nugget: float, seed: int
) -> float:
    """Share of independent pairs at p < 0.05, with a smooth depth taken out as in a section."""
    rng = np.random.default_rng(seed)
    depth = smooth_fields(positions, 1, "gaussian", 4.0, 0.2, rng)[:, 0]
    truth, prediction = (
        smooth_fields(positions, PAIRS, kind, scale, nugget, rng) for _ in range(2)
    )
    return float((SpatialTest(positions, depth)(truth, prediction).p < 0.05).mean())


@pytest.mark.parametrize(("kind", "scale", "nugget"), FIELDS)
def test_independent_smooth_maps_are_rarely_found_correlated(
    kind: str, scale: float, nugget: float
) -> None:
    assert 0.02 <= false_positives(lattice(), kind, scale, nugget, seed=1) <= 0.08


@pytest.mark.realdata
@pytest.mark.parametrize("section", ["B4", "C2", "C3", "C4", "C5"])
def test_it_calibrates_on_the_real_lattices(real_data: Path, section: str) -> None:
    spots = pd.read_csv(
        real_data / "her2st" / "ST-spotfiles" / f"{section}_selection.tsv", sep="\t"
    )
    positions = spots[["pixel_x", "pixel_y"]].to_numpy(float) / 290
    found = [false_positives(positions, *field, seed=number) for number, field in enumerate(FIELDS)]
    assert all(0.02 <= share <= 0.08 for share in found), found


def test_shuffling_would_not_calibrate() -> None:
    """Treating spots as independent finds a third of independent smooth maps correlated."""
    rng = np.random.default_rng(0)
    positions = lattice()
    truth, prediction = (smooth_fields(positions, PAIRS, "gaussian", 3.0, 0, rng) for _ in range(2))
    naive = [
        stats.pearsonr(truth[:, g], prediction[:, g], alternative="greater").pvalue
        for g in range(200)
    ]
    assert np.mean(np.array(naive) < 0.05) > 0.2


def test_without_autocorrelation_it_is_the_t_test() -> None:
    rng = np.random.default_rng(0)
    positions = lattice(30, 30)
    truth = rng.standard_normal((900, 50))
    prediction = truth * 0.08 + rng.standard_normal((900, 50))
    found = SpatialTest(positions)(truth, prediction)
    expected = [
        stats.pearsonr(truth[:, g], prediction[:, g], alternative="greater") for g in range(50)
    ]
    assert np.allclose(found.r, [one.statistic for one in expected])
    assert np.abs(found.p - [one.pvalue for one in expected]).max() < 0.05
    assert np.median(found.effective_n) > 800


def test_effective_samples_are_those_that_the_spread_of_r_shows() -> None:
    rng = np.random.default_rng(0)
    positions = lattice()
    truth, prediction = (
        smooth_fields(positions, 1000, "exponential", 3.0, 0.0, rng) for _ in range(2)
    )
    found = SpatialTest(positions)(truth, prediction)
    assert np.median(found.effective_n) == pytest.approx(1 + 1 / found.r.var(), rel=0.2)


def test_what_is_shared_is_found_and_the_opposite_is_not() -> None:
    rng = np.random.default_rng(0)
    positions, depth = lattice(), rng.standard_normal(300)
    shared = smooth_fields(positions, 40, "gaussian", 2.0, 0.0, rng)
    truth, prediction = (shared + rng.standard_normal(shared.shape) for _ in range(2))
    assert (SpatialTest(positions, depth)(truth, prediction).p < 0.01).mean() > 0.9
    assert (SpatialTest(positions, depth)(truth, -prediction).p > 0.99).mean() > 0.9


def test_r_is_the_depth_adjusted_one_and_depth_alone_has_none() -> None:
    rng = np.random.default_rng(0)
    positions, depth = lattice(), rng.normal(6, 1, 300)
    truth = rng.standard_normal((300, 4)) + depth[:, None]
    prediction = np.column_stack(
        [truth[:, :2] + rng.standard_normal((300, 2)), depth**2, np.full(300, 3.0)]
    )
    found = SpatialTest(positions, depth)(truth, prediction)
    expected = depth_adjusted_pearson(truth, prediction, depth)
    assert np.allclose(found.r[:2], expected[:2])
    for values in found:
        assert np.isfinite(values[:2]).all()
        assert np.isnan(values[2:]).all()
    follows_depth = np.column_stack([truth[:, :1], 2 * depth])
    assert np.isnan(SpatialTest(positions, depth)(follows_depth, truth[:, :2]).p[1])


def test_units_of_length_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.standard_normal((2, 300, 5))
    assert lattice_step(lattice() * 290) == 290
    near, far = (
        SpatialTest(positions)(truth, prediction)
        for positions in (lattice(), lattice() * 290 + 1000)
    )
    assert np.allclose(near.p, far.p)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (lattice(3, 3), "9 spots"),
        (np.zeros((MAX_SPOTS + 1, 2)), f"{MAX_SPOTS + 1} spots"),
        (np.concatenate([lattice(), lattice()[:1]]), "two spots have the same position"),
    ],
)
def test_positions_that_are_no_lattice_are_refused(
    positions: NDArray[np.float64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SpatialTest(positions)


def test_blocks_are_five_spots_wide() -> None:
    blocks = spatial_blocks(lattice(15, 20) * 290)
    assert np.bincount(blocks).tolist() == [25] * 12


def test_intervals_cover_what_is_true() -> None:
    """Of 95 % intervals over blocks, as few miss as the number of blocks allows."""
    rng = np.random.default_rng(0)
    positions, true = lattice(30, 40), 0.4
    shared = smooth_fields(positions, 300, "gaussian", 1.0, 0.3, rng)
    other = smooth_fields(positions, 300, "gaussian", 1.0, 0.3, rng)
    mixed = true * shared + np.sqrt(1 - true**2) * other
    replicates = block_bootstrap(shared, mixed, spatial_blocks(positions))
    assert replicates.shape == (1000, 300)
    low, high = percentile_interval(replicates)
    assert 0.88 <= ((low < true) & (true < high)).mean() <= 0.98
    again = block_bootstrap(shared, mixed, spatial_blocks(positions))
    assert np.array_equal(replicates, again)


def test_constant_genes_have_no_interval() -> None:
    rng = np.random.default_rng(0)
    truth = np.column_stack([rng.standard_normal(300), np.ones(300)])
    low, high = percentile_interval(
        block_bootstrap(truth, truth + rng.standard_normal((300, 2)), spatial_blocks(lattice()))
    )
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1]]).all()
