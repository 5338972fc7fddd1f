"""cohort.h5ad is read if it was made by this package, and refused otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.cohort_file import KIND, cohort_meta, cohort_unit, read_cohort, slides_of


def write(path: Path, uns: dict) -> Path:
    cohort = anndata.AnnData(
        np.ones((2, 3), dtype=np.float32),
        obs=pd.DataFrame(index=["P1", "P2"]),
        var=pd.DataFrame(index=list("ABC")),
    )
    cohort.uns.update(uns)
    cohort.write_h5ad(path)
    return path


def good() -> dict:
    slides = pd.DataFrame({"slide_id": ["s1", "s2"], "patient_id": ["P1", "P2"]})
    return {"slides": slides, "tcgn_mil": json.dumps({"kind": KIND, "unit": "log2(tpm+1)"})}


def test_a_cohort_states_its_unit_and_slides(tmp_path: Path) -> None:
    cohort = read_cohort(write(tmp_path / "cohort.h5ad", good()))
    assert str(cohort_unit(cohort)) == "log2(tpm+1)"
    assert cohort_meta(cohort)["kind"] == KIND
    assert slides_of(cohort).to_numpy().tolist() == [["s1", "P1"], ["s2", "P2"]]


@pytest.mark.parametrize(
    "change",
    [
        {"tcgn_mil": json.dumps({"kind": "other"})},
        {"tcgn_mil": "no JSON"},
        {"tcgn_mil": "[1]"},
        {"tcgn_mil": None},
        {"slides": None},
    ],
)
def test_other_h5ad_files_are_refused(tmp_path: Path, change: dict) -> None:
    uns = {key: value for key, value in {**good(), **change}.items() if value is not None}
    with pytest.raises(
        InputError,
        match=r"cohort.h5ad: is not a cohort of this package. Fix: make it with tcgn-mil bulk",
    ):
        read_cohort(write(tmp_path / "cohort.h5ad", uns))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.uns.update(tcgn_mil=json.dumps({"kind": KIND})), "does not state its unit"),
        (
            lambda c: c.uns.update(slides=pd.DataFrame({"slide_id": ["s1"]})),
            "its table of slides has no column patient_id",
        ),
        (lambda c: setattr(c, "obs_names", ["P1", "P1"]), "names patient P1 more than once"),
        (lambda c: setattr(c, "var_names", ["A", "B", "A"]), "names gene A more than once"),
        (lambda c: setattr(c, "X", sparse.csr_matrix(c.X)), "not a dense float32 matrix"),
        (lambda c: setattr(c, "X", c.X.astype(np.float64)), "not a dense float32 matrix"),
    ],
)
def test_a_cohort_that_was_changed_for_the_worse_is_refused(
    tmp_path: Path, change: Callable[[anndata.AnnData], object], message: str
) -> None:
    path = write(tmp_path / "cohort.h5ad", good())
    cohort = anndata.read_h5ad(path)
    change(cohort)
    cohort.write_h5ad(path)
    with pytest.raises(InputError, match=rf"cohort.h5ad: .*{message}.* Fix: "):
        read_cohort(path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such cohort"):
        read_cohort(tmp_path / "cohort.h5ad")
    path = write(tmp_path / "cohort.h5ad", good())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cohort.h5ad: cannot be read as AnnData"):
        read_cohort(path)
