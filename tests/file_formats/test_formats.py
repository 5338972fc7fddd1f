"""Each format is read in one place, and every damage is one line that names the file."""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats import archive
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.file_formats.image_file import open_picture
from tcgn_mil.file_formats.json_file import read_json, read_json_as
from tcgn_mil.file_formats.matrix_market import read_matrix_market
from tcgn_mil.file_formats.numpy_file import read_npy, read_npz
from tcgn_mil.file_formats.reading import describe_damage, reads
from tcgn_mil.file_formats.spreadsheet_cells import escape_cell, restore_cell
from tcgn_mil.file_formats.yaml_text import MAX_DEPTH, parse_yaml, read_yaml_file
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.tables.delimited import read_columns, read_text_columns


@dataclass(frozen=True)
class Written:
    """A schema of two keys."""

    name: str
    count: int = 0


class TestReading:
    @pytest.mark.parametrize(
        "error",
        [KeyError("a\nb"), RecursionError(), OSError(5, "Input/output error"), MemoryError()],
    )
    def test_every_error_names_the_file_in_one_line(self, error: Exception) -> None:
        with (
            pytest.raises(InputError) as caught,
            describe_damage("a.h5", what="a tile", fix="copy"),
        ):
            raise error
        text = str(caught.value)
        assert text.startswith("a.h5: cannot be read as a tile (")
        assert text.endswith("Fix: copy")
        assert len(text.splitlines()) == 1

    def test_an_own_error_keeps_its_words_and_gets_the_path(self) -> None:
        @reads("a tile", fix="copy it")
        def read(path: str, reason: str) -> None:
            raise InputError(reason)

        with pytest.raises(InputError, match=r"^b\.h5: has no coords\. Fix: copy it"):
            read("b.h5", "has no coords")

    def test_ctrl_c_is_no_damage(self) -> None:
        with pytest.raises(KeyboardInterrupt), describe_damage("a", what="a", fix="a"):
            raise KeyboardInterrupt


