"""Properties that the join of any samples and slides has."""

from __future__ import annotations

from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joined_tables import SLIDE_A, A, B, entry

from tcgn_mil.preprocessing.bulk.patient_join import JoinRow, join_patients
from tcgn_mil.preprocessing.bulk.run import average_by_patient
from tcgn_mil.preprocessing.bulk.specimens import sample_specimens, slide_specimens
from tcgn_mil.tcga_barcodes import parse_barcode

TCGA = st.sampled_from([A, B])
SLIDE = st.one_of(
    st.builds(
        str.__add__,
        TCGA,
        st.sampled_from(["-01Z-00-DX1", "-01A-01-TS1", "-06A-01-TS1", "-11A-01-BS1", "_scan"]),
    ),
    st.just("own"),
)
SAMPLE = st.tuples(
    st.one_of(
        st.builds(str.__add__, TCGA, st.sampled_from(["", "-01A", "-01B", "-06A", "-11A"])),
        st.just("own"),
    ),
    st.integers(0, 3),
)
SLIDES, SAMPLES = st.lists(SLIDE, unique=True, max_size=6), st.lists(SAMPLE, max_size=8)
Named = list[tuple[str, int]]


class TestAnyJoin:
    @staticmethod
    def of(slides: list[str], samples: Named) -> tuple[list[JoinRow], list[JoinRow]]:
        return join_patients(
            slide_specimens([entry(name) for name in slides]),
            sample_specimens(
                [name for name, _ in samples], [bytes([value]) for _, value in samples]
            ),
        )

    @staticmethod
    def profiles(rows: list[JoinRow], samples: Named) -> dict[str, list[int]]:
        """Values of the kept samples, by patient."""
        kept = [
            (row.patient_id, value)
            for row, (_, value) in zip(rows, samples, strict=True)
            if row.kept
        ]
        return {
            patient: sorted(value for one, value in kept if one == patient) for patient, _ in kept
        }

    @given(SLIDES, SAMPLES)
    @example([SLIDE_A, f"{A}-06A-01-TS1"], [(A, 0)])
    @example([f"{A}-06A-01-TS1", f"{A}_s"], [(A, 0), (f"{A}-01A", 1)])
    def test_every_slide_and_sample_is_reported_once_and_kept_with_its_like(
        self, slides: list[str], samples: Named
    ) -> None:
        slide_rows, sample_rows = self.of(slides, samples)
        assert [row.id for row in slide_rows] == slides
        assert [row.id for row in sample_rows] == [name for name, _ in samples]
        assert all(row.kept or row.reason for row in (*slide_rows, *sample_rows))
        kept = [row for row in (*slide_rows, *sample_rows) if row.kept]
        assert {row.patient_id for row in slide_rows if row.kept} == {
            row.patient_id for row in sample_rows if row.kept
        }
        assert not any("-11A" in row.id for row in kept)
        for patient in {row.patient_id for row in kept}:
            types = {
                parse_barcode(row.id).sample_type
                for row in kept
                if row.patient_id == patient != "own"
            }
            assert len(types - {None}) <= 1

    @given(SLIDES, SAMPLES, st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, slides: list[str], samples: Named, random: Random) -> None:
        shuffled, mixed = random.sample(slides, len(slides)), random.sample(samples, len(samples))
        (slide_rows, sample_rows), (other_slides, other_samples) = (
            self.of(slides, samples),
            self.of(shuffled, mixed),
        )
        assert set(slide_rows) == set(other_slides)
        assert self.profiles(sample_rows, samples) == self.profiles(other_samples, mixed)

    @given(SLIDES, SAMPLES, TCGA)
    def test_normal_tissue_changes_nothing(
        self, slides: list[str], samples: Named, patient: str
    ) -> None:
        more = [*samples, (f"{patient}-11A", 9)]
        assert self.profiles(self.of(slides, samples)[1], samples) == self.profiles(
            self.of(slides, more)[1], more
        )


VALUE = st.one_of(st.floats(-100, 1e4, width=32), st.just(float("nan")))


@given(
    st.lists(st.tuples(st.sampled_from("PQR"), VALUE, VALUE), min_size=1, max_size=9), st.randoms()
)
def test_a_patient_is_the_mean_of_its_known_replicates(
    rows: list[tuple[str, float, float]], random: Random
) -> None:
    def average(rows: list[tuple[str, float, float]]) -> pd.DataFrame:
        values = pd.DataFrame([row[1:] for row in rows], columns=["A", "B"], dtype=np.float32)
        return average_by_patient(values, np.array([row[0] for row in rows]))

    found = average(rows)
    assert found.index.tolist() == sorted({row[0] for row in rows})
    for patient in found.index:
        for position, gene in enumerate("AB", start=1):
            known = [
                row[position] for row in rows if row[0] == patient and not np.isnan(row[position])
            ]
            expected = sum(known) / len(known) if known else np.nan
            assert found.loc[patient, gene] == pytest.approx(
                expected, rel=1e-5, abs=1e-3, nan_ok=True
            )
    pd.testing.assert_frame_equal(
        average(random.sample(rows, len(rows))), found, rtol=1e-5, atol=1e-3
    )
