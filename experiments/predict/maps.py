"""Write the maps of a predicted slide: a picture, GeoJSON for QuPath, and AnnData for squidpy.

The AnnData has the layout that scanpy gives Visium data, with the centres of the tiles in level-0
pixels, so that squidpy plots it directly::

    adata = anndata.read_h5ad("maps/<slide>.h5ad")
    squidpy.pl.spatial_scatter(adata, shape="square", color="attention")
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.map_picture import draw_slide_map
from tcgn_mil.experiments.runs.predictability import Predictability
from tcgn_mil.file_formats.image_file import open_picture
from tcgn_mil.interpret.attention_edges import edge_attention
from tcgn_mil.io.anndata_file import write_anndata
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.geojson import BOUNDS, origin_of, tile_feature, write_feature_collection
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.preprocessing.interop.spatial_elements import MAP_KIND
from tcgn_mil.provenance import provenance

if TYPE_CHECKING:
    from tcgn_mil.inference.patients import PatientPrediction


ATTENTION, RELATIVE_ATTENTION = "attention", "attention_relative"
# QuPath holds every tile as an object in memory, so that a large slide keeps only the tiles of
# highest attention in its GeoJSON. The file and a note say how many are left out.
MAX_FEATURES = 200_000
# Longest side of the picture in the AnnData: half of that of Space Ranger's hires image, for a
# quarter of the file size.
_HIRES_PX = 1000
_SCORES = "standardised target space: 0 is the training mean, 1 its standard deviation"


@dataclass(frozen=True, eq=False)
class SlideMap:
    """Attention and scores of the N tiles of one slide.

    Attributes
    ----------
    slide_id, patient_id
        Names of the slide and its patient.
    coords
        (N, 2) x and y of the top-left corner of each tile, in level-0 pixels.
    level0_px
        Side of a tile in level-0 pixels.
    slide_size
        Width and height of level 0; those of the area with tiles if the slide's are not known.
    attention
        (N,) float32; sums to 1 over all tiles of the patient, on all slides.
    patient_tiles
        Number of tiles of the patient on all slides. Attention times this number is 1 for a tile
        that counts as much as the average tile.
    genes
        Names of the G genes.
    scores
        (N, G) float32 standardised tile scores, NaN for a gene that no model has.
    signatures
        Names of the S gene sets.
    signature_scores
        (N, S) float32 means of the scores of their genes.
    thumbnail
        (height, width, 3) uint8 picture of the whole slide, or None.
    origin
        Level-0 position, x and y, of the point that is 0, 0 in the GeoJSON.
    mpp
        Micrometres per level-0 pixel, or None if it is not known.
    predictability
        How well each gene is predicted, for the titles.
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
    origin: tuple[int, int] = (0, 0)
    mpp: float | None = None
    predictability: Mapping[str, Predictability] = field(default_factory=dict)

    @property
    def relative_attention(self) -> NDArray[np.float32]:
        """(N,) attention in multiples of the average over the tiles of the patient."""
        return self.attention * self.patient_tiles

    @property
    def named_scores(self) -> dict[str, NDArray[np.float32]]:
        """Scores (N,) by gene, then by gene set."""
        values = np.concatenate([self.scores, self.signature_scores], axis=1)
        return dict(zip((*self.genes, *self.signatures), values.T, strict=True))


def check_set_names(
    genes: tuple[str, ...], signatures: tuple[str, ...], *, path: str | Path
) -> None:
    """Refuse a gene set whose name a map cannot use.

    Parameters
    ----------
    genes
        Genes on the maps.
    signatures
        Names of the gene sets.
    path
        Their file, for the message.

    Raises
    ------
    InputError
        If a set has the name of a gene or of another value of the maps, or if its name has a slash,
        which cannot be in the name of an HDF5 data set.
    """
    taken = {*genes, ATTENTION, RELATIVE_ATTENTION, "_index"}
    for name in signatures:
        if name in taken or "/" in name:
            reason = "has a / in its name" if "/" in name else "has the name of another map value"
            raise InputError(f"gene set {name!r} {reason}", path=path, fix="rename the set")


def write_maps(
    prediction: PatientPrediction,
    genes: tuple[str, ...],
    signatures: tuple[str, ...],
    thumbnails: str | None,
    folder: Path,
    origin: str = BOUNDS,
    *,
    predictability: Mapping[str, Predictability] | None = None,
) -> list[str]:
    """Write the maps of all slides of a patient.

    Parameters
    ----------
    prediction
        Prediction of the patient.
    genes, signatures
        Names of the genes and gene sets whose tile scores it holds.
    thumbnails
        Folder that ``tcgn-mil tile`` wrote, or None.
    folder
        Folder to write.
    origin
        Point that is 0, 0 in the GeoJSON: a name in :data:`~tcgn_mil.io.geojson.ORIGINS`.
    predictability
        How well each gene is predicted, for the titles of its maps.

    Returns
    -------
    list of str
        Sentences on what a reader of the maps must know, each with the slide's name.
    """
    notes: list[str] = []
    for index, info in enumerate(prediction.infos):
        tiles = prediction.slide_index == index
        if not tiles.any():
            continue
        coords, side = prediction.coords[tiles], info.spec.level0_px
        right, bottom = (coords.max(axis=0) + side).astype(int).tolist()
        # Without thumbnails the size of the slide is not known; the map then ends at the last tile.
        picture, size = (
            (None, (right, bottom))
            if thumbnails is None
            else read_thumbnail(thumbnails, info.slide_id)
        )
        slide_map = SlideMap(
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
            origin=origin_of(info.spec, origin),
            mpp=info.spec.slide_mpp,
            predictability=predictability or {},
        )
        write_slide_map(slide_map, folder)
        notes += map_notes(slide_map)
    return notes