class TestJson:
    @pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"', "[" * 100_000, "\ud800"])
    def test_what_is_no_object_is_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "run.json"
        path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        with pytest.raises(InputError, match=r"run\.json: (is not|cannot be read as) a record"):
            read_json(path, what="a record", fix="make it again")

    def test_compressed_and_with_a_byte_order_mark(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json.gz"
        path.write_bytes(gzip.compress('{"a": 1}'.encode("utf-8-sig")))
        assert read_json(path, what="a", fix="b") == {"a": 1}

    def test_a_schema_names_the_key(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"name": "x", "count": "many", "later": 1}))
        with pytest.raises(InputError, match="its key 'count' is wrong"):
            read_json_as(Written, path, what="a", fix="b")
        path.write_text(json.dumps({"name": "x", "later": 1}))
        assert read_json_as(Written, path, what="a", fix="b") == Written("x")


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a: &x [1]\nb: *x", "line 2 holds an alias"),
            ("a: 1\nb:\n  c: 1\n  c: 2", "key c appears twice"),
            ("[" * (MAX_DEPTH + 1), "nested more than"),
            ("2026-13-45", "month must be in 1..12"),
            ("!!int x", "invalid literal"),
            ("!!timestamp x", "AttributeError"),
            ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
            ("a: [1", "expected"),
        ],
    )
    def test_what_does_harm_is_refused(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            parse_yaml(text)
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(InputError, match=r"a\.yaml: cannot be read as a config") as caught:
            read_yaml_file(tmp_path / "a.yaml", what="a config", fix="b")
        assert len(str(caught.value).splitlines()) == 1

    def test_plain_values_are_read(self) -> None:
        assert parse_yaml("a: [1, 2.5, yes, null]\nb: {c: d}") == {
            "a": [1, 2.5, True, None],
            "b": {"c": "d"},
        }

    def test_other_encodings_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_bytes("ä: 1".encode("latin-1"))
        with pytest.raises(InputError, match=r"a\.yaml: .*UnicodeDecodeError"):
            read_yaml_file(tmp_path / "a.yaml", what="a config", fix="b")


class TestOwnCsv:
    def test_missing_and_repeated_columns(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,a\n1,2\n")
        with pytest.raises(InputError, match="has column a more than once"):
            read_own_csv(tmp_path / "a.csv", what="a", fix="b")
        (tmp_path / "a.csv").write_text("a\n1\n")
        with pytest.raises(InputError, match="has no column b"):
            read_own_csv(tmp_path / "a.csv", what="a", fix="b", needs=("b",))


NAMES = ("=1+1", "@cmd", "+A1", "-2+3", "'=x", "''@y", "--", "-", "'quoted'", "GZMA", "\t=x")


class TestFormulas:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_name_is_the_same_again(self, name: str) -> None:
        written = str(escape_cell(name))
        assert restore_cell(written) == name
        assert written[0] not in "=+@\t"
        assert written[0] != "-" or not written.strip("-")

    def test_numbers_are_never_changed(self) -> None:
        assert [escape_cell(value) for value in (-1.5, "-1.5", "+2e-3", None)] == [
            -1.5, "-1.5", "+2e-3", None,
        ]  # fmt: skip

    def test_tables_are_written_safe_and_read_back_by_every_reader(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        names = [name for name in NAMES if "\t" not in name]
        table = pd.DataFrame({"gene": names, "=r": np.arange(len(names)) - 3.5})
        write_csv(path, table)
        lines = path.read_text().splitlines()
        assert lines[0] == "gene,'=r"
        assert not [line for line in lines if line[0] in "=@+"]
        own = read_own_csv(path, what="a", fix="b", keep_default_na=False)
        pd.testing.assert_frame_equal(own, table)
        assert list(read_text_columns(path)["gene"]) == names
        by_id = read_columns(path, [1], ids=0)
        assert list(by_id.index) == names
        assert list(by_id["=r"]) == list(table["=r"])


class TestArchives:
    def test_only_what_is_both_large_and_packed_too_well_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archive, "SMALL_BYTES", 10_000)
        (tmp_path / "zeros.gz").write_bytes(gzip.compress(bytes(10_000_000)))
        (tmp_path / "noise.gz").write_bytes(gzip.compress(np.random.default_rng(0).bytes(100_000)))
        for name, is_bomb in (("zeros.gz", True), ("noise.gz", False)):
            most = archive.most_unpacked((tmp_path / name).stat().st_size)
            assert (archive.gzip_size(tmp_path / name, most) > most) == is_bomb

    def test_arrays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        np.save(tmp_path / "a.npy", np.arange(5))
        assert read_npy(tmp_path / "a.npy").tolist() == [0, 1, 2, 3, 4]
        np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
        with pytest.raises(ValueError, match="Array can't be memory-mapped"):
            read_npy(tmp_path / "b.npy")
        np.savez_compressed(tmp_path / "c.npz", x=np.zeros(10_000))
        assert read_npz(tmp_path / "c.npz")["x"].shape == (10_000,)
        monkeypatch.setattr(archive, "SMALL_BYTES", 10_000)
        with pytest.raises(InputError, match=r"c\.npz: .*unpacks to"):
            read_npz(tmp_path / "c.npz")
        with pytest.raises(zipfile.BadZipFile):
            read_npz(tmp_path / "a.npy")


def test_pictures_are_bounded(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    with open_picture(tmp_path / "a.png") as picture:
        assert picture.size == (20, 10)
    Image.new("1", (20_000, 6_000)).save(tmp_path / "b.png")
    with (
        pytest.raises(InputError, match=r"b\.png: has 20000 x 6000 pixels"),
        open_picture(tmp_path / "b.png"),
    ):
        pass


class TestMatrixMarket:
    @pytest.mark.parametrize("number", [np.int64, np.float64])
    def test_as_scipy_wrote_it(self, tmp_path: Path, number: type) -> None:
        matrix = sparse.random(7, 5, 0.4, random_state=0) * 9
        matrix.data = np.ceil(matrix.data).astype(number)
        mmwrite(tmp_path / "m.mtx", matrix.astype(number))
        read = read_matrix_market(tmp_path / "m.mtx")
        assert read.dtype == number
        assert (read != matrix.tocsr()).nnz == 0

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("1 5 1: x", "cannot be read"),  # a segmentation fault of scipy.io.mmread
            ("1 5 1: 0x10", "cannot be read"),
            ("0 1 1", "lies outside"),
            ("1 9 1", "lies outside"),
            ("1 1 1\n1 2 1", "2 entries, not 1"),
        ],
    )
    def test_damaged_entries(self, tmp_path: Path, body: str, said: str) -> None:
        head = "%%MatrixMarket matrix coordinate integer general\n%\n3 6 1\n"
        (tmp_path / "m.mtx").write_text(f"{head}{body}\n")
        with (
            pytest.raises(InputError, match=said),
            describe_damage(tmp_path / "m.mtx", what="a matrix", fix="copy"),
        ):
            read_matrix_market(tmp_path / "m.mtx")


def test_indices_outside_of_a_sparse_matrix_are_refused(tmp_path: Path) -> None:
    import anndata
    import h5py

    path = tmp_path / "a.h5ad"
    anndata.AnnData(sparse.eye(4, format="csr", dtype=np.float32)).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file["X/indices"][2] = 10**6
    with pytest.raises(InputError, match=r"a\.h5ad: cannot be read as AnnData"):
        open_anndata(path, what="cohort", missing_fix="", broken_fix="")
