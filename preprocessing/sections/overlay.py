"""Draw a section with its spots, to show whether spots and tissue belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from tcgn_mil.plotting import save
from tcgn_mil.preprocessing.sections.alignment import Alignment

if TYPE_CHECKING:
    from anndata import AnnData

SHOWN_PX = 1100
_BAR_COLOURS = {"given": "#2a7f4f", "other": "#b8b8b8", "better": "#c0392b"}
_TITLES = {
    "fits": "the spots lie where the tissue is",
    "undecided": "orientation undecided: others are about as dark",
    "misplaced": "MISPLACED? another orientation fits better",
}


def write_overlay(
    path: Path,
    picture: NDArray[np.uint8],
    adata: AnnData,
    alignment: Alignment,
    *,
    size_um: tuple[float, float],
    field_um: float,
) -> None:
    """Draw the image twice, alone and with an outline for each patch, and the orientations as bars.

    The colour of an outline is the logarithm of the spot's total count.

    Parameters
    ----------
    path
        PNG file to write.
    picture
        (H, W, 3) uint8, the whole image.
    adata
        The spots, with ``obsm["spatial"]`` in pixels of ``uns["mpp"]`` µm.
    alignment
        Comparison of orientations.
    size_um
        Width and height of the image in µm.
    field_um
        Side of a patch in µm.
    """
    width, height = (side / 1000 for side in size_um)
    panel = 6 * min(max(height / width, 0.4), 2.5)
    figure, axes = plt.subplots(
        1, 3, figsize=(17.5, panel + 1.5), layout="compressed", width_ratios=(1, 1, 0.45)
    )
    for axis in axes[:2]:
        axis.imshow(picture, extent=(0.0, width, height, 0.0))
        axis.set(xlabel="mm", xlim=(0, width), ylim=(height, 0))
    axes[0].set_ylabel("mm")
    axes[1].tick_params(labelleft=False)
    colours = _draw_patches(axes[1], adata, field_um / 1000)
    figure.colorbar(colours, ax=axes[:2], label="log10 total count", extend="both", shrink=0.8)
    _draw_orientations(axes[2], alignment)
    axes[0].set_title(
        f"{width:.1f} x {height:.1f} mm, {float(adata.uns['mpp']):.3f} µm/px at full resolution"
    )
    axes[1].set_title(f"{adata.n_obs} spots: the patches that the encoder sees")
    section, patient = adata.obs["section"].iloc[0], adata.obs["patient"].iloc[0]
    who = f"section {section}" if section == patient else f"section {section}, patient {patient}"
    colour, weight = (
        (_BAR_COLOURS["better"], "bold")
        if alignment.verdict == "misplaced"
        else ("black", "normal")
    )
    figure.suptitle(f"{who}\n{_title(alignment)}", color=colour, weight=weight)
    save(figure, path, dpi=85)


def _title(alignment: Alignment) -> str:
    return alignment.alarm() or _TITLES[alignment.verdict]


def _draw_patches(axis: Any, adata: AnnData, side_mm: float) -> Any:
    centres = np.asarray(adata.obsm["spatial"]) * float(adata.uns["mpp"]) / 1000
    squares = PatchCollection(
        [Rectangle((x, y), side_mm, side_mm) for x, y in (centres - side_mm / 2).tolist()],
        facecolor="none",
        linewidth=1.2 if adata.n_obs < 1500 else 0.6,
    )
    totals = np.log10(np.maximum(adata.obs["total_counts"].to_numpy(), 1))
    # Percentiles, because one spot with a single count would take up most of the colour scale.
    low, high = np.percentile(totals, (2, 98))
    colours = plt.cm.ScalarMappable(plt.Normalize(low, high), cmap="viridis")
    squares.set_edgecolor(colours.to_rgba(totals).tolist())
    axis.add_collection(squares)
    return colours


def _draw_orientations(axis: Any, alignment: Alignment) -> None:
    """Draw a bar for the darkness under the spots in each orientation, with its tissue share."""
    shown = alignment.orientations
    misplaced = alignment.verdict == "misplaced"
    colours = [_BAR_COLOURS["other"]] * len(shown)
    colours[0] = _BAR_COLOURS["other"] if misplaced else _BAR_COLOURS["given"]
    if misplaced:
        colours[shown.index(alignment.best_other)] = _BAR_COLOURS["better"]
    rows = np.arange(len(shown))
    darkness = np.array([orientation.darkness for orientation in shown])
    axis.barh(rows, darkness, color=colours, height=0.55)
    for row, orientation in enumerate(shown):
        axis.text(
            0,
            row - 0.33,
            orientation.name,
            va="bottom",
            fontsize=9,
            weight="bold" if row == 0 else None,
        )
        axis.text(
            darkness.max() * 0.02,
            row,
            f"{orientation.tissue:.0%} on tissue, r {orientation.correlation:.2f}",
            va="center",
            fontsize=8,
            color="black" if colours[row] == _BAR_COLOURS["other"] else "white",
        )
    axis.set(
        xlabel="mean optical density under the spots",
        yticks=[],
        ylim=(len(shown) - 0.4, -0.8),
        title="spots laid on the image otherwise\n(r: density with log counts)",
    )
    axis.spines[["top", "right", "left"]].set_visible(False)
