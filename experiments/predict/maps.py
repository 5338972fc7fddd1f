"""Maps of one slide's prediction: a picture, GeoJSON for QuPath, and AnnData that squidpy plots.

``squidpy.pl.spatial_scatter(anndata.read_h5ad("maps/<slide>.h5ad"), shape="square", color="attention")`` works as it
is: positions are centres of tiles in level-0 pixels, and ``uns["spatial"]`` has the layout that scanpy gives Visium.

What ``tcgn-mil predict`` draws on its maps: genes and gene sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.runs import figures
from tcgn_mil.inference.fold_models import FoldModel
from tcgn_mil.io.atomic import atomic_path, safe_file_name
from tcgn_mil.io.gene_list import read_gene_table
from tcgn_mil.io.geojson import tile_feature, write_feature_collection
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.provenance import provenance
from tcgn_mil.signatures.gene_sets import read_gene_sets
from tcgn_mil.signatures.set_weights import CoveredSets, covered_sets
from tcgn_mil.types.genes import GenePanel

if TYPE_CHECKING:
    from tcgn_mil.inference.patients import PatientPrediction


KIND = "slide map"
ATTENTION, RELATIVE_ATTENTION = "attention", "attention_relative"
MOST_FEATURES = (
    200_000  # QuPath holds every tile as an object; those of highest attention are written
)
_HIRES_PX = (
    1000  # longest side; half of Space Ranger's hires image, for files of a quarter the size
)
_SCORES = "standardised target space: 0 is the training mean, 1 its standard deviation"


@dataclass(frozen=True, eq=False)
class SlideMap:
    """One slide's share of a patient's prediction.

    Attributes
    ----------
    coords
        (N, 2) top-left x, y of the tiles in level-0 pixels.
    level0_px
        Side of a tile in level-0 pixels.
    slide_size
        Width and height in level-0 pixels; of the tiles' extent where it is not known.
    attention
        (N,), sums to one over all of the patient's tiles.
    patient_tiles
        Tiles of the patient on all slides: attention times this is 1 where it is even.
    scores
        (N, G) standardised tile scores of `genes`; NaN where no model has a gene.
    signature_scores
        (N, S) of `signatures`: means over their genes.
    thumbnail
        (height, width, 3) uint8 of the whole slide, if there is one.
    """

    slide_id: str
    patient_id: str
    coords: NDArray[np.int64]
    level0_px: float
    slide_size: tuple[int, int]
    attention: NDArray[np.float32]
    patient_tiles: int
    genes: tuple[str, ...]
    scores: NDArray[np.float32]
    signatures: tuple[str, ...]
    signature_scores: NDArray[np.float32]
    thumbnail: NDArray[np.uint8] | None = None

    @property
    def relative_attention(self) -> NDArray[np.float32]:
        """(N,) attention, 1 = even over the patient's tiles."""
        return self.attention * self.patient_tiles

    @property
    def named_scores(self) -> dict[str, NDArray[np.float32]]:
        """Scores (N,) by gene, then by signature."""
        values = np.concatenate([self.scores, self.signature_scores], axis=1)
        return dict(zip((*self.genes, *self.signatures), values.T, strict=True))


def check_names(genes: tuple[str, ...], signatures: tuple[str, ...], *, path: str | Path) -> None:
    """Refuse signatures whose names stand for something else on a map, or cannot name an HDF5 data set.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    taken = {*genes, ATTENTION, RELATIVE_ATTENTION, "_index"}
    for name in signatures:
        if name in taken or "/" in name:
            raise InputError(
                f"gene set {name!r} {'holds a /' if '/' in name else 'is named as another value of the maps'}",
                path=path,
                fix="rename the set",
            )


def write_maps(
    prediction: PatientPrediction,
    genes: tuple[str, ...],
    signatures: tuple[str, ...],
    thumbnails: str | None,
    folder: Path,
) -> None:
    """Write the maps of each of a patient's slides; `thumbnails` is a folder of tcgn-mil tile."""
    for index, info in enumerate(prediction.infos):
        tiles = prediction.slide_index == index
        if not tiles.any():
            continue
        coords, side = prediction.coords[tiles], info.spec.level0_px
        right, bottom = (coords.max(axis=0) + side).astype(int).tolist()
        picture, size = (
            (None, (right, bottom))
            if thumbnails is None
            else read_thumbnail(thumbnails, info.slide_id)
        )
        found = SlideMap(
            info.slide_id,
            info.patient_id,
            coords,
            side,
            size,
            attention=prediction.attention[tiles],
            patient_tiles=len(prediction.attention),
            genes=genes,
            scores=prediction.tile_scores[tiles],
            signatures=signatures,
            signature_scores=prediction.signature_scores[tiles],
            thumbnail=picture,
        )
        write_slide_map(found, folder)


def write_slide_map(found: SlideMap, folder: str | Path) -> None:
    """Write ``<slide>.png``, ``<slide>.geojson`` and ``<slide>.h5ad``.

    The GeoJSON has the `MOST_FEATURES` tiles of highest attention, the others all tiles.

    Raises
    ------
    InputError
        If the slide's id cannot be a file name.
    """
    name = safe_file_name(found.slide_id, what="slide id")
    folder = Path(folder)
    _draw(found, folder / f"{name}.png")
    write_feature_collection(folder / f"{name}.geojson", _features(found))
    _write_h5ad(found, folder / f"{name}.h5ad")


