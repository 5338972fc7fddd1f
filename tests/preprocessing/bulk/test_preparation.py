"""Slides of the preparation that was asked for, fixed or frozen, are joined."""

from __future__ import annotations

from pathlib import Path

import pytest
from joined_tables import SLIDE_A, SLIDE_B, A, B, entry, report, table

from tcgn_mil.errors import InputError
from tcgn_mil.io.cohort_file import cohort_meta, read_cohort
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.run import write_cohort


class TestPreparation:
    ROWS = ((f"{A}-01A", [1, 2, 3]), (f"{B}-01A", [4, 5, 6]))
    SLIDES = (SLIDE_A, f"{A}-01A-01-BS1", SLIDE_B, "TCGA-BB-0002_scan")

    @pytest.mark.parametrize(
        ("preparation", "kept"),
        [
            ("any", SLIDES),
            ("diagnostic", (SLIDE_A,)),
            ("frozen", (f"{A}-01A-01-BS1", SLIDE_B)),
        ],
    )
    def test_slides_of_the_preparation_asked_for(
        self, tmp_path: Path, preparation: str, kept: tuple[str, ...]
    ) -> None:
        write_cohort(
            [table(tmp_path, self.ROWS)],
            [entry(name) for name in self.SLIDES],
            tmp_path / "cohort.h5ad",
            BulkConfig(unit="fpkm", preparation=preparation),
        )
        found = report(tmp_path)
        assert tuple(name for name in self.SLIDES if found[f"slide {name}"]["kept"]) == kept
        assert cohort_meta(read_cohort(tmp_path / "cohort.h5ad"))["preparation"] == preparation
        if preparation == "diagnostic":
            assert found[f"slide {SLIDE_B}"]["reason"] == "a frozen slide"
            assert (
                found["slide TCGA-BB-0002_scan"]["reason"]
                == "its name says neither diagnostic nor frozen"
            )
            reason = "no slide of this patient is of the preparation asked for"
            assert found[f"sample {B}-01A"]["reason"] == reason

    def test_an_unknown_one_names_the_known(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"unknown preparation 'ffpe'.*any, diagnostic, frozen"
        ):
            write_cohort(
                [table(tmp_path, self.ROWS)],
                [entry(SLIDE_A)],
                tmp_path / "cohort.h5ad",
                BulkConfig(unit="fpkm", preparation="ffpe"),
            )