def map_notes(slide_map: SlideMap) -> list[str]:
    """Tell what a reader of the maps of a slide must know.

    Attention that gathers at the edges of the tissue is named, and so is where the GeoJSON differs
    from the other maps.
    """
    notes = []
    edges = edge_attention(slide_map.coords, slide_map.level0_px, slide_map.attention)
    if edges.is_high:
        notes.append(
            f"{slide_map.slide_id}: {edges.attention_share:.0%} of its attention lies on the"
            f" {edges.tile_share:.0%} of its tiles that are at the edge of the tissue; look there"
            " for folds, ink and blur before you trust the prediction"
        )
    if any(slide_map.origin):
        x, y = slide_map.origin
        notes.append(
            f"{slide_map.slide_id}: positions in its GeoJSON are given from {x}, {y}, the corner"
            " of the scanned area, as QuPath shows them (--map-origin slide gives level-0 pixels)"
        )
    if len(slide_map.coords) > MAX_FEATURES:
        notes.append(
            f"{slide_map.slide_id}: its GeoJSON has the {MAX_FEATURES} tiles of highest attention"
            f" of {len(slide_map.coords)}; the .h5ad has all"
        )
    return notes


def write_slide_map(slide_map: SlideMap, folder: str | Path) -> None:
    """Write ``<slide>.png``, ``<slide>.geojson`` and ``<slide>.h5ad``.

    The GeoJSON has at most `MAX_FEATURES` tiles, those of highest attention; the other files have
    all tiles.

    Raises
    ------
    InputError
        If the slide id cannot be a file name.
    """
    name = safe_file_name(slide_map.slide_id, what="slide id")
    folder = Path(folder)
    draw_slide_map(slide_map, folder / f"{name}.png")
    tiles = len(slide_map.coords)
    record = {
        "origin_level0_px": slide_map.origin,
        "tiles": tiles,
        "tiles_left_out": max(0, tiles - MAX_FEATURES),
    }
    write_feature_collection(folder / f"{name}.geojson", _geojson_features(slide_map), record)
    _write_h5ad(slide_map, folder / f"{name}.h5ad")


def read_thumbnail(
    folder: str | Path, slide: str
) -> tuple[NDArray[np.uint8] | None, tuple[int, int]]:
    """Read the picture of a slide that ``tcgn-mil tile`` wrote.

    Returns
    -------
    (height, width, 3) uint8, or None if there is no picture; and width and height of level 0.
    """
    size = read_tiles(Path(folder) / f"{slide}.h5").slide_size
    path = Path(folder) / f"{slide}_thumbnail.jpg"
    if not path.is_file():
        return None, size
    with open_picture(path) as picture:
        return np.asarray(picture.convert("RGB")), size


def _geojson_features(slide_map: SlideMap) -> Iterator[dict[str, Any]]:
    """Give the tiles in their order as QuPath objects, with values to 4 decimals."""
    columns = {"Attention (1 = even)": slide_map.relative_attention, **slide_map.named_scores}
    chosen = np.sort(np.argsort(-slide_map.attention, kind="stable")[:MAX_FEATURES])
    rows = np.round(np.stack([*columns.values()], axis=1)[chosen].astype(np.float64), 4)
    corners = (slide_map.coords[chosen] - slide_map.origin).tolist()
    for (x, y), row in zip(corners, rows.tolist(), strict=True):
        yield tile_feature(x, y, slide_map.level0_px, dict(zip(columns, row, strict=True)))


def _write_h5ad(slide_map: SlideMap, path: Path) -> None:
    """Write scores as X (N, G), attention and set scores in obs, and tile centres in obsm."""
    obs = pd.DataFrame(
        {
            ATTENTION: slide_map.attention,
            RELATIVE_ATTENTION: slide_map.relative_attention,
            **dict(zip(slide_map.signatures, slide_map.signature_scores.T, strict=True)),
        },
        index=pd.Index([f"x{x}_y{y}" for x, y in slide_map.coords.tolist()], name="tile"),
    )
    var = pd.DataFrame(index=pd.Index(slide_map.genes, name="gene"))
    adata = anndata.AnnData(X=slide_map.scores.astype(np.float32), obs=obs, var=var)
    adata.obsm["spatial"] = slide_map.coords + slide_map.level0_px / 2
    adata.uns["spatial"] = {slide_map.slide_id: _spatial(slide_map)}
    made = provenance(
        kind=MAP_KIND,
        slide_id=slide_map.slide_id,
        patient_id=slide_map.patient_id,
        patient_tiles=slide_map.patient_tiles,
        X=_SCORES,
        signatures=list(slide_map.signatures),
        level0_px=slide_map.level0_px,
        slide_size=slide_map.slide_size,
    )
    adata.uns["tcgn_mil"] = json.dumps(made)
    write_anndata(path, adata)


def _spatial(slide_map: SlideMap) -> dict[str, Any]:
    """Return picture and scale factors in the layout of Visium.

    Where there is no thumbnail the picture is white, because squidpy refuses to plot without one
    unless the user asks for it.
    """
    width, height = slide_map.slide_size
    if slide_map.thumbnail is None:
        shrink = _HIRES_PX / max(width, height)
        size = max(round(width * shrink), 1), max(round(height * shrink), 1)
        picture = Image.new("RGB", size, "white")
    else:
        picture = Image.fromarray(slide_map.thumbnail)
        picture.thumbnail((_HIRES_PX, _HIRES_PX), Image.Resampling.BOX)
    return {
        "images": {"hires": np.asarray(picture)},
        "scalefactors": {
            "spot_diameter_fullres": float(slide_map.level0_px),
            "tissue_hires_scalef": picture.width / width,
        },
        "metadata": {"image": "blank" if slide_map.thumbnail is None else "thumbnail"},
    }