def read_thumbnail(
    folder: str | Path, slide: str
) -> tuple[NDArray[np.uint8] | None, tuple[int, int]]:
    """A slide's picture from the folder of tcgn-mil tile, if it has one, and the size of its level 0."""
    size = read_tiles(Path(folder) / f"{slide}.h5").slide_size
    path = Path(folder) / f"{slide}_thumbnail.jpg"
    if not path.is_file():
        return None, size
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")), size


def _draw(found: SlideMap, path: Path) -> None:
    """Attention and scores over the slide; a gene that no model of this patient has gets no panel."""
    values = {"attention (1 = even)": found.relative_attention}
    values |= {
        f"{name}, standardised score": scores
        for name, scores in found.named_scores.items()
        if np.isfinite(scores).any()
    }
    figures.slide_maps(
        found.thumbnail,
        found.coords,
        found.level0_px,
        found.slide_size,
        values,
        path,
        title=f"{found.slide_id} ({found.patient_id}), {len(found.coords)} tiles",
    )


def _features(found: SlideMap) -> Iterator[dict[str, Any]]:
    """Tiles in their order as QuPath objects, with 4 decimals."""
    columns = {"Attention (1 = even)": found.relative_attention, **found.named_scores}
    chosen = np.sort(np.argsort(-found.attention, kind="stable")[:MOST_FEATURES])
    rows = np.round(np.stack([*columns.values()], axis=1)[chosen].astype(np.float64), 4)
    for (x, y), row in zip(found.coords[chosen].tolist(), rows.tolist(), strict=True):
        yield tile_feature(x, y, found.level0_px, dict(zip(columns, row, strict=True)))


def _write_h5ad(found: SlideMap, path: Path) -> None:
    """X (N, G) scores; obs attention and signatures; ``obsm["spatial"]`` (N, 2) centres of tiles."""
    obs = pd.DataFrame(
        {
            ATTENTION: found.attention,
            RELATIVE_ATTENTION: found.relative_attention,
            **dict(zip(found.signatures, found.signature_scores.T, strict=True)),
        },
        index=pd.Index([f"x{x}_y{y}" for x, y in found.coords.tolist()], name="tile"),
    )
    var = pd.DataFrame(index=pd.Index(found.genes, name="gene"))
    adata = anndata.AnnData(X=found.scores.astype(np.float32), obs=obs, var=var)
    adata.obsm["spatial"] = found.coords + found.level0_px / 2
    adata.uns["spatial"] = {found.slide_id: _spatial(found)}
    made = provenance(
        kind=KIND,
        slide_id=found.slide_id,
        patient_id=found.patient_id,
        patient_tiles=found.patient_tiles,
        X=_SCORES,
        signatures=list(found.signatures),
        level0_px=found.level0_px,
        slide_size=found.slide_size,
    )
    adata.uns["tcgn_mil"] = json.dumps(made)
    with atomic_path(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip")


def _spatial(found: SlideMap) -> dict[str, Any]:
    """Image and scale factors, in the layout of Visium; a white image where there is no thumbnail.

    Without an image squidpy refuses to plot, unless it is told so.
    """
    width, height = found.slide_size
    if found.thumbnail is None:
        shrink = _HIRES_PX / max(width, height)
        size = max(round(width * shrink), 1), max(round(height * shrink), 1)
        picture = Image.new("RGB", size, "white")
    else:
        picture = Image.fromarray(found.thumbnail)
        picture.thumbnail((_HIRES_PX, _HIRES_PX), Image.Resampling.BOX)
    return {
        "images": {"hires": np.asarray(picture)},
        "scalefactors": {
            "spot_diameter_fullres": float(found.level0_px),
            "tissue_hires_scalef": picture.width / width,
        },
        "metadata": {"image": "blank" if found.thumbnail is None else "thumbnail"},
    }


_DEFAULT_MAPS = 4


def mapped_genes(config: PredictConfig, panel: GenePanel) -> tuple[str, ...]:
    """Genes to draw: those asked for, else the best of the cross-validation.

    Raises
    ------
    InputError
        If the model lacks a gene asked for.
    """
    if config.thumbnails is not None and not Path(config.thumbnails).is_dir():
        raise InputError(
            "no such folder of thumbnails",
            path=config.thumbnails,
            fix="give the folder of tcgn-mil tile",
        )
    if config.map_genes:
        GenePanel(config.map_genes).index_in(panel.genes, path=config.model)
    if not config.maps or config.map_genes:
        return config.map_genes if config.maps else ()
    table = read_gene_table(Path(config.model) / "genes.csv")
    score = table["r_model"] if table["r_model"].notna().any() else table["pooled_r_model"]
    return tuple(score.sort_values(ascending=False, kind="stable").index[:_DEFAULT_MAPS])


def mapped_signatures(
    config: PredictConfig, mapped: Sequence[str], models: Sequence[FoldModel]
) -> CoveredSets:
    """Gene sets to draw, and those of which a model has less than half.

    Raises
    ------
    InputError
        If the file is no GMT file, or no set can be drawn.
    """
    if config.map_signatures is None or not config.maps:
        return CoveredSets((), {})
    found = covered_sets(
        read_gene_sets(config.map_signatures).values(), [fold.info.panel for fold in models]
    )
    if not found.kept:
        name, reason = next(iter(found.left_out.items()))
        raise InputError(
            f"no gene set can be drawn; of {name}, {reason}",
            path=config.map_signatures,
            fix="give sets of which the models predict at least half the genes, named as in genes.csv",
        )
    check_names(tuple(mapped), tuple(one.name for one in found.kept), path=config.map_signatures)
    return found
