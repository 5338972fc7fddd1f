"""Read sections in .h5ad that a fixture makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np

from tcgn_mil.preprocessing.sections.raw_section import RawSection, ReadSettings, SectionSource
from tcgn_mil.preprocessing.sections.sources import find_section_sources
from tcgn_mil.types.tile_geometry import PatchSize

MakeVisium = Callable[..., Path]
Change = Callable[[anndata.AnnData], None]
PATCH = PatchSize(16, 2.0)  # what the hires picture of the synthetic sections can show


def read(source: SectionSource, **settings: object) -> RawSection:
    return source.read(ReadSettings(PATCH, **settings))  # type: ignore[arg-type]


def only(path: Path, **options: object) -> SectionSource:
    (source,) = find_section_sources(path, **options)  # type: ignore[arg-type]
    return source


def library_of(adata: anndata.AnnData) -> dict:
    return adata.uns["spatial"]["lib_S1"]


def as_cellxgene(adata: anndata.AnnData) -> None:
    """Change a section into the form of CELLxGENE's schema 5.1."""
    adata.uns["spatial"]["is_single"] = np.bool_(True)
    images = library_of(adata)["images"]
    full = np.kron(images["hires"], np.ones((2, 2, 1)))
    images["fullres"] = np.rint(full * 255).astype(np.uint8)
    del images["lowres"], library_of(adata)["scalefactors"]["tissue_lowres_scalef"]
    adata.obs["donor_id"] = "D7"
