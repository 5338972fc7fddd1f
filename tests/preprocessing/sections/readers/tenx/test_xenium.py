"""Xenium folders: cells are placed by the alignment, and its scale is that of the H&E image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from tenx_outputs import paint_tissue, write_xenium

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections import writer as section_writer
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.raw_section import RawSection, ReadSettings
from tcgn_mil.preprocessing.sections.readers.tenx import xenium_counts
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import detect_format, find_section_sources
from tcgn_mil.types.tile_geometry import PatchSize

PIXEL_UM, HE_MPP = 0.2125, 0.425
PATCH = PatchSize(32, 2.0)  # 64 µm
RNG = np.random.default_rng(0)
HE_PX = RNG.uniform(120, 580, (300, 2))  # where the cells are in the H&E image
COUNTS = RNG.poisson(3, (300, 3))


def turned(angle: float = np.pi / 2) -> NDArray[np.float64]:
    """Alignment of an H&E image that is turned and has pixels of twice the size."""
    sine, cosine = (HE_MPP / PIXEL_UM) * np.sin(angle), (HE_MPP / PIXEL_UM) * np.cos(angle)
    return np.array([[cosine, -sine, 1500.0], [sine, cosine, 80.0], [0, 0, 1]])


def folder(root: Path, matrix: NDArray[np.float64] | None) -> Path:
    known = turned() if matrix is None else matrix
    morphology_px = HE_PX @ known[:2, :2].T + known[:2, 2]
    return write_xenium(root, morphology_px * PIXEL_UM, COUNTS, paint_tissue(700, 700), matrix)


def read(source: Path, **settings: object) -> RawSection:
    (section,) = find_section_sources(source)
    assert all(path.is_file() for path in section.files())
    return section.read(ReadSettings(PATCH, **settings))  # type: ignore[arg-type]


def test_cells_are_summed_over_squares_of_the_turned_image(tmp_path: Path) -> None:
    source = folder(tmp_path / "S1" / "outs", turned())
    assert detect_format(source) == detect_format(tmp_path) == "xenium"
    raw = read(source)
    assert (raw.section, raw.mpp) == ("S1", pytest.approx(HE_MPP))
    assert raw.genes.names == ("TP53", "ERBB2")  # the control probe is left out
    squares = np.floor(HE_PX * HE_MPP / PATCH.um).astype(int)
    for (x, y), (pixel_x, pixel_y), counts in zip(
        raw.positions[["x", "y"]].to_numpy(), raw.centres(), raw.counts.toarray(), strict=True
    ):
        inside = (squares == (x, y)).all(axis=1)
        assert np.array_equal(counts, COUNTS[inside][:, :2].sum(axis=0))
        assert (pixel_x, pixel_y) == pytest.approx(
            tuple((np.array([x, y]) + 0.5) * PATCH.um / HE_MPP)
        )
    assert raw.counts.sum() == COUNTS[:, :2].sum()
    assert raw.warnings[0].startswith("300 cells were summed over")


def test_a_section_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        section_writer, "write_overlay", lambda path, *args, **kwargs: path.write_bytes(b"picture")
    )
    source = folder(tmp_path / "S1", turned())
    done, failures, notes = write_spots(source, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert (done, failures) == (["S1"], [])
    assert not [note for note in notes if "scale of spots" in note]


@pytest.mark.parametrize(
    ("matrix", "reason", "advice"),
    [
        (None, "has no alignment file of its own", "S1_he_imagealignment.csv"),
        (np.diag([2.0, 3.0, 1.0]), "stretches the image", "align the image again"),
        (np.diag([2.0, 2.0, 5.0]), "holds no 3 x 3 matrix", "download the matrix"),
        (np.diag([0.0, 0.0, 1.0]), "holds no 3 x 3 matrix", "download the matrix"),
    ],
)
def test_without_a_sound_alignment_nothing_is_guessed(
    tmp_path: Path, matrix: NDArray[np.float64] | None, reason: str, advice: str
) -> None:
    source = folder(tmp_path / "S1", matrix)
    (section,) = find_section_sources(source)
    with pytest.raises(InputError, match=reason) as caught:
        section.read(ReadSettings(PATCH))
    assert advice in str(caught.value.fix)


def test_a_stated_resolution_that_the_alignment_contradicts_is_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "S1", turned())
    with pytest.raises(InputError, match=r"imagealignment.csv give 0.425 µm/px, but 0.25"):
        read(source, mpp=0.25)


def test_missing_files_are_named(tmp_path: Path) -> None:
    source = folder(tmp_path / "S1", turned())
    (source / "cells.parquet").unlink()
    (section,) = find_section_sources(source)
    with pytest.raises(InputError, match=r"has no cells.parquet"):
        section.files()


def with_transcripts(source: Path, *, parquet: bool = True) -> pd.DataFrame:
    """Add a table of transcripts within the H&E image, with control probes and poor ones."""
    number = 4000
    pixels = RNG.uniform(120, 580, (number, 2))
    known = turned()
    places = (pixels @ known[:2, :2].T + known[:2, 2]) * PIXEL_UM
    table = pd.DataFrame(
        {
            "feature_name": RNG.choice(["TP53", "ERBB2", "NegControlProbe_1"], number),
            "x_location": places[:, 0],
            "y_location": places[:, 1],
            "qv": RNG.choice([12.0, 20.0, 40.0], number),
            "overlaps_nucleus": RNG.integers(0, 2, number),
        }
    )
    if parquet:
        # Older instruments wrote names as bytes.
        table.assign(feature_name=table["feature_name"].str.encode("utf-8")).to_parquet(
            source / "transcripts.parquet"
        )
    else:
        table.to_csv(source / "transcripts.csv.gz", index=False)
    return table.assign(
        square=[tuple(row) for row in np.floor(pixels * HE_MPP / PATCH.um).astype(int).tolist()]
    )


@pytest.mark.parametrize(("pool_from", "parquet"), [("transcripts", True), ("nuclei", False)])
def test_transcripts_are_summed_over_squares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool_from: str, parquet: bool
) -> None:
    monkeypatch.setattr(xenium_counts, "_PIECE", 1000)  # so that squares are in several pieces
    source = folder(tmp_path / "S1", turned())
    table = with_transcripts(source, parquet=parquet)
    raw = read(source, pool_from=pool_from)
    fine = (table["qv"] >= 20) & table["feature_name"].isin(raw.genes.names)
    if pool_from == "nuclei":
        fine &= table["overlaps_nucleus"] == 1
    expected = table[fine].groupby(["square", "feature_name"]).size()
    places = [tuple(place) for place in raw.positions[["x", "y"]].to_numpy().tolist()]
    counts = pd.DataFrame(raw.counts.toarray(), columns=raw.genes.names, index=places).stack()
    counts = counts[counts > 0]
    assert {key: int(count) for key, count in counts.items()} == expected.to_dict()
    assert raw.warnings[0].startswith(f"{int(fine.sum())} of {len(table)} transcripts were summed")
    assert "of a quality below 20" in raw.warnings[0]
    assert "of control probes" in raw.warnings[0]
    assert ("outside of nuclei" in raw.warnings[0]) == (pool_from == "nuclei")


def test_transcripts_that_are_missing_or_of_another_run_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "S1", turned())
    with pytest.raises(InputError, match=r"has no transcripts.parquet, from which nuclei"):
        read(source, pool_from="nuclei")
    table = with_transcripts(source).drop(columns="square")
    table.assign(feature_name="OTHER").to_parquet(source / "transcripts.parquet")
    with pytest.raises(InputError, match=r"none of its 4000 transcripts is of the 2 genes"):
        read(source, pool_from="transcripts")
    table.drop(columns="qv").to_parquet(source / "transcripts.parquet")
    with pytest.raises(InputError, match=r"transcripts.parquet: has no column qv"):
        read(source, pool_from="transcripts")
