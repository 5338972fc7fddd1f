"""The her2st reader joins counts and positions, and measures the resolution."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.raw_section import RawSection
from tcgn_mil.preprocessing.sections.readers.her2st import find_section_files, read_section

MakeHer2st = Callable[..., Path]


def read_one(
    root: Path, section: str = "A1", *, spot_pitch_um: float = 40.0, mpp: float | None = None
) -> RawSection:
    return read_section(
        find_section_files(root, [section])[0], spot_pitch_um=spot_pitch_um, mpp=mpp
    )


def edit(
    path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], *, index: bool = False
) -> None:
    table = pd.read_csv(path, sep="\t", index_col=0 if index else None)
    change(table).to_csv(path, sep="\t", index=index)


def edit_counts(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    edit(root / "ST-cnts" / "A1.tsv.gz", change, index=True)


def edit_positions(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    edit(root / "ST-spotfiles" / "A1_selection.tsv", change)


def put(row: object, column: object, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


def test_counts_and_positions_join_on_rounded_array_positions(make_her2st: MakeHer2st) -> None:
    raw = read_one(make_her2st("A1"))
    assert raw.counts.shape == (29, 8)
    counts = pd.read_csv(make_her2st("A1") / "ST-cnts" / "A1.tsv.gz", sep="\t", index_col=0)
    assert np.array_equal(raw.counts.toarray(), counts.loc[raw.spots])
    assert raw.positions.loc["3x4", ["x", "y", "pixel_x", "pixel_y"]].tolist() == [3, 4, 123, 158]
    assert raw.dropped == [("9x9", "no position in the spot file"), ("2x2", "no counts")]
    assert raw.patient == "A"


def test_resolution_is_the_pitch_over_the_step(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    assert read_one(root).mpp == pytest.approx(1.0, rel=0.01)
    assert read_one(root, spot_pitch_um=20.0).mpp == pytest.approx(0.5, rel=0.01)


def test_resolution_is_fitted_on_measured_positions(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")

    def displace(table: pd.DataFrame) -> pd.DataFrame:
        shift = 0.08 * (
            table["x"].round() - 3.5
        )  # a fit on nominal positions would give 8 % too fine a resolution
        return table.assign(
            new_x=table["new_x"] + shift, pixel_x=(table["pixel_x"] + 40 * shift).round(2)
        )

    edit_positions(root, displace)
    assert read_one(root).mpp == pytest.approx(1.0, rel=1e-3)
    edit_positions(root, lambda table: table.assign(new_x=table["new_x"].mask(table.index == 4)))
    with pytest.raises(
        InputError, match=r"px apart along x"
    ):  # on nominal positions, which the axes contradict
        read_one(root)


def test_without_measured_positions_the_nominal_ones_serve(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    edit_positions(root, lambda table: table.drop(columns=["new_x", "new_y"]))
    assert read_one(root).mpp == pytest.approx(1.0, rel=0.01)
    assert read_one(root, "A1").positions["array_x"].tolist()[:2] == pytest.approx([1.02, 2.0])


def test_a_given_resolution_is_used_unless_the_spots_contradict_it(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    assert read_one(root, mpp=1.03).mpp == 1.03
    with pytest.raises(
        InputError, match=r"A1_selection.tsv: .*40 µm apart, give 1.*but 1.1 is stated.* Fix: "
    ):
        read_one(root, mpp=1.1)


def test_a_single_row_of_spots_needs_a_given_resolution(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    edit_positions(root, lambda table: table[table["y"] == 1])
    with pytest.raises(InputError, match="all spots share one y"):
        read_one(root)
    assert read_one(root, mpp=0.5).mpp == 0.5


def test_unselected_spots_are_left_out_and_listed(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    edit_positions(root, put(0, "selected", 0))
    raw = read_one(root)
    assert "1x1" not in raw.spots
    assert ("1x1", "not selected") in raw.dropped


def test_swapped_pixel_columns_are_refused(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    edit_positions(
        root, lambda table: table.rename(columns={"pixel_x": "pixel_y", "pixel_y": "pixel_x"})
    )
    with pytest.raises(InputError, match="pixel_x is the column"):
        read_one(root)


def test_ids_that_meet_no_counts_name_both_sides(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    edit_counts(root, lambda table: table.set_axis([f"spot{i}" for i in range(len(table))]))
    with pytest.raises(
        InputError, match=r"A1_selection.tsv: none of its 30 spots has counts.*1x1.*spot0, spot1"
    ):
        read_one(root)


def test_genes_are_named_by_the_stated_rules_and_repeats_summed(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    before = read_one(root)
    assert before.genes.note() is None
    names = {"GENE3": "GENE5", "GENE0": "HLA_A", "GENE1": "ENSG00000141510.17"}
    edit_counts(root, lambda table: table.rename(columns=names))
    after = read_one(root)
    assert after.genes.names == (
        "HLA-A",
        "ENSG00000141510",
        "GENE2",
        "GENE5",
        "GENE4",
        "GENE6",
        "GENE7",
    )
    assert after.genes.ids == (
        "HLA_A",
        "ENSG00000141510.17",
        "GENE2",
        "GENE5;GENE5",
        "GENE4",
        "GENE6",
        "GENE7",
    )
    both = before.counts[:, [3, 5]].sum(axis=1)
    assert np.array_equal(after.counts[:, 3].toarray(), both)
    assert (after.genes.report.merged, after.genes.report.versions, after.genes.report.renamed) == (
        1,
        1,
        1,
    )
    assert "1 ids merged with another of the same name" in str(after.genes.note())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("many", "'many' is not a count"),
        (1.5, "1.5 is not a count"),
        (-2, "-2 is not a count"),
        (None, "nan"),
    ],
)
def test_values_that_are_no_counts_name_gene_and_spot(
    make_her2st: MakeHer2st, value: object, shown: str
) -> None:
    root = make_her2st("A1")
    edit_counts(root, put("4x2", "GENE6", value))
    with pytest.raises(InputError, match=r"gene GENE6, spot 4x2") as caught:
        read_one(root)
    assert shown in str(caught.value)


def test_repeated_spots_are_refused_on_both_sides(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    edit_positions(root, put(1, "x", 1.2))
    with pytest.raises(InputError, match="places spot 1x1 more than once"):
        read_one(root)
    edit_positions(root, put(1, "x", 2))
    edit_counts(root, lambda table: table.rename({"3x1": "4x1"}))
    with pytest.raises(InputError, match="names spot 4x1 more than once"):
        read_one(root)


def test_positions_need_their_columns_and_numbers(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    edit_positions(root, put(3, "pixel_y", "left"))
    with pytest.raises(InputError, match="line 5 has no number for a position"):
        read_one(root)
    edit_positions(root, lambda table: table.drop(columns="pixel_y"))
    with pytest.raises(InputError, match="has no column pixel_y"):
        read_one(root)


def test_a_truncated_table_is_named(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    path = root / "ST-cnts" / "A1.tsv.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"A1.tsv.gz: cannot be read as a table"):
        read_one(root)


def test_byte_order_mark_and_crlf_change_nothing(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1")
    expected = read_one(root)
    path = root / "ST-spotfiles" / "A1_selection.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    counts = root / "ST-cnts" / "A1.tsv.gz"
    counts.write_bytes(gzip.compress(gzip.decompress(counts.read_bytes()).replace(b"\n", b"\r\n")))
    found = read_one(root)
    assert np.array_equal(found.counts.toarray(), expected.counts.toarray())
    assert found.genes == expected.genes
    pd.testing.assert_frame_equal(found.positions, expected.positions)


def test_sections_are_chosen_and_only_those_must_be_whole(make_her2st: MakeHer2st) -> None:
    root = make_her2st("A1", "B2")
    next((root / "ST-imgs" / "B" / "B2").glob("*.png")).unlink()
    (root / "ST-cnts" / "._A1.tsv.gz").write_bytes(b"macOS")
    assert [files.section for files in find_section_files(root, ["A1"])] == ["A1"]
    with pytest.raises(InputError, match=r"B2: section B2 needs one image, found 0"):
        find_section_files(root)
    with pytest.raises(InputError, match=r"has no section C9.*its sections A1, B2"):
        find_section_files(root, ["C9"])


def test_missing_parts_name_what_is_missing(make_her2st: MakeHer2st, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no ST-cnts"):
        find_section_files(tmp_path / "nowhere")
    root = make_her2st("A1")
    (root / "ST-spotfiles" / "A1_selection.tsv").unlink()
    with pytest.raises(InputError, match=r"A1_selection.tsv: section A1 has no spot file"):
        find_section_files(root)


@pytest.mark.realdata
def test_section_c5_is_read_as_published(real_data: Path) -> None:
    raw = read_section(find_section_files(real_data / "her2st", ["C5"])[0])
    assert raw.counts.shape == (181, 15721)
    assert raw.mpp == pytest.approx(0.687, rel=0.003)  # by the array printed on the glass
    assert np.median(raw.totals()) == pytest.approx(10015, abs=1)
    assert raw.dropped == [("13x9", "no counts"), ("18x20", "no counts")]
