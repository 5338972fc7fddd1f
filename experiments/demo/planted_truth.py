"""Compare what a demo predicted with the truth that was planted in its synthetic cohort."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tcgn_mil.experiments.demo.synthetic.config import REGIONS
from tcgn_mil.progress import Progress

KINDS = ("colour", "morphology", "null")
NULL, FOLLOWERS = "null", "followers"
# Share of a tile's area from which it counts as tissue of a region.
REGION_SHARE = 0.5


def planted_genes(truth: str | Path) -> pd.DataFrame:
    """Return the table of genes with the columns gene, kind, region and effect.

    Parameters
    ----------
    truth
        Folder ``truth`` of a synthetic cohort.
    """
    # pandas would read the kind "null" as a missing value.
    return pd.read_csv(Path(truth) / "genes.csv", keep_default_na=False)


def with_kind(run: Path, truth: Path) -> pd.DataFrame:
    """Return genes.csv of a run with the column ``kind``, which says what each gene follows."""
    planted = planted_genes(truth)[["gene", "kind"]]
    merged = pd.read_csv(run / "genes.csv").merge(planted, on="gene", validate="one_to_one")
    return merged.assign(kind=pd.Categorical(merged["kind"], KINDS))


def by_kind(run: Path, truth: Path) -> pd.DataFrame:
    """Return number, share predictable and median r of each predictor, one row per kind of gene."""
    return _medians(with_kind(run, truth))


def by_kind_and_followers(run: Path, truth: Path) -> pd.DataFrame:
    """Return the rows of :func:`by_kind`, after one for all genes that follow tissue.

    These followers are the genes that follow a region by colour or by morphology.
    """
    table = with_kind(run, truth)
    followers = table[table["kind"] != NULL].assign(kind=FOLLOWERS)
    return pd.concat([_medians(followers), _medians(table)], ignore_index=True)


def _medians(table: pd.DataFrame) -> pd.DataFrame:
    groups = table.groupby("kind", observed=True)
    medians = groups[r_columns(table)].median()
    medians.insert(0, "predictable", groups["predictable"].mean())
    medians.insert(0, "genes", groups.size())
    medians = medians.reset_index()
    return medians.assign(kind=medians["kind"].astype(str))


def r_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns with the r of each predictor.

    Cohorts whose test folds have fewer than four patients have no r within folds. Of these, the
    pooled r is used.
    """
    names = [str(name) for name in table.columns]
    columns = [name for name in names if name.startswith("r_")]
    if table[columns].notna().to_numpy().any():
        return columns
    return [name for name in names if name.startswith("pooled_r_")] or columns


class MappedTiles(NamedTuple):
    """Tiles of one predicted slide.

    Attributes
    ----------
    map
        The map: tile scores of genes, with attention in ``obs`` and centres in ``obsm["spatial"]``.
    labels, label_mpp
        Region map of the slide, and its pixel size in µm.
    centres_um
        (N, 2) x and y of the centres in µm.
    side_um
        Side of a tile in µm.
    """

    map: anndata.AnnData
    labels: NDArray[np.uint8]
    label_mpp: float
    centres_um: NDArray[np.float64]
    side_um: float

    def share(self, *regions: str) -> NDArray[np.float64]:
        """Return the share (N,) of each tile that the regions fill."""
        return region_share(self.labels, self.label_mpp, self.centres_um, self.side_um, regions)


def mapped_tiles(path: Path, cohort: Path) -> MappedTiles:
    """Read the map of a slide together with the truth about its tiles.

    Parameters
    ----------
    path
        A ``maps/<slide>.h5ad`` of ``tcgn-mil predict``.
    cohort
        Folder of the synthetic cohort.
    """
    adata = anndata.read_h5ad(path)
    slides = pd.read_csv(cohort / "slides.csv").set_index("slide_id")
    mpp = float(slides.loc[path.stem, "mpp"])
    regions_path = cohort / "truth" / "regions" / f"{path.stem}.npz"
    with np.load(regions_path, allow_pickle=False) as regions:
        labels, label_mpp = regions["labels"], float(regions["mpp"])
    side_um = json.loads(adata.uns["tcgn_mil"])["level0_px"] * mpp
    return MappedTiles(adata, labels, label_mpp, np.asarray(adata.obsm["spatial"]) * mpp, side_um)


def region_share(
    labels: NDArray[np.uint8],
    label_mpp: float,
    centres_um: NDArray[np.float64],
    side_um: float,
    regions: tuple[str, ...] = ("immune",),
) -> NDArray[np.float64]:
    """Return the share (N,) of each square tile that regions fill.

    Parameters
    ----------
    labels
        (H, W) regions at `label_mpp` µm per pixel.
    centres_um
        (N, 2) x and y of the centres of the tiles in µm.
    side_um
        Side of a tile in µm.
    regions
        Names among :data:`~tcgn_mil.experiments.demo.synthetic.config.REGIONS`.
    """
    steps = np.arange(round(side_um / label_mpp)) + 0.5
    offsets = steps * label_mpp - len(steps) * label_mpp / 2
    at = ((centres_um[:, :, None] + offsets) / label_mpp).astype(int)
    x, y = (np.clip(at[:, axis], 0, size - 1) for axis, size in enumerate(labels.shape[::-1]))
    wanted = [REGIONS.index(region) + 1 for region in regions]
    inside = np.isin(labels[y[:, :, None], x[:, None, :]], wanted)
    return np.asarray(inside.mean(axis=(1, 2)))


def tile_auc(maps: Path, cohort: Path) -> pd.DataFrame:
    """Return the AUC of attention and of each map for immune tiles, one row per slide.

    Slides on which all tiles are immune, or none, are left out.
    """
    rows = []
    for path in Progress(sorted(maps.glob("*.h5ad")), desc="maps", unit="slide"):
        tiles = mapped_tiles(path, cohort)
        immune = tiles.share("immune") >= REGION_SHARE
        if immune.any() and not immune.all():
            scores = tiles.map.obs.drop(columns="attention_relative").join(tiles.map.to_df())
            auc = {name: roc_auc_score(immune, values) for name, values in scores.items()}
            rows.append(
                {"slide": path.stem, "tiles": len(immune), "immune": int(immune.sum()), **auc}
            )
    return pd.DataFrame(rows)
