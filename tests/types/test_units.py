"""Units are parsed as users write them, checked against values, and converted for training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.types.units import LINEAR_UNITS, LOG_FACTORS, ExpressionUnit


def tpm(samples: int = 3, genes: int = 50, *, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).gamma(0.5, size=(samples, genes))
    return values / values.sum(axis=1, keepdims=True) * 1e6


@pytest.mark.parametrize(
    ("text", "shown", "training"),
    [
        ("TPM", "tpm", "log2(TPM + 1)"),
        ("tpm-subset", "tpm-subset", "log2(TPM + 1)"),
        ("fpkm-uq", "fpkm-uq", "log2(FPKM-UQ + 1)"),
        ("counts", "counts", "log2(CPM + 1)"),
        ("log2(TPM + 0.001)", "log2(tpm+0.001)", "log2(TPM + 0.001)"),
        ("log2(counts+1)", "log2(counts+1)", "log2(counts + 1)"),
        ("log2( fpkm +1 )", "log2(fpkm+1)", "log2(FPKM + 1)"),
        ("ZScore", "zscore", "normal score of the rank among training patients"),
    ],
)
def test_units_are_read_as_written(text: str, shown: str, training: str) -> None:
    unit = ExpressionUnit.parse(text)
    assert (str(unit), unit.training_unit) == (shown, training)
    assert ExpressionUnit.parse(str(unit)) == unit


@pytest.mark.parametrize(
    "text", ["", "rpkm", "log2(tpm)", "log2(x+1)", "log2(tpm+-1)", "log2(tpm+1e)", "ln(tpm+1)"]
)
def test_unknown_units_name_the_known_ones(text: str) -> None:
    with pytest.raises(
        InputError, match=r"unknown expression unit .* Fix: choose tpm, tpm-subset, fpkm"
    ):
        ExpressionUnit.parse(text)


@given(st.sampled_from(sorted(LINEAR_UNITS)), st.sampled_from([0.001, 0.5, 1.0, 8.0]))
def test_any_log_unit_survives_being_written(base: str, offset: float) -> None:
    unit = ExpressionUnit(base, offset)
    assert ExpressionUnit.parse(str(unit)) == unit
    assert ExpressionUnit.floor_of(unit.training_unit) == pytest.approx(np.log2(offset))


def test_floor_of_training_units() -> None:
    assert ExpressionUnit.floor_of("log2(CPM + 1)") == 0
    assert ExpressionUnit.floor_of(ExpressionUnit.parse("zscore").training_unit) is None


def test_values_that_fit_are_accepted() -> None:
    ExpressionUnit.parse("tpm").check(tpm())
    ExpressionUnit.parse("tpm-subset").check(tpm()[:, :5])
    ExpressionUnit.parse("log2(tpm+0.001)").check(np.log2(tpm()[:, :5] + 0.001))
    ExpressionUnit.parse("fpkm").check(tpm() * 0.3)
    ExpressionUnit.parse("counts").check(np.array([[0, 3], [2, np.nan]]))
    ExpressionUnit.parse("zscore").check(np.array([[-3, 1e4]]))


@pytest.mark.parametrize(
    ("unit", "values", "message"),
    [
        ("tpm", tpm() * 0.3, "3 of 3 samples do not sum to 1e6"),
        ("tpm", np.log2(tpm() + 1), "do not sum to 1e6"),
        ("tpm-subset", tpm() * 1.2, "sum to more than 1e6"),
        ("log2(tpm+1)", np.log2(tpm() * 3 + 1), "sum to more than 1e6"),
        ("fpkm", np.array([[-1.0, 2]]), "has values down to -1"),
        ("counts", np.array([[0.5, 2]]), "fractional values"),
        ("counts", np.array([[1.0, 2], [0, 0]]), "1 of 2 samples have no count at all"),
        (
            "log2(tpm+1)",
            np.array([[-2.0, 3]]),
            r"values from -2 to 3, which cannot be log2\(tpm\+1\)",
        ),
        ("log2(fpkm+1)", tpm(), "which cannot be"),
        ("fpkm", np.array([[np.nan, np.nan]]), "holds no number"),
        ("zscore", np.log2(tpm() + 1), "no negative value, so these are not z-scores"),
    ],
)
def test_values_that_cannot_be_in_the_unit_are_refused(
    unit: str, values: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=rf"bulk\.csv: .*{message}.* Fix: "):
        ExpressionUnit.parse(unit).check(values, path="bulk.csv")


def test_linear_units_train_on_log2_of_one_more() -> None:
    values = np.array([[0.0, 1, 3]])
    assert ExpressionUnit.parse("tpm").to_training(values).tolist() == [[0, 1, 2]]
    assert ExpressionUnit.parse("fpkm").to_training(values).dtype == np.float32


def test_counts_train_on_counts_per_million_of_the_genes_given() -> None:
    counts = np.array([[1.0, 3], [10, 30], [0, 0]])
    out = ExpressionUnit.parse("counts").to_training(counts)
    assert np.allclose(out, np.log2([[250_001, 750_001], [250_001, 750_001], [1, 1]]))


@pytest.mark.parametrize("unit", ["log2(tpm+0.001)", "zscore"])
def test_logs_and_z_scores_are_left_as_they_are(unit: str) -> None:
    values = np.array([[-1.5, 2, np.nan]], dtype=np.float32)
    assert np.array_equal(ExpressionUnit.parse(unit).to_training(values), values, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "logarithm"),
    [
        ("ln(tpm+1)", "ln"),
        ("log1p(TPM)", "ln"),
        ("log10(tpm + 1)", "log10"),
        ("log2(tpm+1)", "log2"),
        ("tpm", ""),
    ],
)
def test_declared_logarithms_are_brought_to_base_2(text: str, logarithm: str) -> None:
    unit, found = ExpressionUnit.parse_declared(text)
    assert found == logarithm
    assert str(unit) == ("log2(tpm+1)" if logarithm else "tpm")
    base = {"ln": np.e, "log10": 10.0, "log2": 2.0}.get(logarithm)
    if base is not None:
        own = np.log(np.array([3.0, 7.0])) / np.log(base)
        np.testing.assert_allclose(own * LOG_FACTORS[logarithm], np.log2([3, 7]))


def tpm_of(samples: int, genes: int) -> np.ndarray:
    linear = np.random.default_rng(0).lognormal(1, 2, size=(samples, genes))
    return linear / linear.sum(axis=1, keepdims=True) * 1e6


@pytest.mark.parametrize(("name", "log"), [("ln", np.log), ("log10", np.log10)])
def test_the_base_of_a_logarithm_shows_in_the_sums(name: str, log: np.ufunc) -> None:
    unit = ExpressionUnit.parse("log2(tpm+1)")
    with pytest.raises(InputError, match="logarithms, not log2") as told:
        unit.check(log(tpm_of(2, 200) + 1))
    assert f"--unit '{name}(tpm+1)'" in str(told.value)
    unit.check(np.log2(tpm_of(2, 200) + 1))
    # Counts that were scaled to one total, as by scanpy, show it too.
    scaled = tpm_of(5, 200) / 100
    with pytest.raises(InputError, match="logarithms, not log2"):
        ExpressionUnit.parse("log2(counts+1)").check(log(scaled + 1))
    ExpressionUnit.parse("log2(counts+1)").check(np.log2(scaled + 1))


def test_a_selection_of_genes_in_log2_is_not_taken_for_another_base() -> None:
    ExpressionUnit.parse("log2(tpm+1)").check(np.log2(tpm_of(40, 5000)[:, :300] + 1))
