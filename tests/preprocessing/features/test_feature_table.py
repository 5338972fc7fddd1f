"""import-features of a table: bags of one tile, what is lost, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import read_features
from tcgn_mil.preprocessing.features.feature_table import import_table
from tcgn_mil.preprocessing.slides.names import slide_facts
from tcgn_mil.types.features import UNKNOWN

NAMES = [f"TCGA-AA-000{i}-01Z-00-DX1" for i in range(3)]


def table(path: Path, names: list[str], values: object) -> Path:
    pd.DataFrame(values, index=pd.Index(names, name="slide"), columns=["area", "axis"]).to_csv(path)
    return path


def test_a_row_becomes_a_bag_of_one_tile_and_a_bad_row_a_failure(tmp_path: Path) -> None:
    values = [[1.5, 2.0], [np.nan, 1.0], [3.0, 4.0]]
    source = table(tmp_path / "nuclei.csv", [f"{name}.svs" for name in NAMES], values)
    done, failures = import_table(source, slide_facts(None), "nuclei", tmp_path / "features")
    assert [info.slide_id for info in done] == [NAMES[0], NAMES[2]]
    assert [failure.slide for failure in failures] == [NAMES[1]]
    features, coords, info = read_features(tmp_path / "features" / f"{NAMES[2]}.h5")
    np.testing.assert_array_equal(features, [[3.0, 4.0]])
    np.testing.assert_array_equal(coords, [[-1, -1]])
    assert (info.patient_id, info.encoder, info.positions) == (
        "TCGA-AA-0002",
        "table:nuclei",
        UNKNOWN,
    )
    slides = pd.read_csv(tmp_path / "features" / "slides.csv")
    assert slides.to_dict("list") == {
        "slide_id": [NAMES[0], NAMES[2]],
        "patient_id": ["TCGA-AA-0000", "TCGA-AA-0002"],
    }


@pytest.mark.parametrize(
    ("names", "values", "encoder", "message"),
    [
        (NAMES, np.ones((3, 2)), None, "does not name what made"),
        (
            [NAMES[0]] * 2,
            np.ones((2, 2)),
            "x",
            "names slide TCGA-AA-0000-01Z-00-DX1 more than once",
        ),
        (NAMES[:1], [["big", 1.0]], "x", "columns area are not numbers"),
    ],
)
def test_tables_that_are_none_are_refused(
    tmp_path: Path, names: list[str], values: object, encoder: str | None, message: str
) -> None:
    source = table(tmp_path / "t.csv", names, values)
    with pytest.raises(InputError, match=message) as told:
        import_table(source, slide_facts(None), encoder, tmp_path / "out")
    assert told.value.fix
