"""Patients of the training kind are rarely flagged, others are, and small cohorts say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tile_sets import tile_set

from tcgn_mil.errors import InputError
from tcgn_mil.inference import reference_file
from tcgn_mil.inference.feature_spaces import (
    Moments,
    fit_patient_space,
    fit_scale,
    whiten,
)
from tcgn_mil.inference.out_of_distribution import (
    FEWEST_PATIENTS,
    IN,
    MAX_TILES,
    OUT,
    UNKNOWN,
    Reference,
    fit_reference,
    shuffled,
    verdict_table,
)
from tcgn_mil.inference.reference_file import read_reference, sample_tiles, write_reference
from tcgn_mil.io.feature_files import write_features
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

WIDTH, TILES = 24, 48
SPEC = TileSpec.for_slide(PatchSize(112, 0.69), slide_mpp=0.69, level_downsamples=[1.0])
# Patients differ mainly in the first few of the independent directions, which are then mixed.
OWN = np.where(np.arange(WIDTH) < 6, 0.5, 0.1)
ROTATION = np.linalg.qr(np.random.default_rng(5).standard_normal((WIDTH, WIDTH)))[0]
MIX = np.logspace(0, -1, WIDTH)[:, None] * ROTATION


def patient(rng: np.random.Generator, tiles: int = TILES) -> NDArray[np.float64]:
    """Return tiles (n, WIDTH) of a patient; features correlate, and patients differ."""
    own = OWN * rng.standard_normal(WIDTH)
    return (own + rng.standard_normal((tiles, WIDTH))) @ MIX + np.arange(WIDTH)


def cohort(count: int, seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    return fit_reference([f"P{i}" for i in range(count)], [patient(rng) for _ in range(count)])


@pytest.fixture(scope="module")
def large() -> Reference:
    return cohort(120)


def share_out(
    reference: Reference, make: Callable[[np.random.Generator], NDArray], count: int, seed: int = 99
) -> float:
    """Return the share of new patients that are flagged."""
    rng = np.random.default_rng(seed)
    states = [reference.judge(make(rng)).state for _ in range(count)]
    return float(np.mean([state == OUT for state in states]))


@pytest.mark.parametrize("tiles", [1, 5, TILES, 400])
def test_one_in_twenty_patients_of_the_training_kind_is_flagged(tiles: int) -> None:
    # The share varies between cohorts, so that each seed has a cohort and new patients of its own.
    shares = [
        share_out(cohort(40, seed), lambda rng: shuffled(patient(rng, tiles)), 30, 500 + seed)
        for seed in range(20)
    ]
    assert 0.015 < np.mean(shares) < 0.09


def test_p_is_the_share_of_training_patients_that_are_as_far(large: Reference) -> None:
    rng = np.random.default_rng(3)
    verdicts = [large.judge(patient(rng)) for _ in range(200)]
    steps = np.array([verdict.p for verdict in verdicts]) * 121
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    order = np.argsort([verdict.score for verdict in verdicts])
    assert (np.diff(np.array([verdict.p for verdict in verdicts])[order]) <= 0).all()
    assert large.judge(patient(rng) + 50).p == pytest.approx(1 / 121)


def test_another_mean_is_seen_at_the_patient_and_another_spread_at_the_tiles(
    large: Reference,
) -> None:
    rng = np.random.default_rng(4)
    # The last of the mixed directions hardly varies, so that a small shift along it is unusual. It
    # is less than the features differ between tiles.
    assert np.abs(1.5 * MIX[-1]).max() < patient(rng).std(axis=0).min()
    moved = [large.judge(patient(rng) + 1.5 * MIX[-1]) for _ in range(20)]
    assert {(verdict.state, verdict.level) for verdict in moved} == {(OUT, "patient")}
    assert large.judge(patient(rng) + 100).level == "both"
    for factor in (0.4, 2.0):
        tiles = [patient(rng) for _ in range(20)]
        # The mean of the tiles stays; only their differences from it are scaled.
        spread = [(bag - bag.mean(axis=0)) * factor + bag.mean(axis=0) for bag in tiles]
        verdicts = [large.judge(bag) for bag in spread]
        assert np.mean([verdict.state == OUT for verdict in verdicts]) > 0.9
        assert np.mean([verdict.level == "tiles" for verdict in verdicts]) > 0.6
        assert "patient" not in {verdict.level for verdict in verdicts}


def test_too_few_training_patients_cannot_tell() -> None:
    rng = np.random.default_rng(6)
    far = patient(rng) + 30
    assert cohort(FEWEST_PATIENTS - 1).judge(far).state == UNKNOWN
    assert cohort(FEWEST_PATIENTS - 1).judge(far).score > 3
    assert cohort(FEWEST_PATIENTS).judge(far).state == OUT
    assert cohort(FEWEST_PATIENTS).judge(far).p == pytest.approx(0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_smallest_cohorts_have_a_score(count: int) -> None:
    verdict = cohort(count).judge(patient(np.random.default_rng(7)))
    assert verdict.state == UNKNOWN
    assert np.isfinite(verdict.score)


def vector(rng: np.random.Generator, gap: float = 0.05) -> NDArray[np.float64]:
    """Return one vector (1, WIDTH) with a heavy tail and gaps, as tables of slide features have."""
    values = np.exp(1.5 * patient(rng, 1)) * rng.choice([1, 1e3], WIDTH, p=[0.97, 0.03])
    return np.where(rng.random((1, WIDTH)) < gap, np.nan, values)


def test_single_vectors_with_heavy_tails_and_gaps() -> None:
    rng = np.random.default_rng(8)
    training = [vector(rng) for _ in range(150)]
    training[3] = np.concatenate([vector(rng), vector(rng)])  # a patient with two slides
    reference = fit_reference([str(i) for i in range(150)], training)
    assert reference.white is None
    assert 0.005 < share_out(reference, vector, 400) < 0.12
    assert share_out(reference, lambda rng: vector(rng)[:, ::-1], 50) > 0.8
    assert reference.judge(np.full((1, WIDTH), np.nan)).level == "patient"


def test_constant_features_and_equal_tiles_do_no_harm() -> None:
    rng = np.random.default_rng(9)
    training = [patient(rng) for _ in range(30)]
    for bag in training:
        bag[:, 2] = 7
        bag[:, 3] = np.nan
    training[0][:] = training[0][0]
    reference = fit_reference([str(i) for i in range(30)], training)
    assert all(np.isfinite(verdict.score) for verdict in reference.training.values())
    assert reference.training["0"].state == OUT
    assert reference.training["0"].level != "patient"


def test_an_odd_training_patient_is_compared_with_the_others() -> None:
    rng = np.random.default_rng(10)
    training = [patient(rng) for _ in range(40)]
    training[5] = training[5] + 8 * MIX[-1]
    reference = fit_reference([f"P{i}" for i in range(40)], training)
    table = verdict_table(reference.training)
    assert table["ood_score"].idxmax() == "P5"
    assert table.loc["P5", "ood_p"] == pytest.approx(1 / 40)
    assert list(table.columns) == ["ood_score", "ood_p", "ood_state", "ood_level"]
    assert (table["ood_state"] == IN).sum() > 30


def test_scale_ignores_the_tail_and_missing_values() -> None:
    values = np.random.default_rng(11).standard_normal((400, 2))
    tailed = values.copy()
    tailed[:8, 0] = 1e6
    tailed[8:50, 1] = np.nan
    scale = fit_scale(tailed)
    assert abs(scale.centre[0]) < 0.2
    assert 0.8 < scale.unit[0] < 1.2
    scaled = scale(tailed)
    assert np.isfinite(scaled).all()
    assert (scaled[8:50, 1] == 0).all()
    assert scaled[:8, 0].max() < 20


def test_white_tiles_have_unit_covariance() -> None:
    rng = np.random.default_rng(12)
    tiles = np.concatenate([patient(rng) for _ in range(30)])
    moments = Moments.of(tiles[:9]) + Moments.of(tiles[9:])
    assert moments.tiles == len(tiles)
    values = whiten(moments)(tiles)
    np.testing.assert_allclose(np.cov(values.T), np.eye(values.shape[1]), atol=0.01)
    # A feature that repeats another one adds no direction.
    twice = np.concatenate([tiles, tiles[:, :1]], axis=1)
    assert whiten(Moments.of(twice)).weights.shape == (WIDTH + 1, WIDTH)
    assert whiten(moments, directions=5).weights.shape == (WIDTH, 5)


def test_wide_features_raise_no_false_alarms() -> None:
    """No direction is chosen with the help of a patient who is then compared with the others."""
    rng = np.random.default_rng(0)

    def wide() -> NDArray[np.float64]:
        return rng.standard_normal((110, 768))

    reference = fit_reference([f"P{i}" for i in range(24)], [wide() for _ in range(24)])
    flagged = [reference.judge(wide()).state == OUT for _ in range(20)]
    assert np.mean(flagged) <= 0.2
    assert reference.judge(wide() * 1.5).state == OUT


def test_distances_count_what_is_beyond_the_components_and_what_is_far_along_them() -> None:
    rng = np.random.default_rng(13)
    values = rng.standard_normal((200, 12)) * [9, 8, 7, 6, 5, 4, 3, 2, 0.1, 0.1, 0.1, 0.1]
    space = fit_patient_space(values, patients=200)
    assert len(space.components) == 8
    assert space.distance(values).mean() == pytest.approx(1, abs=0.15)
    beyond, along, far = np.zeros((3, 12))
    beyond[8], along[0], far[0] = 1, 18, 180
    near, usual, outside = space.distance(np.stack([beyond, along, far]))
    # 1 / sqrt(4 * 0.1^2) = 5; the score 180 is 20 standard deviations along one of 8 components.
    assert near == pytest.approx(5, rel=0.15)
    assert usual < 1
    assert outside == pytest.approx(20 / np.sqrt(8) / 3, rel=0.2)


def test_the_file_restores_the_reference(tmp_path: Path, large: Reference) -> None:
    rng = np.random.default_rng(0)
    samples = [reference_file.TileSample(f"P{i}", patient(rng)) for i in range(120)]
    written = write_reference(tmp_path, samples)
    read = read_reference(tmp_path)
    tiles = patient(np.random.default_rng(14))
    assert read.judge(tiles) == written.judge(tiles) == large.judge(tiles)
    assert read.training == written.training
    vectors = [reference_file.TileSample(name, sample[:1]) for name, sample in samples]
    assert write_reference(tmp_path, vectors).white is None
    assert read_reference(tmp_path).spreads is None


def test_files_that_cannot_be_used_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist.*command again"):
        read_reference(tmp_path)
    path = tmp_path / reference_file.FILE
    save_file({"mean": np.zeros(3, np.float32), "distances": np.zeros(9, np.float32)}, path)
    with pytest.raises(InputError, match=r"written by an older version.*command again"):
        read_reference(tmp_path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=r"cannot be read"):
        read_reference(tmp_path)


def test_samples_are_bounded_by_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(15)
    count = MAX_TILES + 40
    coords = np.stack([np.arange(count) * 112, np.zeros(count)], axis=1).astype(np.int64)
    files = {}
    for name in ("A", "B"):
        path = tmp_path / f"{name}.h5"
        features = patient(rng, count).astype(np.float32)
        write_features(path, features, tile_set(coords, SPEC, name, name), encoder="toy")
        files[name] = (path,)
    samples = list(sample_tiles(files, width=WIDTH))
    assert [(name, len(tiles)) for name, tiles in samples] == [("A", MAX_TILES), ("B", MAX_TILES)]
    monkeypatch.setattr(reference_file, "_SAMPLE_BYTES", 2 * 10 * WIDTH * 4)
    small = list(sample_tiles(files, width=WIDTH))
    assert [len(tiles) for _, tiles in small] == [10, 10]
    np.testing.assert_array_equal(small[0].tiles, next(sample_tiles(files, width=WIDTH)).tiles)
