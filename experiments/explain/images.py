"""The pictures that are explained: spots, the centre of an image, the tiles of a slide's top attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.explain.gene_models import GeneModel, find_genes, tile_model
from tcgn_mil.experiments.runs.run_folder import read_run
from tcgn_mil.inference.fold_models import load_fold_models, models_for, models_of, union_panel
from tcgn_mil.inference.patients import predict_patient
from tcgn_mil.inference.spots import predict_spots
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.feature_files import find_features, read_feature_info
from tcgn_mil.io.spot_files import find_sections, read_patches, read_spots
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.targets.spots import spot_expression
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import check_patch
from tcgn_mil.types.tiles import stain_identity

_BATCH = 32


@dataclass(frozen=True)
class ExplainedImage:
    """One image to explain.

    Attributes
    ----------
    name
        Unique in a run; names its files.
    where
        The image in words, for the figure's title.
    pixels
        (P, P, 3) uint8.
    measured
        Gene -> measured value in the model's unit, where there is one.
    relation
        Of a spot's section to the encoder: test, validation or trained on; empty where that is not known.
    """

    name: str
    where: str
    pixels: NDArray[np.uint8]
    measured: Mapping[str, float] = field(default_factory=dict)
    relation: str = ""


class ImagesOfSource(NamedTuple):
    """Pictures, and the model that is explained on them."""

    model: GeneModel
    pictures: list[ExplainedImage]


def section_paths(source: str | Path, sections: Sequence[str]) -> dict[str, Path]:
    """Section -> .h5ad, of a folder of `tcgn-mil spots` or one of its files; all sections where none is named."""
    source = Path(source)
    found = {source.stem: source} if source.suffix == ".h5ad" else find_sections(source)
    unknown = [name for name in sections if name not in found]
    if unknown:
        raise InputError(
            f"has no section {preview(unknown)}",
            path=source,
            fix=f"sections are {preview(list(found), most=20)}",
        )
    return {name: found[name] for name in sections or found}


def section_relations(encoder: str | Path) -> dict[str, str]:
    """Section -> test, validation or trained on, from the folds.csv that pretraining left beside the encoder."""
    path = Path(encoder).parent / "folds.csv"
    if not path.is_file():
        return {}
    parts = pd.read_csv(path, dtype=str)
    if not {"part", "id"} <= set(parts):
        return {}
    names = {"train": "trained on", "val": "validation", "test": "test"}
    return {
        section: names.get(part, "")
        for section, part in zip(parts["id"], parts["part"], strict=True)
    }


def section_images(
    path: Path, model: GeneModel, barcodes: Sequence[str], top: int, *, relation: str = ""
) -> ImagesOfSource:
    """Spots of a section: those named, else for each gene the `top` ones of highest prediction."""
    spots = read_spots(path)
    check_patch(model.patch, spots.patch)
    names = list(spots.adata.obs_names)
    missing = [name for name in barcodes if name not in names]
    if missing:
        raise InputError(
            f"has no spot {preview(missing)}", path=path, fix=f"spots are {preview(names)}"
        )
    if barcodes:
        rows = [names.index(name) for name in barcodes]
    else:
        predicted = predict_spots(
            model.model,
            read_patches(spots.patches_path),
            batch_size=_BATCH,
            input_spec=model.network.input_spec,
        )
        best = np.argsort(-predicted, axis=0, kind="stable")[:top]
        rows = list(dict.fromkeys(best.T.ravel().tolist()))
    in_file_order, back = np.unique(rows, return_inverse=True)
    pixels = read_patches(spots.patches_path, in_file_order)[back]
    measured = _measured(spots.adata, rows, model)
    section = spots.section
    return ImagesOfSource(
        model,
        [
            ExplainedImage(
                f"{section}_{names[row]}",
                f"spot {names[row]} of section {section}",
                image,
                values,
                relation,
            )
            for row, image, values in zip(rows, pixels, measured, strict=True)
        ],
    )


def _measured(adata: Any, rows: Sequence[int], model: GeneModel) -> list[dict[str, float]]:
    """Measured expression of the model's genes at some spots, without those that are not known there."""
    genes = [gene for gene in model.genes if gene in adata.var_names]
    if (
        not genes or model.normalisation != "library"
    ):  # the published one divides by genes that are not asked for
        return [{} for _ in rows]
    columns = np.array([adata.var_names.get_loc(gene) for gene in genes], dtype=np.int64)
    values = spot_expression(adata.X[list(rows)], columns)
    return [
        {gene: float(v) for gene, v in zip(genes, row, strict=True) if np.isfinite(v)}
        for row in values
    ]


class ExplainedSlides:
    """Slides whose tiles of top attention are explained, by the slide models of `tcgn-mil finetune`."""

    def __init__(
        self, folder: str, encoder: str, features: str, genes: Sequence[str], *, pretrained: bool
    ) -> None:
        read_run(folder, kind="finetune")
        self.encoder = open_encoder(encoder, pretrained=pretrained)
        self.genes, self.folds = (
            tuple(genes),
            models_of(self.encoder.identity, load_fold_models(folder)),
        )
        self.panel = union_panel(self.folds)
        find_genes(genes, self.panel, path=folder)
        self.features = find_features(features)
        expected = self.folds[0].info.encoder
        if self.encoder.identity != expected:
            raise InputError(
                f"is {self.encoder.identity}, the slide model reads features of {expected}",
                path=encoder,
                fix="give the encoder that the features were made with",
            )

    def images_of(self, slide: str, source: TileSource, top: int) -> ImagesOfSource:
        """The `top` tiles of highest attention of one slide, and the model of their scores."""
        if slide not in self.features:
            known = preview(list(self.features))
            raise InputError(
                f"slide {slide} has no features", fix=f"encode it; there are those of {known}"
            )
        infos = {name: read_feature_info(path) for name, path in self.features.items()}
        patient = infos[slide].patient_id
        names = [name for name, info in infos.items() if info.patient_id == patient]
        usable = models_for(patient, self.folds)
        find_genes(self.genes, union_panel(usable), path=f"the model for patient {patient}")
        found = predict_patient(
            patient, [self.features[name] for name in names], self.folds, self.panel, ()
        )
        own = np.flatnonzero(found.slide_index == names.index(slide))
        best = own[np.argsort(-found.attention[own], kind="stable")[:top]]
        tiles = source.find(slide)
        if tiles.stain != infos[slide].stain:
            raise InputError(
                f"slide {slide}: its tiles are normalised by {stain_identity(tiles.stain)}, its features by"
                f" {stain_identity(infos[slide].stain)}",
                path=source.tiles,
                fix="give the tiles that the slide was encoded from",
            )
        chosen = dataclasses.replace(
            tiles, coords=found.coords[best], tissue_fraction=np.ones(len(best), np.float32)
        )
        with source.open(chosen, len(best)) as batches:
            pixels = np.concatenate([batch for batch, _ in batches])
        even = found.attention * len(found.attention)
        return ImagesOfSource(
            tile_model(self.encoder, usable, self.genes),
            [
                ExplainedImage(
                    f"{slide}_x{x}_y{y}",
                    f"tile at {x}, {y} of {slide}, attention {even[row]:.1f} x even",
                    image,
                )
                for row, (x, y), image in zip(
                    best, found.coords[best].tolist(), pixels, strict=True
                )
            ],
        )
