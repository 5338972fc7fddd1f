"""Compute the targets of sections: normalised expression of the panel, depth and detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level.inputs.sections import SpotSection
from tcgn_mil.targets.spots import Normalisation, detection, spot_expression
from tcgn_mil.text import preview
from tcgn_mil.types.genes import GenePanel


@dataclass(frozen=True)
class SpotTargets:
    """Targets of the spots of one or more sections.

    Attributes
    ----------
    expression
        (S, G) float32 normalised expression.
    log_depth
        (S,) log of the total count over all measured genes.
    detection
        (G,) share of spots with a count.
    positions
        (S, 2) centres of one section's spots, for statistics that heed space; None for several sections.
    """

    expression: NDArray[np.float32]
    log_depth: NDArray[np.float64]
    detection: NDArray[np.float64]
    positions: NDArray[np.floating] | None = None


def stack_targets(parts: Sequence[SpotTargets]) -> SpotTargets:
    """Several sections, one below the other; detection over all their spots."""
    spots = [len(part.log_depth) for part in parts]
    return SpotTargets(
        np.concatenate([part.expression for part in parts]),
        np.concatenate([part.log_depth for part in parts]),
        np.average([part.detection for part in parts], axis=0, weights=spots),
    )


def section_targets(
    section: SpotSection,
    panel: GenePanel,
    normalisation: Normalisation,
    *,
    allow_empty: bool = False,
) -> SpotTargets:
    """Normalised expression of the panel, with depth and detection, for the kept spots.

    A panel gene that the section did not measure has no counts: :func:`usable_panel` decides whether that may be.

    Raises
    ------
    InputError
        If no panel gene has a count in the section, or (unless `allow_empty`, where its values are NaN) a spot has no
        value.
    """
    counts, columns = panel_counts(section, panel)
    expression = spot_expression(counts, columns, normalisation=normalisation)
    seen = detection(counts, columns)
    if not seen.any():
        raise InputError(
            f"section {section.spots.section}: none of the {len(panel)} panel genes has a count in its"
            f" {len(section.rows)} spots",
            path=section.path,
            fix="check that panel and section name genes alike, or leave the section out",
        )
    if not allow_empty and not np.isfinite(expression).all():
        empty = int((~np.isfinite(expression).all(axis=1)).sum())
        raise InputError(
            f"section {section.spots.section}: {empty} spots have no finite value (no count of any panel gene, or NaN)",
            path=section.path,
            fix="raise min_umi, use normalisation=library, or mend the counts",
        )
    return SpotTargets(expression, np.log(section.totals), seen, section.spatial())


def without_empty_spots(section: SpotSection, panel: GenePanel) -> SpotSection:
    """The section less the spots without a count of any panel gene, which `published` normalisation cannot scale."""
    counts, columns = panel_counts(section, panel)
    empty = np.asarray(counts[:, columns].sum(axis=1)).ravel() == 0
    return (
        section.without(empty, "no count of any panel gene")
        if empty.any() and not empty.all()
        else section
    )


def panel_counts(section: SpotSection, panel: GenePanel) -> tuple[Any, NDArray[np.int64]]:
    """Counts (S, G_all or G_all + 1), and the panel's columns in them; the last one is that of genes not measured."""
    counts = section.counts()
    position = {gene: index for index, gene in enumerate(section.genes)}
    columns = np.array(
        [position.get(gene, len(section.genes)) for gene in panel.genes], dtype=np.int64
    )
    if (columns < len(section.genes)).all():
        return counts, columns
    empty = np.zeros((counts.shape[0], 1), dtype=counts.dtype)
    if hasattr(counts, "toarray"):
        from scipy import sparse

        return sparse.hstack([counts, sparse.csr_matrix(empty)], format="csr"), columns
    return np.hstack([counts, empty]), columns


class PanelReport(NamedTuple):
    """The panel that is used, and a table (section, gene, done) of its genes that sections did not measure."""

    panel: GenePanel
    missing: pd.DataFrame


def usable_panel(
    panel: GenePanel, sections: Mapping[str, SpotSection], missing: Literal["error", "zero", "drop"]
) -> PanelReport:
    """What is done about panel genes that a section did not measure; see :class:`PanelConfig`.

    Raises
    ------
    InputError
        If a gene is missing and that is an error, or no gene is left.
    """
    lacking = {
        name: sorted(set(panel.genes) - set(section.genes)) for name, section in sections.items()
    }
    rows = [
        (name, gene, "no counts" if missing == "zero" else "dropped")
        for name in lacking
        for gene in lacking[name]
    ]
    table = pd.DataFrame(rows, columns=["section", "gene", "done"])
    if not rows or missing == "zero":
        return PanelReport(panel, table)
    if missing == "error":
        name = max(lacking, key=lambda section: len(lacking[section]))
        raise InputError(
            f"section {name} lacks {len(lacking[name])} of {len(panel)} panel genes: {preview(lacking[name])}",
            path=sections[name].path,
            fix="set panel.missing=drop (leave such genes out), or zero (no counts there)",
        )
    gone = set(table["gene"])
    left = tuple(gene for gene in panel.genes if gene not in gone)
    if not left:
        raise InputError(
            "no panel gene is measured in every section",
            fix="check that panel and sections name genes alike",
        )
    return PanelReport(GenePanel(left), table)
