"""Collect the images to explain: spots, the centre of an image file, or tiles of slides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.resume import check_features_of
from tcgn_mil.experiments.explain.gene_models import (
    GeneModel,
    find_genes,
    genes_or_markers,
    tile_model,
)
from tcgn_mil.experiments.predict.model import find_slide_model, open_for_features
from tcgn_mil.experiments.runs.predictability import gene_predictability
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.inference.fold_models import (
    load_fold_models,
    models_for_patient,
    union_panel,
)
from tcgn_mil.inference.patients import predict_patient
from tcgn_mil.inference.spots import predict_spots
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.feature_files import find_features, read_feature_info
from tcgn_mil.io.gene_list import read_model_genes
from tcgn_mil.io.spot_files import find_sections, read_patches, read_spots
from tcgn_mil.models.component_regression import ComponentRegression
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.settings.encoder import EncoderOptions
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
        Name that is unique in a run; it names the files of the image.
    where
        Place of the image in words, for the title of its figure.
    pixels
        (P, P, 3) uint8.
    measured
        Measured values by gene in the model's unit, where there are any.
    relation
        Part that the spot's section played in training: ``test``, ``validation`` or ``trained on``;
        empty where this is not known.
    """

    name: str
    where: str
    pixels: NDArray[np.uint8]
    measured: Mapping[str, float] = field(default_factory=dict)
    relation: str = ""


class ImagesOfSource(NamedTuple):
    """Images of one section, slide or image file, and the model that is explained on them.

    Attributes
    ----------
    model
        The model.
    pictures
        The images.
    """

    model: GeneModel
    pictures: list[ExplainedImage]


def section_paths(source: str | Path, sections: Sequence[str]) -> dict[str, Path]:
    """Return the ``.h5ad`` file of each section to explain.

    Parameters
    ----------
    source
        Folder that ``tcgn-mil spots`` wrote, or one of its files.
    sections
        Sections to explain; if none is named, all sections of the folder.
    """
    source = Path(source)
    paths = {source.stem: source} if source.suffix == ".h5ad" else find_sections(source)
    unknown = [name for name in sections if name not in paths]
    if unknown:
        raise InputError(
            f"has no section {preview(unknown)}",
            path=source,
            fix=f"give --section with a name among {preview(list(paths), most=20)}",
        )
    return {name: paths[name] for name in sections or paths}


