"""The report on an imported table: heavy tails, and columns of every type that tables store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.io.feature_files import read_feature_names, read_features
from tcgn_mil.preprocessing.features.feature_table import import_table
from tcgn_mil.preprocessing.features.table_report import has_heavy_tail

N = 400


def save(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


@pytest.mark.parametrize(
    ("draw", "heavy"),
    [
        (lambda rng: rng.standard_normal(N), False),
        (lambda rng: rng.uniform(size=N), False),
        (lambda rng: rng.exponential(size=N), False),
        (lambda rng: rng.lognormal(sigma=1.5, size=N), True),
        (lambda rng: -rng.lognormal(sigma=1.5, size=N), True),
        (lambda rng: rng.standard_cauchy(size=N), True),
        (lambda rng: np.where(rng.uniform(size=N) < 0.1, rng.exponential(size=N), 0), True),
        (lambda rng: (rng.uniform(size=N) < 0.1).astype(float), False),  # two values
        (lambda rng: np.append(rng.standard_normal(N), 1e6), False),  # one outlier is no tail
        (lambda rng: np.append(rng.lognormal(sigma=1.5, size=N), [np.nan] * N), True),
        (lambda rng: rng.lognormal(sigma=3, size=19), False),  # too few values to say
        (lambda rng: np.full(N, np.nan), False),
    ],
)
def test_heavy_tails_are_judged_by_quantiles(
    draw: Callable[[np.random.Generator], np.ndarray], heavy: bool
) -> None:
    assert has_heavy_tail(draw(np.random.default_rng(0)).astype(np.float32)) is heavy


def test_heavy_tails_do_not_depend_on_unit_or_offset() -> None:
    values = np.random.default_rng(0).lognormal(sigma=1.5, size=N)
    for unit, offset in ((1e-3, 0), (1e4, 0), (1, 100)):
        assert has_heavy_tail(values * unit + offset)


def test_heavy_tails_are_reported_and_values_are_unchanged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {"slide": [f"s{i}" for i in range(N)], "plain": rng.standard_normal(N)}
    table = pd.DataFrame({**columns, "tail": rng.lognormal(sigma=2, size=N), "site": "text"})
    result = import_table(save(table, tmp_path / "t.csv"), "x", tmp_path / "out")
    report = pd.read_csv(tmp_path / "out" / "columns.csv").set_index("column")["heavy_tail"]
    assert report.to_dict() == {"slide": False, "plain": False, "tail": True, "site": False}
    lines = [note for note in result.notes if note.startswith("heavy tails")]
    assert len(lines) == 1
    assert "1 column (tail), whose 1 % or 99 % quantile is over 5 interquartile" in lines[0]
    features = read_features(tmp_path / "out" / "s0.h5").features
    np.testing.assert_allclose(features, table.loc[[0], ["plain", "tail"]], rtol=1e-6)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.zip", "t.parquet"])
def test_numbers_of_every_type_are_features_and_text_is_not(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame(
        {
            "slide": ["s", "t", "u"],
            "count": [1, 2, 3],
            "count_missing": pd.array([4, None, 6], dtype="Int64"),
            "flag": [True, False, True],
            "flag_missing": pd.array([True, None, False], dtype="boolean"),
            "half": np.array([0.5, 0.25, 1], dtype=np.float16),
            "stage": ["I", None, "II"],
            "organ": pd.Categorical(["colon", "colon", "breast"]),
        }
    )
    import_table(save(table, tmp_path / name), "x", tmp_path / "out")
    names = ("count", "count_missing", "flag", "flag_missing", "half")
    assert read_feature_names(tmp_path / "out" / "t.h5") == names
    rows = [read_features(tmp_path / "out" / f"{slide}.h5").features[0] for slide in "stu"]
    nan = np.nan
    expected = [[1, 4, 1, 1, 0.5], [2, nan, 0, nan, 0.25], [3, 6, 1, 0, 1]]
    np.testing.assert_array_equal(rows, expected)
    report = pd.read_csv(tmp_path / "out" / "columns.csv").set_index("column")
    assert report.index[report["role"] == "left out"].tolist() == ["stage", "organ"]
    assert report.loc[["count_missing", "flag_missing", "stage"], "missing"].tolist() == [1, 1, 1]
