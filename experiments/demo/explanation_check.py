"""Measure whether explanations of a synthetic cohort point to the tissue that a gene comes from.

In a synthetic cohort it is known which tissue region a gene follows. The check uses spots of test
sections of which an immune aggregate fills 5 to 50 %. It divides the share of the explanation that
lies inside the aggregate by the share of the patch that the aggregate fills. By chance this ratio
is one. For a gene that follows the immune region it should reach 2. For a null gene, which follows
nothing, it should not, nor for a network that was never trained.

``python -m tcgn_mil.experiments.demo.explanation_check DEMO`` measures it for the folder of a
finished ``tcgn-mil demo``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.checkpoints import EncoderInfo, load_encoder, read_encoder_info
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.demo.synthetic import REGIONS
from tcgn_mil.experiments.explain.attribution_tables import block_sums
from tcgn_mil.interpret import grad_cam, integrated_gradients, white_glass
from tcgn_mil.io.spot_files import SpotSet, read_patches, read_spots
from tcgn_mil.models import create_encoder
from tcgn_mil.models.network_input import to_network_input
from tcgn_mil.progress import Progress
from tcgn_mil.types.genes import GenePanel

REGION = "immune"
# Share of the patch that the region fills. Where it fills more than half, no explanation can hold
# twice its share.
SHARE_RANGE = (0.05, 0.5)
CELLS = (7, 7)  # grid of TCGN's last map; maps of other encoders are resampled to it
_BATCH = 32
Explain = Callable[[nn.Module, Tensor, Sequence[int]], Tensor]


class RegionSpots(NamedTuple):
    """Spots that the region fills in part, from one or more sections.

    Attributes
    ----------
    names
        (S,) names of the spots.
    pixels
        (S, P, P, 3) uint8 patches.
    inside
        (S, 7, 7) share of each cell that the region fills.
    """

    names: NDArray[np.str_]
    pixels: NDArray[np.uint8]
    inside: NDArray[np.float64]

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of each patch that the region fills, (S,)."""
        return self.inside.mean(axis=(1, 2))

    def some(self, count: int) -> RegionSpots:
        """Return at most `count` of the spots, evenly spaced."""
        rows = np.linspace(0, len(self.pixels) - 1, min(count, len(self.pixels))).astype(int)
        return RegionSpots(self.names[rows], self.pixels[rows], self.inside[rows])