def section_relations(encoder: str | Path) -> dict[str, str]:
    """Return the part that each section played in training: test, validation or trained on.

    It is read from ``folds.csv``, which ``pretrain`` writes beside the encoder. Without that file
    nothing is known, and the result is empty.
    """
    path = Path(encoder).parent / "folds.csv"
    if not path.is_file():
        return {}
    parts = read_own_csv(
        path, what="the folds of a run", fix="copy the folder of the encoder again", dtype=str
    )
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
    """Collect spots of a section.

    Parameters
    ----------
    path
        File of the section.
    model
        Model whose genes are explained.
    barcodes
        Spots to explain. If none is named, the `top` spots with the highest prediction of each
        gene.
    top
        Number of spots for each gene.
    relation
        Part that the section played in training.
    """
    spots = read_spots(path)
    check_patch(model.patch, spots.patch)
    names = list(spots.adata.obs_names)
    missing = [name for name in barcodes if name not in names]
    if missing:
        raise InputError(
            f"has no spot {preview(missing)}",
            path=path,
            fix=f"give --spot with a name such as {preview(names)}",
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
        # A spot that is among the best of several genes is explained once. The stable order makes
        # the choice among equal predictions the same in every run.
        best = np.argsort(-predicted, axis=0, kind="stable")[:top]
        rows = list(dict.fromkeys(best.T.ravel().tolist()))
    # HDF5 reads rows in ascending order only; `back` restores the order asked for.
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
    """Return measured values of the model's genes at some spots; unknown ones are left out."""
    genes = [gene for gene in model.genes if gene in adata.var_names]
    # The published normalisation divides by the total over the panel, of which only the explained
    # genes are known here. Slide models have no normalisation and no measured value of a tile.
    if not genes or model.normalisation != "library":
        return [{} for _ in rows]
    columns = np.array([adata.var_names.get_loc(gene) for gene in genes], dtype=np.int64)
    values = spot_expression(adata.X[list(rows)], columns)
    return [
        {gene: float(v) for gene, v in zip(genes, row, strict=True) if np.isfinite(v)}
        for row in values
    ]


class ExplainedSlides:
    """Slides whose tiles with the highest attention are explained by the models of ``finetune``.

    Parameters
    ----------
    folder
        Folder that ``tcgn-mil finetune`` wrote.
    encoder
        Encoder that made the features.
    features
        Folder that ``tcgn-mil encode`` wrote.
    genes
        Genes to explain; if none is named, markers of tissue and immunity.
    options
        How the encoder is built, pooled, and given its weights.

    Raises
    ------
    InputError
        If the folder holds no finished run, a gene is unknown, or the encoder is another than that
        of the features.
    """

    def __init__(
        self,
        folder: str,
        encoder: str,
        features: str,
        genes: Sequence[str],
        *,
        options: EncoderOptions,
    ) -> None:
        model_folder = find_slide_model(folder)
        self.encoder = open_encoder(encoder, **options.as_arguments())
        self.features = find_features(features)
        self.folds = open_for_features(
            model_folder,
            load_fold_models(model_folder.path),
            self.features,
            encoder=self.encoder.identity,
        ).models
        if any(isinstance(fold.model, ComponentRegression) for fold in self.folds):
            raise InputError(
                "the model is a regression on mean features and has no tiles to explain",
                path=folder,
                fix="give a run of tcgn-mil finetune or slide-cv with --kind attention",
            )
        self.panel = union_panel(self.folds)
        self.genes = genes_or_markers(genes, self.panel, path=folder)
        find_genes(self.genes, self.panel, path=folder)
        table = read_model_genes(model_folder.path)
        self.predictability = {gene: gene_predictability(table, gene) for gene in self.genes}
        expected = self.folds[0].info.encoder
        if self.encoder.identity != expected:
            raise InputError(
                f"is {self.encoder.identity}, but the slide model reads features of {expected}",
                path=encoder,
                fix="give the encoder that the features were made with",
            )

    def images_of(self, slide: str, source: TileSource, top: int) -> ImagesOfSource:
        """Collect the `top` tiles of highest attention of a slide, and the model scoring them."""
        if slide not in self.features:
            encoded = preview(list(self.features))
            raise InputError(
                f"slide {slide} has no features; those of {encoded} are there",
                fix="run tcgn-mil encode on this slide",
            )
        # The patient's other slides are found through the patient that each feature file names.
        infos = {name: read_feature_info(path) for name, path in self.features.items()}
        patient = infos[slide].patient_id
        names = [name for name, info in infos.items() if info.patient_id == patient]
        # For a patient of the training cohort, only the model that tested on the patient is used.
        usable = models_for_patient(patient, self.folds)
        find_genes(self.genes, union_panel(usable), path=f"the model for patient {patient}")
        # The whole patient is predicted, since attention is shared among the tiles of all slides.
        prediction = predict_patient(
            patient, [self.features[name] for name in names], self.folds, self.panel, ()
        )
        own = np.flatnonzero(prediction.slide_index == names.index(slide))
        best = own[np.argsort(-prediction.attention[own], kind="stable")[:top]]
        tiles = source.find(slide)
        # Other stain normalisation would give the network other pixels than the features came from.
        if tiles.stain != infos[slide].stain:
            raise InputError(
                f"slide {slide}: stain was normalised by {stain_identity(tiles.stain)} for the"
                f" tiles, but by {stain_identity(infos[slide].stain)} for the features",
                path=source.tiles,
                fix="give the tiles that the slide was encoded from",
            )
        check_features_of(self.features[slide], tiles, source)
        chosen = dataclasses.replace(
            tiles, coords=prediction.coords[best], tissue_fraction=np.ones(len(best), np.float32)
        )
        with source.open(chosen, len(best)) as batches:
            pixels = np.concatenate([batch for batch, _ in batches])
        # Attention of 1 / N on each of N tiles is even; the title states multiples of that.
        even = prediction.attention * len(prediction.attention)
        return ImagesOfSource(
            tile_model(self.encoder, usable, self.genes, self.predictability),
            [
                ExplainedImage(
                    f"{slide}_x{x}_y{y}",
                    f"tile at {x}, {y} of {slide}, attention {even[row]:.1f} x even",
                    image,
                )
                for row, (x, y), image in zip(
                    best, prediction.coords[best].tolist(), pixels, strict=True
                )
            ],
        )
