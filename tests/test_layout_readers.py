"""Files are read by one checked reader for each format, which names the file in every error.

A library that reads files directly gives a traceback for a damaged file, and as much memory to a
hostile one as it asks for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Calls that read files, and the modules that may make them.
READERS: dict[str, tuple[str, ...]] = {
    "json.load": (),
    "yaml.load": ("tcgn_mil/file_formats/yaml_text.py",),
    "yaml.safe_load": (),
    "np.load": ("tcgn_mil/file_formats/numpy_file.py",),
    "np.loadtxt": (),
    "np.genfromtxt": (),
    "np.fromfile": (),
    "pd.read_csv": (
        "tcgn_mil/file_formats/csv_table.py",
        "tcgn_mil/file_formats/matrix_market.py",
        "tcgn_mil/io/tables/delimited.py",
        "preprocessing/bulk/readers/text_matrix.py",
        "preprocessing/bulk/readers/gdc.py",
        "preprocessing/sections/readers/tenx/xenium_counts.py",
        "experiments/associate/cell_types.py",
    ),
    "pd.read_table": (),
    "pd.read_parquet": (),
    "pd.read_excel": (),
    "pd.read_pickle": (),
    "pickle.load": (),
    "pickle.loads": (),
    "h5py.File": (
        "tcgn_mil/io/hdf5.py",
        "tcgn_mil/io/anndata_file.py",
    ),
    "anndata.read_h5ad": ("tcgn_mil/io/anndata_file.py",),
    "scanpy.read_h5ad": (),
    "scanpy.read_10x_h5": ("preprocessing/sections/readers/tenx/tenx_matrix.py",),
    "mmread": (),
    "torch.load": (
        "tcgn_mil/models/weights.py",
        "preprocessing/features/readers/clam_tensor.py",
    ),
    "safe_open": ("tcgn_mil/file_formats/safetensors_file.py",),
    "safetensors.torch.load_file": ("tcgn_mil/models/weights.py",),
    "load_file": (),
    "openpyxl.load_workbook": ("tcgn_mil/io/tables/workbook.py",),
    "ParquetFile": ("tcgn_mil/io/tables/parquet.py",),
    "Image.open": (
        "tcgn_mil/file_formats/image_file.py",
        "preprocessing/slides/readers/plain.py",
    ),
    "tifffile.TiffFile": (
        "tcgn_mil/io/pyramid.py",
        "preprocessing/slides/readers/tiff_tags.py",
        "preprocessing/slides/readers/ome_tiff.py",
    ),
    "tifffile.imread": (),
    "zipfile.ZipFile": (
        "tcgn_mil/file_formats/numpy_file.py",
        "tcgn_mil/io/tables/text_file.py",
        "tcgn_mil/io/tables/workbook.py",
        "tcgn_mil/models/weights.py",
        "preprocessing/features/readers/clam_tensor.py",
        "experiments/associate/cell_types.py",
    ),
    "gzip.open": (
        "tcgn_mil/file_formats/archive.py",
        "tcgn_mil/file_formats/json_file.py",
        "tcgn_mil/file_formats/matrix_market.py",
        "tcgn_mil/io/tables/text_file.py",
    ),
    "tarfile.open": (),
    "ElementTree.parse": (),
    "ET.parse": (),
}  # fmt: skip
# These read files that they made themselves just before.
OWN_DATA = ("experiments/benchmarks", "experiments/demo")


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """Yield line, dotted name and node of all calls of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


def sources() -> Iterator[Path]:
    for folder in ("tcgn_mil", "preprocessing", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.relative_to(ROOT).as_posix().startswith(OWN_DATA):
                yield path


def test_no_module_reads_files_past_the_checked_readers() -> None:
    direct = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        for line, called, node in calls(path):
            forbidden = called in READERS and name not in READERS[called]
            of_a_file = called == "json.loads" and "read_text" in ast.unparse(node)
            of_a_file &= name != "tcgn_mil/hgnc/gene_map.py"  # its file comes with the package
            if forbidden or of_a_file:
                direct.append(f"{name}:{line} {called}")
    assert not direct, "use a reader of tcgn_mil/file_formats, tcgn_mil/io or its tables"


def test_the_list_of_exceptions_is_not_longer_than_needed() -> None:
    needed = {
        (called, path.relative_to(ROOT).as_posix())
        for path in sources()
        for _, called, _ in calls(path)
    }
    listed = {(called, name) for called, names in READERS.items() for name in names}
    assert listed <= needed
