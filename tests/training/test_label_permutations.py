"""Permuted labels stay within strata, and the rows of a person stay together."""

from __future__ import annotations

import numpy as np

from tcgn_mil.statistics.out_of_fold import combined_r
from tcgn_mil.statistics.p_values import null_p_values
from tcgn_mil.training.label_permutations import permutations


def test_labels_are_permuted_within_sites() -> None:
    patients = [f"P{i}" for i in range(30)]
    sites = {name: f"S{i % 3}" for i, name in enumerate(patients)}
    alone = {name: name for name in patients}
    orders = permutations(patients, alone, sites, count=5, seed=1)
    assert (np.sort(orders, axis=1) == np.arange(30)).all()
    assert (orders % 3 == np.arange(30) % 3).all()
    assert len({tuple(row) for row in orders}) == 5
    free = permutations(patients, alone, dict.fromkeys(patients, ""), count=5, seed=1)
    assert (free % 3 != np.arange(30) % 3).any()
    again = permutations(patients, alone, dict.fromkeys(patients, ""), count=5, seed=1)
    np.testing.assert_array_equal(free, again)


def test_the_rows_of_a_donor_stay_together() -> None:
    """Of 20 donors with three sections and 20 with one, triples give to triples, in any order."""
    donors = {
        f"{donor}/{row}": f"D{donor}"
        for donor in range(40)
        for row in range(3 if donor < 20 else 1)
    }
    patients = sorted(donors, key=lambda name: name[::-1])  # mixed
    orders = permutations(patients, donors, dict.fromkeys(patients, ""), count=20, seed=1)
    assert (np.sort(orders, axis=1) == np.arange(len(patients))).all()
    kept = []
    for order in orders:
        given: dict[str, set[str]] = {}
        for name, label in zip(patients, order, strict=True):
            given.setdefault(donors[name], set()).add(donors[patients[label]])
        assert all(len(sources) == 1 for sources in given.values())
        assert all(
            (int(donor[1:]) < 20) == (int(min(sources)[1:]) < 20)
            for donor, sources in given.items()
        )
        kept.append(np.mean([{donor} == sources for donor, sources in given.items()]))
    assert np.mean(kept) < 0.15


def test_a_donor_of_a_rare_number_of_rows_gives_its_labels_away_too() -> None:
    """One donor has five rows, and nine have one; most of the five labels go elsewhere."""
    patients = [f"P{i}" for i in range(14)]
    donors = {name: "big" if i < 5 else name for i, name in enumerate(patients)}
    orders = permutations(patients, donors, dict.fromkeys(patients, ""), count=200, seed=1)
    assert (np.sort(orders, axis=1) == np.arange(14)).all()
    assert 0.1 < (orders[:, :5] < 5).mean() < 0.6


def test_donors_exchange_within_strata_only() -> None:
    patients = [f"P{i}" for i in range(24)]
    donors = {name: f"D{i // 2}" for i, name in enumerate(patients)}
    strata = {name: ("", f"cohort{i // 12}") for i, name in enumerate(patients)}
    orders = permutations(patients, donors, strata, count=10, seed=0)
    assert (orders[:, :12] < 12).all()
    assert (orders[:, 12:] >= 12).all()
    assert (orders[:, ::2] // 2 == orders[:, 1::2] // 2).all()


def test_p_is_even_where_rows_of_a_donor_are_alike() -> None:
    """Slides say nothing about expression; permuting rows one by one still finds a signal."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(30), 3)
    fold_of, names = donor % 5, [f"P{row}" for row in range(len(donor))]

    def z(slides: np.ndarray, labels: np.ndarray) -> np.ndarray:
        predicted = np.zeros_like(labels)
        for fold in range(5):
            train = fold_of != fold
            centred = slides[train] - slides[train].mean(axis=0)
            weight = np.linalg.solve(
                centred.T @ centred + 10 * np.eye(slides.shape[1]), centred.T @ labels[train]
            )
            predicted[~train] = slides[~train] @ weight
        return combined_r(labels, predicted, fold_of).z

    shares: dict[str, list[float]] = {"rows": [], "donors": []}
    for seed in range(6):
        slides, labels = (
            rng.standard_normal((30, size))[donor] + 0.5 * rng.standard_normal((90, size))
            for size in (15, 150)
        )
        people = {
            "rows": dict(zip(names, names, strict=True)),
            "donors": dict(zip(names, map(str, donor), strict=True)),
        }
        for kind, donors in people.items():
            orders = permutations(names, donors, dict.fromkeys(names, ""), count=40, seed=seed)
            p = null_p_values(
                z(slides, labels), np.stack([z(slides, labels[order]) for order in orders])
            )
            shares[kind].append(float(np.mean(p < 0.05)))
    assert 0.025 < np.mean(shares["donors"]) < 0.08
    assert np.mean(shares["rows"]) > 0.1