def localisation(
    encoder: str | Path,
    spots: str | Path,
    truth: str | Path,
    sections: Sequence[str],
    *,
    ig_spots: int = 12,
    ig_genes: int = 3,
    steps: int = 32,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how much of each explanation lies inside immune aggregates.

    Parameters
    ----------
    encoder
        Checkpoint that was trained on other sections of the cohort.
    spots, truth
        Folder of ``tcgn-mil spots``, and the folder of the cohort's truth.
    sections
        Test sections.
    ig_spots, ig_genes, steps
        Integrated gradients need one pass for each step, so they are measured on some spots, and on
        some genes of each kind.
    seed
        Seed of the untrained network.

    Returns
    -------
    DataFrame
        One row for each network (trained, untrained), method and gene. ``kind`` is immune or null.
        ``area`` is the mean share of the patch that the region fills, ``mass`` the mean share of
        the explanation inside it, and ``ratio`` the mean over spots of mass over area. ``strength``
        is the mean sum of the explanation in standardised expression.
    """
    model, info = load_encoder(encoder)
    torch.manual_seed(seed)
    untrained = create_encoder(
        info.model, num_classes=len(info.head_panel), input_px=info.input_spec.size_px
    ).eval()
    parts = [region_spots(read_spots(Path(spots) / f"{name}.h5ad"), truth) for name in sections]
    chosen = RegionSpots(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    if not len(chosen.pixels):
        raise InputError(
            f"no spot of these sections has {REGION} tissue in part of its patch",
            fix="use a larger preset of the demo, which has more sections",
        )
    trials: list[tuple[str, nn.Module, str, Explain, RegionSpots, int | None]] = [
        ("trained", model, "Grad-CAM", grad_cam, chosen, None),
        ("untrained", untrained, "Grad-CAM", grad_cam, chosen, None),
        (
            "trained",
            model,
            "integrated gradients",
            _positive_relevance(steps, info),
            chosen.some(ig_spots),
            ig_genes,
        ),
    ]
    tables = []
    for network, module, method, explain, measured_on, most in trials:
        for kind, genes in _genes_of(truth, info.head_panel).items():
            asked = genes[:most]
            targets = [info.head_panel.genes.index(gene) for gene in asked]
            rows = _measure(module, info, explain, measured_on, targets, method)
            tables.append(
                pd.DataFrame(
                    {"network": network, "method": method, "kind": kind, "gene": asked, **rows}
                )
            )
    return pd.concat(tables, ignore_index=True)


def _genes_of(truth: str | Path, panel: GenePanel) -> dict[str, list[str]]:
    """Return the genes of the panel that follow the region, and those that follow nothing."""
    # pandas would read the kind "null" as a missing value.
    table = pd.read_csv(Path(truth) / "genes.csv", keep_default_na=False)
    table = table[table["gene"].isin(panel.genes)]
    return {
        REGION: table.loc[table["region"] == REGION, "gene"].tolist(),
        "null": table.loc[table["kind"] == "null", "gene"].tolist(),
    }


def _positive_relevance(steps: int, info: EncoderInfo) -> Explain:
    """Return a function that sums integrated gradients over cells and keeps what is positive."""

    def explain(model: nn.Module, images: Tensor, targets: Sequence[int]) -> Tensor:
        white = white_glass(images, mean=info.input_spec.mean, std=info.input_spec.std)
        relevance = integrated_gradients(
            model, images, targets, baseline=white, steps=steps
        ).relevance
        return torch.from_numpy(block_sums(relevance.numpy(), CELLS)).clamp(min=0)

    return explain


def region_spots(spots: SpotSet, truth: str | Path) -> RegionSpots:
    """Return the spots of a section whose share of the region lies within :data:`SHARE_RANGE`."""
    with np.load(Path(truth) / "regions" / f"{spots.section}.npz") as regions:
        labels, label_mpp = regions["labels"], float(regions["mpp"])
    centres_um = np.asarray(spots.adata.obsm["spatial"]) * float(spots.adata.uns["mpp"])
    offsets_um = (np.arange(spots.patch.px) + 0.5) * spots.patch.mpp - spots.patch.um / 2
    at = ((centres_um[:, :, None] + offsets_um) / label_mpp).astype(int)  # (S, 2, P), x then y
    x, y = (np.clip(at[:, axis], 0, size - 1) for axis, size in enumerate(labels.shape[::-1]))
    mask = labels[y[:, :, None], x[:, None, :]] == REGIONS.index(REGION) + 1
    area = mask.mean(axis=(1, 2))
    rows = np.flatnonzero((area >= SHARE_RANGE[0]) & (area <= SHARE_RANGE[1]))
    cell_px = spots.patch.px**2 / (CELLS[0] * CELLS[1])
    inside = np.asarray(block_sums(mask[rows].astype(float), CELLS) / cell_px, dtype=np.float64)
    names = spots.adata.obs_names.to_numpy().astype(str)
    return RegionSpots(names[rows], read_patches(spots.patches_path, rows), inside)


def _measure(
    model: nn.Module,
    info: EncoderInfo,
    explain: Explain,
    spots: RegionSpots,
    targets: Sequence[int],
    description: str,
) -> dict[str, NDArray[np.float64] | int | float]:
    """Return the columns of :func:`localisation`, with one entry for each target."""
    maps = []
    for start in Progress(
        range(0, len(spots.pixels), _BATCH), desc=description, unit="batch", leave=False
    ):
        pixels = torch.from_numpy(spots.pixels[start : start + _BATCH])
        images = to_network_input(pixels, info.input_spec)
        maps.append(explain(model, images, targets).numpy())
    values = block_sums(
        np.concatenate(maps).astype(np.float64), CELLS
    )  # (S, G, 7, 7), not negative
    total = values.sum(axis=(2, 3))
    with np.errstate(invalid="ignore"):
        mass = (values * spots.inside[:, None]).sum(
            axis=(2, 3)
        ) / total  # NaN where nothing speaks for the gene
    area = spots.share
    return {
        "spots": len(area),
        "area": area.mean(),
        "mass": np.nanmean(mass, axis=0),
        "ratio": np.nanmean(mass / area[:, None], axis=0),
        "strength": total.mean(axis=0),
    }


def localisation_means(table: pd.DataFrame) -> pd.DataFrame:
    """Average over genes for each network, method and kind.

    ``ratio_of_means`` is added: the mean mass over the mean area.
    """
    groups = table.groupby(["network", "method", "kind"])
    means = groups[["spots", "area", "mass", "ratio", "strength"]].mean()
    means.insert(0, "genes", groups.size())
    means["ratio_of_means"] = means["mass"] / means["area"]
    return means.reset_index()


def main(folder: str | Path) -> pd.DataFrame:
    """Print the averages for the encoder and the test sections of a demo."""
    folder = Path(folder)
    encoder = folder / "encoder" / "encoder.safetensors"
    sections = read_encoder_info(encoder).provenance["config"]["test_sections"]
    table = localisation_means(
        localisation(encoder, folder / "spots", folder / "cohort" / "truth", sections)
    )
    print(table.to_string(index=False, float_format=lambda value: f"{value:.2f}"))
    return table


if __name__ == "__main__":
    main(sys.argv[1])
