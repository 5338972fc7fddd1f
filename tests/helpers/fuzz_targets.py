"""List the files that the package reads: how each is made, damaged and read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import h5py
import numpy as np
import openpyxl
import pandas as pd
import tifffile
import torch
from mutations import (
    Mutation,
    of_bytes,
    of_cells,
    of_hdf5,
    of_json,
    of_lines,
    of_safetensors,
)
from PIL import Image
from scipy.io import mmwrite
from scipy.sparse import csr_matrix
from tenx_outputs import write_matrix

from tcgn_mil.checkpoints import (
    EncoderInfo,
    SlideModelInfo,
    load_encoder,
    load_slide_model,
    save_encoder,
    save_slide_model,
)
from tcgn_mil.checkpoints.published import DIGESTS, check_published
from tcgn_mil.config import resolve_config, write_config
from tcgn_mil.experiments.associate.cell_types import read_cell_types
from tcgn_mil.experiments.runs.run_folder import finished_summary, read_run
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.spot_level.inputs.folds import read_spot_folds
from tcgn_mil.inference.fold_models import patients_of_training_slides
from tcgn_mil.inference.out_of_distribution import fit_reference
from tcgn_mil.inference.reference_file import read_reference
from tcgn_mil.inference.training_names import read_training_names
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.io.cohort_file import read_cohort
from tcgn_mil.io.expression_file import read_expression
from tcgn_mil.io.failures import Failure, read_failures, write_failures
from tcgn_mil.io.feature_files import read_feature_names, read_features, write_features
from tcgn_mil.io.fold_lists import read_fold_lists
from tcgn_mil.io.gene_list import read_gene_list, read_gene_table, read_model_genes
from tcgn_mil.io.geojson import read_record, write_geojson
from tcgn_mil.io.spot_files import read_patches, read_spots
from tcgn_mil.io.tables.covariate_table import read_covariates
from tcgn_mil.io.tables.patient_table import read_patient_table
from tcgn_mil.io.tile_files import read_tile_settings, read_tiles, write_tiles
from tcgn_mil.models import create_model
from tcgn_mil.models.encoders.sources import read_config
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.pathology import read_encoder_entries
from tcgn_mil.preprocessing.bulk.readers import read_expression_table
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import read_clinical
from tcgn_mil.preprocessing.features.readers import open_foreign
from tcgn_mil.preprocessing.interop.tile_readers import read_any_tiles, read_layout
from tcgn_mil.preprocessing.sections.anndata_counts import open_table
from tcgn_mil.preprocessing.sections.readers.spot_positions import read_positions
from tcgn_mil.preprocessing.sections.readers.tenx.tenx_matrix import read_matrix
from tcgn_mil.preprocessing.sections.sources import find_section_sources
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.provenance import provenance
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.signatures.gene_sets import read_gene_sets
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet

GENES = ("ERBB2", "CD74", "GAPDH")
PATIENTS = [f"P{number}" for number in range(6)]
SCALER = TargetScaler("log1p", np.zeros(3, np.float32), np.ones(3, np.float32))
SPEC = TileSpec.for_slide(PatchSize(112, 0.5), slide_mpp=0.5, level_downsamples=[1.0])
COORDS = np.stack([np.arange(6) * 112, np.zeros(6, int)], axis=1).astype(np.int64)
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes
    ----------
    name
        Name of the kind.
    make
        Writes a correct file into a folder, and returns it.
    read
        Reads the file.
    mutations
        Ways to damage it.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    mutations: tuple[Mutation, ...]


def _tiles(folder: Path) -> Path:
    tiles = TileSet(
        "S1", COORDS, np.ones(6, np.float32), SPEC, (2000, 1000), "P1", settings={"a": 1}
    )
    write_tiles(folder / "S1.h5", tiles, slide_file="S1.svs")
    return folder / "S1.h5"


def _features(folder: Path) -> Path:
    tiles = TileSet("S1", COORDS, np.ones(6, np.float32), SPEC, (2000, 1000), "P1")
    write_features(folder / "S1.h5", RNG.standard_normal((6, 4)).astype("f4"), tiles, encoder="toy")
    return folder / "S1.h5"


def _clam(folder: Path) -> Path:
    with h5py.File(folder / "S1.h5", "w") as file:
        coords = file.create_dataset("coords", data=COORDS)
        coords.attrs.update(patch_size=224, patch_level=0, downsample=(1.0, 1.0), name="S1")
        coords.attrs["level_dim"] = (2000, 1000)
        file["features"] = RNG.standard_normal((6, 4)).astype("f4")
    return folder / "S1.h5"


def _trident(folder: Path) -> Path:
    with h5py.File(folder / "S1.h5", "w") as file:
        coords = file.create_dataset("coords", data=COORDS)
        coords.attrs.update(
            patch_size=224, patch_size_level0=448, level0_magnification=40,
            target_magnification=20, overlap=0, level0_width=4000, level0_height=1000, name="S1",
        )  # fmt: skip
        file["features"] = RNG.standard_normal((6, 4)).astype("f4")
    return folder / "S1.h5"


def _hest(folder: Path) -> Path:
    with h5py.File(folder / "S1.h5", "w") as file:
        image = file.create_dataset("img", data=np.zeros((6, 224, 224, 3), np.uint8))
        image.attrs.update(patch_size_src=448, patch_size_target=224, downsample=2.0)
        file["coords"] = COORDS
        file["barcode"] = np.array([[f"b{i}".encode()] for i in range(6)])
    return folder / "S1.h5"


def _spots(folder: Path) -> Path:
    from spot_sections import write_sections

    return write_sections(folder, {"A1": "P1"}, side=3) / "A1.h5ad"


def _cohort(folder: Path) -> Path:
    cohort = anndata.AnnData(
        RNG.standard_normal((6, 3)).astype("f4"),
        obs=pd.DataFrame({"sample_type": "tumour"}, index=PATIENTS),
        var=pd.DataFrame(index=list(GENES)),
    )
    cohort.uns["slides"] = pd.DataFrame({"slide_id": PATIENTS, "patient_id": PATIENTS})
    meta = provenance(kind="cohort", unit="log2(TPM + 1)")
    cohort.uns["tcgn_mil"] = json.dumps(meta, default=str)
    cohort.write_h5ad(folder / "cohort.h5ad")
    return folder / "cohort.h5ad"


def _expression(folder: Path) -> Path:
    data = anndata.AnnData(
        csr_matrix(RNG.poisson(3, (6, 3)).astype("f4")),
        obs=pd.DataFrame({"fold": list("001122"), "relation": "new"}, index=PATIENTS),
        var=pd.DataFrame({"predictable": True, "r_model": 0.5}, index=list(GENES)),
    )
    data.write_h5ad(folder / "predicted.h5ad")
    return folder / "predicted.h5ad"


def _text(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return make


def _json(name: str, value: Any) -> Callable[[Path], Path]:
    return _text(name, json.dumps(value))


def _run(folder: Path) -> Path:
    _json("summary.json", {"genes": 3, "r": {"median": 0.5}})(folder)
    return _json("run.json", {"kind": "predict", "config": {"a": {"b": 1}}, "versions": {}})(folder)


def _encode_config(folder: Path) -> Path:
    write_config(folder / "finetune.yaml", FinetuneConfig())
    return folder / "finetune.yaml"


def _encoders(folder: Path) -> Path:
    import tcgn_mil.pathology as pathology

    text = Path(pathology.__file__).with_name("pathology_encoders.yaml").read_text()
    blocks = text.split("\n\n")
    (folder / "ours.yaml").write_text("\n\n".join(blocks[:4]))
    return folder / "ours.yaml"


def _geojson(folder: Path) -> Path:
    tiles = TileSet("S1", COORDS, np.ones(6, np.float32), SPEC, (2000, 1000))
    write_geojson(folder / "S1.geojson", tiles)
    return folder / "S1.geojson"


def _encoder(folder: Path) -> Path:
    info = EncoderInfo("tcgn_tiny", GenePanel(GENES), SCALER, PatchSize(112, 0.69))
    save_encoder(folder / "encoder.safetensors", create_model("tcgn_tiny", 3), info)
    return folder / "encoder.safetensors"


def _slide_model(folder: Path) -> Path:
    config = MilConfig(embedding=8, heads=2)
    info = SlideModelInfo(
        config=config, in_features=12, panel=GenePanel(GENES), scaler=SCALER, unit="log2(TPM + 1)",
        encoder="toy", patch=PatchSize(224, 0.5), fold=Fold(2, ("a", "b"), ("c",), ("d",)),
    )  # fmt: skip
    save_slide_model(folder / "fold0.safetensors", SlideRegressor(12, 3, config), info)
    return folder / "fold0.safetensors"


def _reference(folder: Path) -> Path:
    from tcgn_mil.inference import reference_file

    rng = np.random.default_rng(0)
    samples = [rng.standard_normal((8, 4)) for _ in range(30)]
    fit_reference([f"P{i}" for i in range(30)], samples)
    taken = [
        reference_file.TileSample(f"P{i}", sample.astype("f4")) for i, sample in enumerate(samples)
    ]
    reference_file.write_reference(folder, taken)
    return folder / reference_file.FILE


def _ome(folder: Path) -> Path:
    pixels = np.full((96, 128, 3), 200, np.uint8)
    tifffile.imwrite(
        folder / "S1.ome.tif", pixels, ome=True, photometric="rgb", tile=(64, 64),
        compression="adobe_deflate",
        metadata={"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )  # fmt: skip
    return folder / "S1.ome.tif"


def _tiff(folder: Path) -> Path:
    pixels = np.full((96, 128, 3), 200, np.uint8)
    options: dict[str, Any] = {"photometric": "rgb", "resolution": (20_000, 20_000)}
    tifffile.imwrite(folder / "S1.tif", pixels, tile=(64, 64), resolutionunit=3, **options)
    return folder / "S1.tif"


def _picture(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(folder / name)
        return folder / name

    return make


def _read_slide(path: Path) -> Any:
    with open_slide(path, fallback_mpp=0.5) as slide:
        slide.read(0, 0, 0, 32, 32)
        return slide.size


def _read_bulk(path: Path) -> Any:
    return read_expression_table(path, patients=PATIENTS)


def _read_foreign(path: Path) -> Any:
    with open_foreign(path) as features:
        return features.features[0:2]


def _read_laid(path: Path) -> Any:
    slide = SimpleNamespace(mpp=0.25, level_downsamples=(1.0,))
    slide.size = (2000, 1000) if read_layout(path).layout == "clam" else (4000, 1000)
    return read_layout(path), read_any_tiles(path, slide)


def _workbook(folder: Path) -> Path:
    book = openpyxl.Workbook()
    book.active.title = "TCGA-CDR"
    for row in (["bcr_patient_barcode", "OS", "OS.time"], ["TCGA-A1-A0SB", 1, 20], ["P2", 0, 30]):
        book.active.append(row)
    book.save(folder / "cdr.xlsx")
    return folder / "cdr.xlsx"


def _parquet(folder: Path) -> Path:
    table = pd.DataFrame(RNG.random((6, 3)), columns=list(GENES), index=pd.Index(PATIENTS))
    table.to_parquet(folder / "bulk.parquet")
    return folder / "bulk.parquet"


def _array(folder: Path) -> Path:
    np.save(folder / "S1.npy", RNG.standard_normal((6, 4)).astype("f4"))
    return folder / "S1.npy"


def _arrays(folder: Path) -> Path:
    np.savez(folder / "S1.npz", features=RNG.standard_normal((6, 4)).astype("f4"), coords=COORDS)
    return folder / "S1.npz"


def _tensor(folder: Path) -> Path:
    torch.save(torch.randn(6, 4), folder / "S1.pt")
    return folder / "S1.pt"


def _tenx(folder: Path) -> Path:
    write_matrix(folder / "matrix.h5", RNG.poisson(2, (6, 3)), [f"b{i}-1" for i in range(6)])
    return folder / "matrix.h5"


def _mtx(folder: Path) -> Path:
    mmwrite(folder / "matrix.mtx", csr_matrix(RNG.poisson(2, (3, 6))), field="integer")
    (folder / "features.tsv").write_text(
        "".join(f"ENSG{i}\t{gene}\tGene Expression\n" for i, gene in enumerate(GENES))
    )
    (folder / "barcodes.tsv").write_text("".join(f"b{i}-1\n" for i in range(6)))
    return folder / "matrix.mtx"


def _failures(folder: Path) -> Path:
    write_failures(folder, [Failure("S1", "tile", "is cut off", "copy it"), Failure("S2", "t", "")])
    return folder / "failures.csv"


def _splits(folder: Path) -> Path:
    return _text("splits_0.csv", ",train,val,test\n0,P0,P3,P5\n1,P1,P4,\n2,P2,,\n")(folder)


_H5, _CSV, _JSON = (of_bytes, of_hdf5, of_hdf5), (of_bytes, of_cells, of_cells), (of_bytes, of_json)
_TENSORS = (of_bytes, of_safetensors, of_safetensors)
_POSITIONS = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n" + (
    "".join(f"b{i}-1,{i % 2},{i},{i + 1},{100 * i},{90 * i}\n" for i in range(6))
)
_TABLE = "patient,ERBB2,CD74\n" + "".join(f"P{i},{i}.5,{i * 2}\n" for i in range(6))
_SURVIVAL = "patient_id,OS_time_days,OS_event,age\n" + "".join(
    f"P{i},{100 * i + 5},{i % 2},{50 + i}\n" for i in range(6)
)
_CLINICAL = "case_id,survival_months,censorship,age\n" + "".join(
    f"TCGA-A1-A0S{i},{10 * i + 1},{i % 2},50\n" for i in range(6)
)

TARGETS = (
    Target("tiles", _tiles, lambda p: (read_tiles(p), read_tile_settings(p)), _H5),
    Target("features", _features, lambda p: (read_features(p), read_feature_names(p)), _H5),
    Target("clam tiles", _clam, _read_laid, _H5),
    Target("trident tiles", _trident, _read_laid, _H5),
    Target("hest tiles", _hest, read_layout, _H5),
    Target("foreign features", _trident, _read_foreign, _H5),
    Target("foreign tensors", _tensor, _read_foreign, (of_bytes,)),
    Target("foreign array", _array, _read_foreign, (of_bytes,)),
    Target("foreign arrays", _arrays, _read_foreign, (of_bytes,)),
    Target("spots", _spots, lambda p: read_patches(read_spots(p).patches_path), _H5),
    Target("cohort", _cohort, read_cohort, _H5),
    Target("expression", _expression, read_expression, _H5),
    Target("bulk h5ad", _expression, _read_bulk, _H5),
    Target("bulk table", _text("bulk.csv", _TABLE), _read_bulk, _CSV),
    Target("bulk parquet", _parquet, _read_bulk, (of_bytes,)),
    Target("table of patients", _text("p.csv", _TABLE), read_patient_table, _CSV),
    Target(
        "covariates", _text("c.csv", _TABLE),
        lambda p: read_covariates(p, PATIENTS, ["ERBB2"]), _CSV,
    ),
    Target("survival", _text("clinical.csv", _SURVIVAL), read_survival, _CSV),
    Target(
        "clinical", _text("clinical.csv", _CLINICAL),
        lambda p: read_clinical(p, ClinicalOptions(month_days=30)), _CSV,
    ),
    Target("workbook", _workbook, lambda p: read_clinical(p, ClinicalOptions()), (of_bytes,)),
    Target("run", _run, lambda p: (read_run(p.parent, kinds={"predict"}, verbs="predict"),), _JSON),
    Target("summary", _json("summary.json", {"r": 1}), lambda p: finished_summary(p.parent), _JSON),
    Target(
        "slides of a model", _text("slides.csv", "slide_id,patient_id\nS1,P1\nS2,P2\n"),
        lambda p: patients_of_training_slides(p.parent), _CSV,
    ),
    Target(
        "table of slides", _text("slides.csv", "slide_id,patient_id,path,mpp\nS1,P1,a.png,0.5\n"),
        find_slides, _CSV,
    ),
    Target(
        "folds", _text("folds.csv", "fold,part,id\n0,train,A\n0,train,C\n0,val,B\n0,test,D\n"),
        lambda p: read_spot_folds(p, {name: name for name in "ABCD"}), _CSV,
    ),
    Target("splits", _splits, lambda p: read_fold_lists(p.parent, ids=PATIENTS), _CSV),
    Target(
        "config", _encode_config, lambda p: resolve_config(FinetuneConfig, yaml_path=p),
        (of_bytes, of_lines, of_lines),
    ),
    Target("encoders", _encoders, read_encoder_entries, (of_bytes, of_lines, of_lines)),
    Target("GeoJSON", _geojson, read_record, _JSON),
    Target("positions", _text("positions.csv", _POSITIONS), read_positions, _CSV),
    Target("gene sets", _text("s.gmt", "A\tx\tG1\tG2\nB\tx\tG3\n"), read_gene_sets, _CSV),
    Target("sets table", _text("s.csv", "A,B\nG1,G3\nG2,\n"), read_gene_sets, _CSV),
    Target("gene list", _text("genes.txt", "GZMA\nPRF1\n"), read_gene_list, _CSV),
    Target("genes", _text("genes.csv", "gene,r\nGZMA,0.5\nNA,0.1\n"), read_gene_table, _CSV),
    Target(
        "published genes", _json("genes.json", {"genes": ["A"], "columns": {"r": [0.5]}}),
        lambda p: read_model_genes(p.parent), _JSON,
    ),
    Target(
        "names of patients",
        _json("patients.json", {"names": "hashed", "salt": "00ff", "slides": {"S": "P"}}),
        lambda p: read_training_names(p.parent), _JSON,
    ),
    Target(
        "digests",
        _json(DIGESTS, {"schema_version": 1, "kind": "slide-model", "files": {}}),
        lambda p: check_published(p.parent, kind="slide-model"), _JSON,
    ),
    Target(
        "model folder",
        _json(
            "config.json",
            {"architecture": "vit_tiny_patch16_224", "num_features": 192, "model_args": {}},
        ),
        lambda p: read_config(p.parent), _JSON,
    ),
    Target("encoder", _encoder, load_encoder, _TENSORS),
    Target("slide model", _slide_model, load_slide_model, _TENSORS),
    Target("reference", _reference, lambda p: read_reference(p.parent), _TENSORS),
    Target("OME-TIFF", _ome, _read_slide, (of_bytes,)),
    Target("TIFF", _tiff, _read_slide, (of_bytes,)),
    Target("PNG", _picture("S1.png"), _read_slide, (of_bytes,)),
    Target("JPEG", _picture("S1.jpg"), _read_slide, (of_bytes,)),
    Target("10x matrix", _tenx, read_matrix, _H5),
    Target("mtx matrix", _mtx, lambda p: read_matrix(p.parent), (of_bytes, of_lines)),
    Target("failures", _failures, lambda p: read_failures(p.parent), _CSV),
    Target(
        "cell types", _text("A1-proportion.tsv", "\tT\tB\ns1\t0.5\t0.5\ns2\t0.1\t0.9\n"),
        read_cell_types, _CSV,
    ),
    Target("AnnData on disk", _expression, lambda p: open_table(p).__enter__().file.close(), _H5),
    Target("section", _expression, find_section_sources, _H5),
)  # fmt: skip
