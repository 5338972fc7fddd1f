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
        (S,) logarithm of the total count over all measured genes.
    detection
        (G,) share of spots in which the gene has a count, 0 to 1.
    positions
        (S, 2) spot centres, for statistics that use space; None where several sections are stacked.
    """

    expression: NDArray[np.float32]
    log_depth: NDArray[np.float64]
    detection: NDArray[np.float64]
    positions: NDArray[np.floating] | None = None


def stack_targets(parts: Sequence[SpotTargets]) -> SpotTargets:
    """Stack the targets of several sections; detection is then over the spots of all."""
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
    """Compute the targets of a section.

    A panel gene that the section did not measure has no counts. Whether that is allowed is decided
    before, by :func:`usable_panel`.

    Parameters
    ----------
    section
        The section.
    panel
        Genes to predict.
    normalisation
        ``library`` or ``published`` (docs/protocol.md, section Targets).
    allow_empty
        Accept spots that have no value in this normalisation; their values are NaN.

    Raises
    ------
    InputError
        If no panel gene has a count in the section, or if a spot has no value and `allow_empty` is
        false.
    """
    counts, columns = panel_counts(section, panel)
    expression = spot_expression(counts, columns, normalisation=normalisation)
    seen = detection(counts, columns)
    if not seen.any():
        raise InputError(
            f"section {section.spots.section}: none of the {len(panel)} panel genes has a count in"
            f" its {len(section.rows)} spots",
            path=section.path,
            fix="use the same gene names in panel and section, or remove the section",
        )
    if not allow_empty and not np.isfinite(expression).all():
        empty = int((~np.isfinite(expression).all(axis=1)).sum())
        raise InputError(
            f"section {section.spots.section}: {empty} spots have no finite value, because they"
            " have no count of any panel gene or a count that is NaN",
            path=section.path,
            fix="raise min_umi, or use normalisation=library",
        )
    return SpotTargets(expression, np.log(section.totals), seen, section.spatial())


def without_empty_spots(section: SpotSection, panel: GenePanel) -> SpotSection:
    """Return the section without the spots that have no count of any panel gene.

    The ``published`` normalisation divides by the total over the panel, which is zero there.
    """
    counts, columns = panel_counts(section, panel)
    empty = np.asarray(counts[:, columns].sum(axis=1)).ravel() == 0
    return (
        section.without(empty, "no count of any panel gene")
        if empty.any() and not empty.all()
        else section
    )


def panel_counts(section: SpotSection, panel: GenePanel) -> tuple[Any, NDArray[np.int64]]:
    """Return the counts of a section, and the column of each panel gene in them.

    Returns
    -------
    counts
        (S, number of measured genes), dense or sparse. If a panel gene was not measured, one empty
        column is added at the end.
    columns
        (G,) column of each panel gene; genes that were not measured share the empty column.
    """
    counts = section.counts()
    position = {gene: index for index, gene in enumerate(section.genes)}
    columns = np.array(
        [position.get(gene, len(section.genes)) for gene in panel.genes], dtype=np.int64
    )
    if (columns < len(section.genes)).all():
        return counts, columns
    # One empty column stands for all genes that were not measured. The total over all genes, which
    # is the divisor of the library normalisation, does not change by it.
    empty = np.zeros((counts.shape[0], 1), dtype=counts.dtype)
    if hasattr(counts, "toarray"):
        from scipy import sparse

        return sparse.hstack([counts, sparse.csr_matrix(empty)], format="csr"), columns
    return np.hstack([counts, empty]), columns


class PanelReport(NamedTuple):
    """The panel that a run uses, and the genes that sections did not measure.

    Attributes
    ----------
    panel
        The panel.
    missing
        Table with the columns section, gene and done.
    """

    panel: GenePanel
    missing: pd.DataFrame


def usable_panel(
    panel: GenePanel, sections: Mapping[str, SpotSection], missing: Literal["error", "zero", "drop"]
) -> PanelReport:
    """Decide what is done about panel genes that a section did not measure.

    Parameters
    ----------
    panel
        Genes asked for.
    sections
        Sections of the run.
    missing
        ``error``, ``zero`` or ``drop``; see :class:`PanelConfig`.

    Raises
    ------
    InputError
        If a gene is missing and `missing` is ``error``, or if no gene is left.
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
        # The section that lacks most is the most likely to be wrong, so the error names it.
        name = max(lacking, key=lambda section: len(lacking[section]))
        none = len(lacking[name]) == len(panel)
        raise InputError(
            f"section {name} lacks {len(lacking[name])} of {len(panel)} panel genes:"
            f" {preview(lacking[name])}",
            path=sections[name].path,
            fix="name the genes as the section does, or leave panel.file out to choose its genes"
            if none
            else "set panel.missing=drop to leave such genes out, or zero to count them as unseen",
        )
    gone = set(table["gene"])
    left = tuple(gene for gene in panel.genes if gene not in gone)
    if not left:
        raise InputError(
            "no panel gene is measured in every section",
            fix="use the same gene names in panel and sections",
        )
    return PanelReport(GenePanel(left), table)
