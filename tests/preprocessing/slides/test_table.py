"""Tests of collecting slides from files, folders, and tables as spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.table import find_slides

TCGA_NAME = "TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB-45CF-B4BD-C6B76294C291"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def table(folder: Path, text: str | bytes, name: str = "slides.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class TestFilesAndFolders:
    def test_one_slide(self, tmp_path: Path) -> None:
        touch(tmp_path, f"{TCGA_NAME}.svs")
        (entry,) = find_slides(tmp_path / f"{TCGA_NAME}.svs", mpp=0.25)
        assert (entry.slide_id, entry.patient_id) == (TCGA_NAME, "TCGA-3C-AALI")
        assert (entry.mpp, entry.fallback_mpp) == (0.25, None)

    def test_a_plain_name_is_its_own_patient(self, tmp_path: Path) -> None:
        touch(tmp_path, "B4.ome.tiff")
        (entry,) = find_slides(tmp_path)
        assert (entry.slide_id, entry.patient_id) == ("B4", "B4")

    def test_a_folder_lists_slides_sorted_and_leaves_out_the_rest(self, tmp_path: Path) -> None:
        touch(tmp_path, "b.svs", "a.PNG", "notes.txt", ".hidden.svs", "deeper/c.svs")
        entries = find_slides(tmp_path, mpp=0.5)
        assert [entry.slide_id for entry in entries] == ["a", "b"]
        assert {(entry.mpp, entry.fallback_mpp) for entry in entries} == {(None, 0.5)}

    def test_subfolders_count_where_the_folder_itself_has_none(self, tmp_path: Path) -> None:
        touch(tmp_path, "uuid-1/a.svs", "uuid-2/b.svs", "uuid-2/logs/b.parcel", ".cache/c.svs")
        assert [entry.slide_id for entry in find_slides(tmp_path)] == ["a", "b"]

    def test_an_empty_folder_and_a_missing_source_are_errors(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no slide"):
            find_slides(tmp_path)
        with pytest.raises(InputError, match="no such slide, folder or table"):
            find_slides(tmp_path / "gone")
        with pytest.raises(InputError, match="no such table"):
            find_slides(tmp_path / "gone.csv")

    def test_two_slides_with_one_id_are_named(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.svs", "a.tiff")
        with pytest.raises(InputError, match=r"share the id a \(.*a\.svs, .*a\.tiff\).*slide_id"):
            find_slides(tmp_path)

    @pytest.mark.parametrize("mpp", [0, -0.5, 50, float("nan")])
    def test_an_implausible_option_is_refused_at_once(self, tmp_path: Path, mpp: float) -> None:
        touch(tmp_path, "a.svs")
        with pytest.raises(InputError, match="--mpp"):
            find_slides(tmp_path, mpp=mpp)


class TestTables:
    def test_all_columns(self, tmp_path: Path) -> None:
        source = table(
            tmp_path, "slide_id,patient_id,path,mpp,site\ns1,p1,a.svs,0.5,3C\ns2,p1,sub/b.svs,,\n"
        )
        first, second = find_slides(source, mpp=0.25)
        assert (first.slide_id, first.patient_id, first.path) == ("s1", "p1", tmp_path / "a.svs")
        assert (first.mpp, first.fallback_mpp, first.site) == (0.5, 0.25, "3C")
        assert (second.mpp, second.fallback_mpp, second.site) == (None, 0.25, None)
        assert second.path == tmp_path / "sub" / "b.svs"

    def test_patients_are_read_as_in_other_tables(self, tmp_path: Path) -> None:
        (tmp_path / "a.svs").touch()
        table = tmp_path / "slides.csv"
        table.write_text("path,patient_id\na.svs,tcga.aa.3506.01z\n")
        assert find_slides(table)[0].patient_id == "TCGA-AA-3506"

    def test_path_alone_is_enough(self, tmp_path: Path) -> None:
        (entry,) = find_slides(table(tmp_path, f"path\n{TCGA_NAME}.svs\n"))
        assert (entry.slide_id, entry.patient_id) == (TCGA_NAME, "TCGA-3C-AALI")

    @pytest.mark.parametrize(
        "text",
        [
            # As Excel writes it, with blank lines at the end.
            "\ufeffpath,patient_id\r\na.svs,Müller\r\n\r\n,\r\n".encode(),
            "path\tpatient_id\na.svs\tMüller".encode(),
            "path;patient_id\na.svs;Müller\n".encode(),
            ' Path , PATIENT_ID \n "a.svs",  Müller \n'.replace(' "', '"').encode(),
        ],
    )
    def test_spreadsheet_dialects(self, tmp_path: Path, text: bytes) -> None:
        (entry,) = find_slides(table(tmp_path, text))
        assert (entry.slide_id, entry.patient_id) == ("a", "Müller")

    def test_a_quoted_comma_stays_in_its_cell(self, tmp_path: Path) -> None:
        (entry,) = find_slides(table(tmp_path, 'path,patient_id\n"a, left.svs","Doe, J"\n'))
        assert (entry.slide_id, entry.patient_id) == ("a, left", "Doe, J")

    def test_an_absolute_path_is_taken_as_given(self, tmp_path: Path) -> None:
        (entry,) = find_slides(table(tmp_path, "path\n/archive/a.svs\n"))
        assert entry.path == Path("/archive/a.svs")

    @pytest.mark.parametrize("cell", ["../a.svs", "sub/../../a.svs", ".."])
    def test_a_relative_path_may_not_leave_the_folder(self, tmp_path: Path, cell: str) -> None:
        with pytest.raises(
            InputError, match=r"slides\.csv: slides table, column path, row 2: .* leads out"
        ):
            find_slides(table(tmp_path, f"path\n{cell}\n"))

    def test_a_detour_inside_the_folder_is_fine(self, tmp_path: Path) -> None:
        (entry,) = find_slides(table(tmp_path, "path\nsub/../a.svs\n"))
        assert entry.slide_id == "a"

    @pytest.mark.parametrize("slide_id", ["../evil", "a/b", ".hidden"])
    def test_an_id_must_be_a_file_name(self, tmp_path: Path, slide_id: str) -> None:
        with pytest.raises(InputError, match="cannot be a file name"):
            find_slides(table(tmp_path, f"slide_id,path\n{slide_id},a.svs\n"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "holds no rows below a header"),
            (
                "slide,file\na,a.svs\n",
                "is not a slides table: it has no column path; its columns are slide, file",
            ),
            ("path,path\na.svs,b.svs\n", "has column path more than once"),
            ("path\n", "holds no rows below a header"),
            ("path,mpp\na.svs,0.5\n,0.5\n", "column path, row 3: '' is blank"),
            (
                "path,mpp\na.svs,fine\n",
                "column mpp, row 2: 'fine' is not a resolution in µm per pixel",
            ),
            ("path,mpp\na.svs,nan\n", "column mpp, row 2: 'nan' is not a resolution"),
            (
                "path,mpp\na.svs,0\nb.svs,0\n",
                "column mpp, row 2: '0' is not a resolution.*, and 1 other cell too",
            ),
            ("path,mpp\na.svs,50\n", "column mpp, row 2: '50' is not a resolution"),
            ("path,mpp\nleft, a.svs,0.5\n", "line 2 has 3 cells under 2 columns"),
            ('path\n"a.svs\n', "cannot be read as a table"),
            ("slide_id,path\na,a.svs\na,b.svs\n", "share the id a"),
        ],
    )
    def test_what_is_wrong_is_said_with_file_and_line(
        self, tmp_path: Path, text: str, message: str
    ) -> None:
        with pytest.raises(InputError, match=message) as caught:
            find_slides(table(tmp_path, text))
        assert "slides.csv" in str(caught.value)

    def test_latin1_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot be read as a table.*UTF-8"):
            find_slides(table(tmp_path, "path\nMüller.svs\n".encode("latin-1")))


@pytest.mark.realdata
def test_the_tcga_regions_are_26_slides_of_26_patients(real_data: Path) -> None:
    entries = find_slides(real_data / "tcga_tiles", mpp=0.25)
    assert len(entries) == len({entry.patient_id for entry in entries}) == 26
    assert all(len(entry.patient_id) == 12 for entry in entries)
