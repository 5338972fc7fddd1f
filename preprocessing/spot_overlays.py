"""A picture of a section that shows its spots on its tissue, to see at a glance that they belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.artefacts import atomic_path

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from tcgn_mil.preprocessing.resample import resample_to

if TYPE_CHECKING:
    from anndata import AnnData

_SHOWN_PX = 1100


def write_overlay(path: Path, image: NDArray[np.uint8], adata: AnnData, side: int, *, mpp: float) -> None:
    """Draw the image beside itself with every patch outlined, coloured by the log of its total count.

    `side` is the patch's side in pixels of `image` (H, W, 3).
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SHOWN_PX / max(height, width))
    small = resample_to(image, max(1, round(width * scale)), max(1, round(height * scale)))
    figure, axes = plt.subplots(1, 2, figsize=(13, 6 * height / width + 0.6), sharey=True, layout="constrained")
    extent = (0.0, width * mpp / 1000, height * mpp / 1000, 0.0)
    for axis in axes:
        axis.imshow(small, extent=extent)
        axis.set_xlabel("mm")
    axes[0].set_ylabel("mm")
    corners = np.asarray(adata.obsm["spatial"]) - side / 2
    length = side * mpp / 1000
    squares = PatchCollection(
        [Rectangle((x * mpp / 1000, y * mpp / 1000), length, length) for x, y in corners.tolist()],
        facecolor="none",
        linewidth=1.2,
    )
    totals = np.log10(np.maximum(adata.obs["total_counts"].to_numpy(), 1))
    low, high = np.percentile(totals, (2, 98))  # a spot with a single count would take most of the colours
    colours = plt.cm.ScalarMappable(plt.Normalize(low, high), cmap="viridis")
    squares.set_edgecolor(colours.to_rgba(totals).tolist())
    axes[1].add_collection(squares)
    figure.colorbar(colours, ax=axes, label="log10 total count", extend="both", shrink=0.8)
    section, patient = adata.obs["section"].iloc[0], adata.obs["patient"].iloc[0]
    axes[0].set_title(f"section {section}, patient {patient}, {mpp:.3f} µm/px")
    axes[1].set_title(f"{adata.n_obs} spots: the patches that the encoder sees")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=85, metadata={"Software": None})
    plt.close(figure)
